"""Owns the component `evaluate`: a model's scores, predictions and a report on any Dataset."""
# kfp reads the annotations of a component as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import compiler, dsl

IMAGE = "carryover:v0.1.0"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    results: dsl.Output[dsl.Artifact],
    store: str,
    model: dsl.Input[dsl.Model] = None,
    model_uri: str = "",
    dataset: dsl.Input[dsl.Dataset] = None,
    dataset_uri: str = "",
    more_datasets: list[str] = [],
    split: str = "test",
    metric: list[str] = [],
) -> NamedTuple("Outputs", [("predictions_uri", str)]):
    """Score a model on the rows of a split it did not train on.

    Args:
        metrics: The scores.
        classification: Confusion matrix and ROC curve; empty for a regression.
        report: One HTML page with all of it.
        results: Folder with metrics.json, predictions.parquet, report.html and result.json.
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover.
        model: The Model to score; or model_uri.
        model_uri: Its canonical URI instead of the artifact.
        dataset: The Dataset to score on; or dataset_uri.
        dataset_uri: Its canonical URI instead of the artifact.
        more_datasets: Canonical URIs of further Datasets, each scored by itself.
        split: Rows to score on: train, validation or test.
        metric: Names of the scores. Empty: those usual for the problem type.

    Returns:
        predictions_uri: The predictions, as Parquet.
    """
    import shutil

    from carryover.steps.component import confusion_matrix, exit_codes, finite_metrics, metadata, one_of, roc_curve
    from carryover.steps.evaluate import evaluate as step

    with exit_codes():
        first = one_of("dataset", dataset.path if dataset else "", dataset_uri)
        result = step(
            model=one_of("model", model.path if model else "", model_uri),
            dataset=[first, *more_datasets],
            store=store,
            output=results.path,
            split=split,
            metric=metric,
        )
        for name, value in finite_metrics(result["metrics"]).items():
            metrics.log_metric(name, value)
        if counts := confusion_matrix(result):
            classification.log_confusion_matrix(*counts)
        if curve := roc_curve(result):
            classification.log_roc_curve(*curve)
        results.metadata.update(metadata(result))
        shutil.copyfile(result["report"], report.path)
        return (result["predictions"],)


if __name__ == "__main__":
    compiler.Compiler().compile(evaluate, package_path=__file__.replace(".py", ".yaml"))
