"""The component `evaluate` called as a function, on small real data."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false
# The catalog's checks allow the standard library, kfp and pytest at the top: the runtime is where it is installed.

import json
from pathlib import Path

import pytest
from kfp import dsl

from ..component import evaluate

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_scores_curve_and_report(tmp_path):
    """Without a baseline a Model is accepted; all artifacts are filled."""
    made = samples.trained(tmp_path)
    metrics, classification = dsl.Metrics(name="metrics"), dsl.ClassificationMetrics(name="classification")
    report, results = dsl.HTML(uri=str(tmp_path / "report")), dsl.Artifact(uri=str(tmp_path / "results"))
    predictions, accepted, reason = evaluate.python_func(
        metrics=metrics,
        classification=classification,
        report=report,
        results=results,
        store=made.store,
        model_uri=made.model_uri,
        dataset_uri=made.dataset_uri,
        metric=["accuracy"],
    )
    assert accepted
    assert reason
    assert Path(predictions).is_file()
    assert list(metrics.metadata) == ["accuracy"]
    assert set(classification.metadata) == {"confusionMatrix", "confidenceMetrics"}
    assert Path(report.path).read_text().startswith("<!doctype html>")
    assert json.loads(Path(results.path, "result.json").read_text())["metrics"] == metrics.metadata
