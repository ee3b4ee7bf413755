"""Owns examples of the component `champion` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl


@dsl.pipeline(name="champion-example")
def todays_rows(dataset_uri: str, store: str):
    """The champion of now, scored on today's rows; without a champion the second step says so and fails.

    Args:
        dataset_uri: The Dataset of today's rows.
        store: URI that keeps all that lasts.
    """
    # In the body: at the top of the file the catalog allows the standard library and kfp only.
    from carryover_kfp.components.champion import champion
    from carryover_kfp.components.evaluate import evaluate

    found = champion(name="reviews", store=store).set_caching_options(False)
    evaluate(model_uri=found.outputs["model_uri"], dataset_uri=dataset_uri, store=store).set_caching_options(False)
