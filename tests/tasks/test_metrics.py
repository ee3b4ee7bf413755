"""Metrics: agreement with the libraries on real draws, names, direction, and NaN where there is no value."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy import stats

from carryover.ground.errors import WrongInput
from carryover.tasks.metrics import (
    ALIASES,
    DEFAULTS,
    DETECTION,
    METRICS,
    REPORTED,
    SEGMENTATION,
    find_metric,
    score,
    score_all,
)

RNG = np.random.default_rng(3)
TARGETS = RNG.integers(0, 3, 200)
PROBABILITIES = RNG.dirichlet((1, 1, 1), 200) * 0.6 + np.eye(3)[TARGETS] * 0.4
BINARY = (TARGETS > 0).astype(int)
BINARY_PROBABILITIES = np.stack([PROBABILITIES[:, 0], 1 - PROBABILITIES[:, 0]], axis=1)
NUMBERS = RNG.normal(size=200)
GUESSES = NUMBERS + RNG.normal(size=200)


def value(name: str, problem_type: str, targets, predictions, positive=None) -> float:
    classes = {"binary": (0, 1), "multiclass": (0, 1, 2), "regression": None}[problem_type]
    metric = find_metric(name, problem_type)
    return score(metric, targets=targets, predictions=predictions, classes=classes, positive=positive)


CHOSEN, BINARY_CHOSEN = PROBABILITIES.argmax(1), BINARY_PROBABILITIES.argmax(1)
BINARY_VALUES = {
    "accuracy": sk.accuracy_score(BINARY, BINARY_CHOSEN),
    "balanced_accuracy": sk.balanced_accuracy_score(BINARY, BINARY_CHOSEN),
    "f1": sk.f1_score(BINARY, BINARY_CHOSEN),
    "f1_macro": sk.f1_score(BINARY, BINARY_CHOSEN, average="macro"),
    "roc_auc": sk.roc_auc_score(BINARY, BINARY_PROBABILITIES[:, 1]),
    "average_precision": sk.average_precision_score(BINARY, BINARY_PROBABILITIES[:, 1]),
    "log_loss": sk.log_loss(BINARY, BINARY_PROBABILITIES),
    "mcc": sk.matthews_corrcoef(BINARY, BINARY_CHOSEN),
    "quadratic_kappa": sk.cohen_kappa_score(BINARY, BINARY_CHOSEN, weights="quadratic"),
}
MULTICLASS_VALUES = {
    "acc": sk.accuracy_score(TARGETS, CHOSEN),
    "balanced_accuracy": sk.balanced_accuracy_score(TARGETS, CHOSEN),
    "f1_macro": sk.f1_score(TARGETS, CHOSEN, average="macro"),
    "f1_micro": sk.f1_score(TARGETS, CHOSEN, average="micro"),
    "f1_weighted": sk.f1_score(TARGETS, CHOSEN, average="weighted"),
    "roc_auc": sk.roc_auc_score(TARGETS, PROBABILITIES, multi_class="ovr"),
    "roc_auc_ovo_macro": sk.roc_auc_score(TARGETS, PROBABILITIES, multi_class="ovo"),
    "average_precision": sk.average_precision_score(np.eye(3)[TARGETS], PROBABILITIES),
    "nll": sk.log_loss(TARGETS, PROBABILITIES),
    "mcc": sk.matthews_corrcoef(TARGETS, CHOSEN),
    "quadratic_kappa": sk.cohen_kappa_score(TARGETS, CHOSEN, weights="quadratic"),
}
REGRESSION_VALUES = {
    "root_mean_squared_error": sk.root_mean_squared_error(NUMBERS, GUESSES),
    "mse": sk.mean_squared_error(NUMBERS, GUESSES),
    "mae": sk.mean_absolute_error(NUMBERS, GUESSES),
    "r2": sk.r2_score(NUMBERS, GUESSES),
    "pearsonr": stats.pearsonr(NUMBERS, GUESSES)[0],
    "spearmanr": stats.spearmanr(NUMBERS, GUESSES)[0],
}


@pytest.mark.parametrize(("name", "want"), BINARY_VALUES.items())
def test_binary(name, want):
    assert value(name, "binary", BINARY, BINARY_PROBABILITIES) == pytest.approx(want)


@pytest.mark.parametrize(("name", "want"), MULTICLASS_VALUES.items())
def test_multiclass(name, want):
    assert value(name, "multiclass", TARGETS, PROBABILITIES) == pytest.approx(want)


@pytest.mark.parametrize(("name", "want"), REGRESSION_VALUES.items())
def test_regression(name, want):
    assert value(name, "regression", NUMBERS, GUESSES) == pytest.approx(want)


def test_every_metric_was_compared():
    compared = {ALIASES.get(name, name) for name in (*BINARY_VALUES, *MULTICLASS_VALUES, *REGRESSION_VALUES)}
    # Those of boxes and masks are computed by hand in test_dense.py.
    dense = {*REPORTED[DETECTION], *REPORTED[SEGMENTATION]}
    assert compared | dense == set(METRICS)


@pytest.mark.parametrize("name", ["f1", "roc_auc", "average_precision"])
def test_positive_class_counts(name):
    swapped = value(name, "binary", 1 - BINARY, BINARY_PROBABILITIES[:, ::-1], positive=0)
    assert swapped == value(name, "binary", BINARY, BINARY_PROBABILITIES)
    assert value(name, "binary", BINARY, BINARY_PROBABILITIES, positive=0) != swapped or name == "roc_auc"


NO_VALUE = [
    ("roc_auc", "binary", np.ones(4, int), np.full((4, 2), 0.5)),
    ("average_precision", "binary", np.zeros(4, int), np.full((4, 2), 0.5)),
    ("roc_auc", "multiclass", np.array([0, 1, 1, 0]), np.full((4, 3), 1 / 3)),
    ("average_precision", "multiclass", np.array([0, 1, 1, 0]), np.full((4, 3), 1 / 3)),
    ("quadratic_kappa", "multiclass", np.zeros(4, int), np.eye(3)[[0, 0, 0, 0]]),
    ("pearsonr", "regression", np.arange(4.0), np.ones(4)),
    ("spearmanr", "regression", np.ones(4), np.arange(4.0)),
    ("r2", "regression", np.ones(1), np.ones(1)),
    ("rmse", "regression", np.arange(2.0), np.array([1.0, math.nan])),
]


@pytest.mark.parametrize(("name", "problem_type", "targets", "predictions"), NO_VALUE)
def test_no_value_is_nan(name, problem_type, targets, predictions):
    assert math.isnan(value(name, problem_type, targets, predictions))


@pytest.mark.parametrize("problem_type", DEFAULTS)
def test_no_rows_is_nan_for_all(problem_type):
    classes = {"binary": (0, 1), "multiclass": (0, 1, 2)}.get(problem_type)
    empty = np.empty((0, len(classes))) if classes else np.empty(0)
    found = score_all(
        [find_metric(name, problem_type) for name in REPORTED[problem_type]],
        targets=np.empty(0, np.int64),
        predictions=empty,
        classes=classes,
    )
    assert list(found) == list(REPORTED[problem_type])
    assert all(math.isnan(number) for number in found.values())


def test_names():
    assert find_metric("auto", "binary").name == "roc_auc"
    assert find_metric("", "regression").name == "rmse"
    assert not find_metric("log_loss", "binary").greater_is_better
    with pytest.raises(WrongInput, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        find_metric("acuracy", "binary")
    with pytest.raises(WrongInput, match="'rmse' is not for binary; it must be one of accuracy"):
        find_metric("rmse", "binary")
    with pytest.raises(WrongInput, match=r"'f1' is not for multiclass; .*f1_macro"):
        find_metric("f1", "multiclass")
