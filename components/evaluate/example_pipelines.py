"""Owns examples of the component `evaluate` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl


@dsl.pipeline(name="evaluate-example")
def gate(model_uri: str, dataset_uri: str, store: str) -> bool:
    """A Model held against the champion: it must gain a point of accuracy.

    Args:
        model_uri: The new Model.
        dataset_uri: The Dataset whose test rows both are scored on.
        store: URI that keeps all that lasts.

    Returns:
        Whether it may take the champion's place.
    """
    # In the body: at the top of the file the catalog allows the standard library and kfp only.
    from carryover_kfp.components.evaluate import evaluate

    scored = evaluate(
        model_uri=model_uri,
        dataset_uri=dataset_uri,
        baseline_uri="champion:reviews",
        min_gain="0.01",
        metric=["accuracy", "roc_auc"],
        store=store,
    ).set_caching_options(False)
    return scored.outputs["accepted"]
