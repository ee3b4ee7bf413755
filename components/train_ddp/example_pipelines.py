"""Owns examples of the component `train_ddp` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl


@dsl.pipeline(name="train-ddp-example")
def from_rows(source: list[str], label: str, store: str):
    """A Dataset, and a Model trained on it: the step is tried again for a week, and each try goes on.

    Args:
        source: URIs of the data.
        label: Column that is to be predicted.
        store: URI that keeps all that lasts.
    """
    # In the body: at the top of the file the catalog allows the standard library and kfp only.
    from carryover_kfp.components.prepare_data import prepare_data
    from carryover_kfp.components.train_ddp import train_ddp

    prepared = prepare_data(source=source, label=label, store=store).set_caching_options(False)
    trained = train_ddp(
        dataset=prepared.outputs["dataset"],
        store=store,
        set=["optimization.max_epochs=3"],
        # Alone: KFP replaces a placeholder only where it is the whole value.
        owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    ).set_caching_options(False)
    # Without the last of them KFP stops trying an hour after the first try began.
    trained.set_retry(20, backoff_duration="5s", backoff_max_duration="604800s")


@dsl.pipeline(name="train-ddp-extend-example")
def extended(dataset_uri: str, model_uri: str, store: str):
    """Yesterday's Model goes on with today's Dataset.

    Args:
        dataset_uri: The new Dataset.
        model_uri: The Model to extend: its URI, run:KEY or champion:NAME.
        store: URI that keeps all that lasts.
    """
    from carryover_kfp.components.train_ddp import train_ddp

    train_ddp(
        dataset_uri=dataset_uri,
        init_from_uri=model_uri,
        grow_classes=True,
        extend_set=["data.mode=delta"],
        store=store,
        owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    ).set_caching_options(False)
