"""How a step's result becomes what KFP can keep: no NaN, no 3.0 for 3, no curve of a million points."""

import json
import math

import pytest
from kfp import dsl

from carryover.ground.errors import Superseded, WrongInput
from carryover.steps import component


def test_metrics_that_are_no_numbers_are_left_out():
    metrics = {"accuracy": 0.5, "count": 3, "roc_auc": float("nan"), "log_loss": math.inf, "mcc": None, "word": "x"}
    assert component.finite_metrics(metrics) == {"accuracy": 0.5, "count": 3.0}


def test_metadata_keeps_integers():
    assert component.metadata({"step_count": 3, "changed": True, "uri": "s3://x", "metrics": {}, "none": None}) == {
        "step_count": "3",
        "changed": "True",
        "uri": "s3://x",
    }


def test_a_curve_is_thinned_and_finite():
    count = 10_001
    fpr = [at / (count - 1) for at in range(count)]
    thresholds: list[float | None] = [math.inf, *[1 - value for value in fpr[1:]]]
    thresholds[-1] = None
    found = component.roc_curve({"roc": {"fpr": fpr, "tpr": fpr, "threshold": thresholds}})
    assert found is not None
    assert len(found[0]) == component.MOST_POINTS
    assert (found[0][0], found[0][-1]) == (0.0, 1.0)
    assert found[0] == sorted(found[0])
    assert all(math.isfinite(value) for value in found[2])
    artifact = dsl.ClassificationMetrics()
    artifact.log_roc_curve(*found)
    json.dumps(artifact.metadata, allow_nan=False)


def test_a_confusion_matrix_is_taken_by_kfp():
    found = component.confusion_matrix({"confusion_matrix": {"labels": [0, 1], "matrix": [[3, 1], [0, 4]]}})
    assert found == (["0", "1"], [[3, 1], [0, 4]])
    assert found is not None
    artifact = dsl.ClassificationMetrics()
    artifact.log_confusion_matrix(found[0], found[1])
    json.dumps(artifact.metadata, allow_nan=False)


def test_pixels_of_many_classes_are_not_drawn():
    many = {"labels": list(range(41)), "matrix": [[10**12] * 41] * 41}
    assert component.confusion_matrix({"problem_type": "semantic_segmentation", "confusion_matrix": many}) is None
    assert component.confusion_matrix({"problem_type": "multiclass", "confusion_matrix": many}) is not None


def test_a_regression_has_neither():
    assert component.confusion_matrix({"confusion_matrix": None}) is None
    assert component.roc_curve({}) is None


def test_exactly_one_of_an_artifact_and_its_twin():
    assert component.one_of("model", "/a", "") == "/a"
    assert component.one_of("model", "", "s3://a") == "s3://a"
    with pytest.raises(WrongInput, match="model and model_uri say the same thing"):
        component.one_of("model", "/a", "s3://a")
    with pytest.raises(WrongInput, match="give the artifact model, or model_uri"):
        component.one_of("model", "", "")


def test_errors_become_exit_codes(capsys):
    with pytest.raises(SystemExit) as caught, component.exit_codes():
        raise Superseded("another attempt owns this run")
    assert caught.value.code == 76
    assert capsys.readouterr().err == "error: another attempt owns this run\nmore: carryover explain superseded\n"


def test_what_may_be_left_out():
    assert component.at_most_one("baseline", "", "") == ""
    assert component.at_most_one("baseline", "", "champion:best") == "champion:best"
    with pytest.raises(WrongInput, match="baseline and baseline_uri say the same thing"):
        component.at_most_one("baseline", "/a", "s3://a")
    assert component.number("min_gain", " ") is None
    assert component.number("min_gain", "0") == 0.0
    assert component.number("max_forgetting", "-1e-3") == -0.001
    with pytest.raises(WrongInput, match="min_gain: 'a bit' is not possible; it must be a number, or empty for none"):
        component.number("min_gain", "a bit")
