"""Owns examples of the component `promote` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl


@dsl.pipeline(name="promote-example")
def measured_and_promoted(model_uri: str, dataset_uri: str, store: str):
    """A Model takes the champion's place if it is better, and if the champion is still the one it was held against.

    Args:
        model_uri: The new Model.
        dataset_uri: The Dataset whose test rows both are scored on.
        store: URI that keeps all that lasts.
    """
    # In the body: at the top of the file the catalog allows the standard library and kfp only.
    from carryover_kfp.components.champion import champion
    from carryover_kfp.components.evaluate import evaluate
    from carryover_kfp.components.promote import promote

    now = champion(name="reviews", store=store).set_caching_options(False)
    scored = evaluate(
        model_uri=model_uri,
        dataset_uri=dataset_uri,
        baseline_uri=now.outputs["model_uri"],
        min_gain="0",
        store=store,
    ).set_caching_options(False)
    promote(
        name="reviews",
        model_uri=model_uri,
        accepted=scored.outputs["accepted"],
        reason=scored.outputs["reason"],
        against=now.outputs["digest"],
        store=store,
        owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    ).set_caching_options(False)
