"""Owns examples of the component `find_model` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl


@dsl.pipeline(name="find-model-example")
def scored_again(run_key: str, store: str):
    """A run's Model, found by the run's key and scored on the Dataset that it was trained on.

    Args:
        run_key: The run, as "run:KEY".
        store: URI that keeps all that lasts.
    """
    # In the body: at the top of the file the catalog allows the standard library and kfp only.
    from carryover_kfp.components.evaluate import evaluate
    from carryover_kfp.components.find_model import find_model

    found = find_model(store=store, model_uri=run_key).set_caching_options(False)
    evaluate(
        model_uri=found.outputs["model_uri"], dataset_uri=found.outputs["dataset_uri"], store=store
    ).set_caching_options(False)
