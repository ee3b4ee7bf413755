"""Owns examples of the component `transfer_train` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl


@dsl.pipeline(name="transfer-train-example")
def next_task(source: list[str], label: str, model_uri: str, store: str):
    """What one task learned starts another: the Model's backbone, and new rows with another label.

    Args:
        source: URIs of the new task's data.
        label: Column that is to be predicted now.
        model_uri: The Model of the old task.
        store: URI that keeps all that lasts.
    """
    # In the body: at the top of the file the catalog allows the standard library and kfp only.
    from carryover_kfp.components.dump_backbone import dump_backbone
    from carryover_kfp.components.prepare_data import prepare_data
    from carryover_kfp.components.transfer_train import transfer_train

    dumped = dump_backbone(model_uri=model_uri, store=store).set_caching_options(False)
    prepared = prepare_data(source=source, label=label, store=store).set_caching_options(False)
    transfer_train(
        backbone=dumped.outputs["backbone"],
        dataset=prepared.outputs["dataset"],
        store=store,
        owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    ).set_caching_options(False)
