"""Owns the component `evaluate`: a model's scores, predictions and a report on any Dataset."""
# kfp reads the annotations of a component as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import compiler, dsl


@dsl.component(base_image="carryover:v0.1.0", install_kfp_package=False)
def evaluate(
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    results: dsl.Output[dsl.Artifact],
    store: str,
    model: dsl.Input[dsl.Model] = None,
    model_uri: str = "",
    zero_shot: str = "",
    class_name: list[str] = [],
    prompt: list[str] = [],
    dataset: dsl.Input[dsl.Dataset] = None,
    dataset_uri: str = "",
    more_dataset_uris: list[str] = [],
    baseline: dsl.Input[dsl.Model] = None,
    baseline_uri: str = "",
    min_gain: str = "",
    max_forgetting: str = "",
    confident: bool = False,
    stage_uris: list[str] = [],
    split: str = "test",
    metric: list[str] = [],
) -> NamedTuple("Outputs", [("predictions_uri", str), ("accepted", bool), ("reason", str)]):
    """Score a model on the rows of a split it did not train on, and hold it against a baseline.

    Args:
        metrics: The scores.
        classification: Confusion matrix (of masks: of pixels) and ROC curve; empty for a regression and for boxes.
        report: One HTML page with all of it.
        results: metrics.json, predictions.parquet (boxes also as COCO), report.html, result.json, stages' matrix.json.
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover.
        model: The Model to score; or model_uri.
        model_uri: Its canonical URI instead of the artifact.
        zero_shot: A CLIP or SigLIP checkpoint instead of a Model: tells classes of images by their names.
        class_name: With zero_shot: what a class is called, each "class=words".
        prompt: With zero_shot: texts about an image, {} for the class.
        dataset: The Dataset to score on; or dataset_uri. For the gate it is the new one.
        dataset_uri: Its canonical URI instead of the artifact.
        more_dataset_uris: Canonical URIs of further Datasets, each scored by itself; old ones for the gate.
        baseline: The Model whose place this one would take; or baseline_uri. Neither: the Model is accepted.
        baseline_uri: Its canonical URI instead of the artifact. Empty: none.
        min_gain: Least gain over the baseline on the first Dataset, in the first metric's units. Empty: not asked.
        max_forgetting: Most loss against the baseline on any other Dataset. Empty: not asked.
        confident: Whether the 95 % interval must hold both too.
        stage_uris: Canonical URIs of earlier Models, the oldest first, for the task matrix.
        split: Rows to score on: train, validation or test.
        metric: Names of the scores, the main one first. Empty: those usual for the problem type.

    Returns:
        predictions_uri: The predictions, as Parquet.
        accepted: Whether the Model may take the baseline's place; true where there is no baseline.
        reason: Why, in words.
    """
    import shutil

    from carryover.steps import component
    from carryover.steps.evaluate import evaluate as step

    with component.exit_codes():
        first = component.one_of("dataset", dataset.path if dataset else "", dataset_uri)
        # A pipeline hands on URIs that may be empty: in its first run there is no old Dataset and no baseline.
        result = step(
            model=component.at_most_one("model", model.path if model else "", model_uri),
            zero_shot=zero_shot,
            class_name=class_name,
            prompt=prompt,
            dataset=[first, *(uri for uri in more_dataset_uris if uri)],
            baseline=component.at_most_one("baseline", baseline.path if baseline else "", baseline_uri),
            min_gain=component.number("min_gain", min_gain),
            max_forgetting=component.number("max_forgetting", max_forgetting),
            confident=confident,
            stage=[uri for uri in stage_uris if uri],
            store=store,
            output=results.path,
            split=split,
            metric=metric,
        )
        for name, value in component.finite_metrics(result["metrics"]).items():
            metrics.log_metric(name, value)
        if counts := component.confusion_matrix(result):
            classification.log_confusion_matrix(*counts)
        if curve := component.roc_curve(result):
            classification.log_roc_curve(*curve)
        results.metadata.update(component.metadata(result))
        shutil.copyfile(result["report"], report.path)
        return (result["predictions"], result["accepted"], result["reason"])


if __name__ == "__main__":
    compiler.Compiler().compile(evaluate, package_path=__file__.replace(".py", ".yaml"))
