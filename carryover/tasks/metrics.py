"""Owns the metrics: names (AutoMM's too), which way is better, and how each is computed, by scikit-learn and scipy.

A metric without a value on the data at hand (one class only, a constant, no row) is NaN, never an error.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from carryover.data.schema import Scalar
from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput
from carryover.tasks import boxes, segments

BINARY, MULTICLASS, REGRESSION = "binary", "multiclass", "regression"
DETECTION, SEGMENTATION = "object_detection", "semantic_segmentation"
CLASSIFICATION = (BINARY, MULTICLASS)


@dataclass(frozen=True)
class Scored:
    """What a metric is computed from.

    Attributes:
        targets: class indices int64[N], or numbers float64[N], or boxes float64[N, M, 6] (detection.py).
        predictions: probabilities float64[N, C], or numbers float64[N], or boxes float64[N, K, 6], or confusion
            matrices of pixels float64[N, C, C] (segmentation.py).
        classes: number of classes, 0 for regression.
        positive: index of the positive class of a binary problem.
    """

    targets: np.ndarray
    predictions: np.ndarray
    classes: int
    positive: int

    @property
    def chosen(self) -> np.ndarray:
        """Return the most probable class index of each row."""
        return self.predictions.argmax(axis=1)

    @property
    def labels(self) -> list[int]:
        return list(range(self.classes))

    @property
    def is_positive(self) -> np.ndarray:
        return (self.targets == self.positive).astype(int)

    @property
    def positive_probability(self) -> np.ndarray:
        return self.predictions[:, self.positive]

    @cached_property
    def coco(self) -> boxes.CocoScores:
        """COCO's scores of boxes: all its metrics come from one evaluation."""
        return boxes.coco_scores(self.targets, self.predictions, self.classes)

    @cached_property
    def pixels(self) -> np.ndarray:
        """Confusion matrix of all pictures' pixels, float64[C, C]."""
        return self.predictions.sum(axis=0)


@dataclass(frozen=True)
class Metric:
    """One metric; `function` may assume at least one row, finite numbers, and a problem type of `problem_types`."""

    name: str
    greater_is_better: bool
    problem_types: tuple[str, ...]
    function: Callable[[Scored], float]
    aliases: tuple[str, ...] = ()


def _sklearn() -> Any:
    import sklearn.metrics

    return sklearn.metrics


def _accuracy(scored: Scored) -> float:
    return float((scored.chosen == scored.targets).mean())


def _balanced_accuracy(scored: Scored) -> float:
    present = np.unique(scored.targets)
    return float(np.mean([(scored.chosen[scored.targets == label] == label).mean() for label in present]))


def _f1(average: str) -> Callable[[Scored], float]:
    def function(scored: Scored) -> float:
        if average == BINARY:
            chosen = (scored.chosen == scored.positive).astype(int)
            return _sklearn().f1_score(scored.is_positive, chosen, zero_division=0)
        labels = None if average == "macro" else scored.labels
        return _sklearn().f1_score(scored.targets, scored.chosen, labels=labels, average=average, zero_division=0)

    return function


def _one_class(scored: Scored) -> bool:
    return len(np.unique(scored.targets)) < 2


def _roc_auc(how: str = "ovr") -> Callable[[Scored], float]:
    def function(scored: Scored) -> float:
        if scored.classes == 2:
            if _one_class(scored):
                return math.nan
            return _sklearn().roc_auc_score(scored.is_positive, scored.positive_probability)
        if len(np.unique(scored.targets)) < scored.classes:
            # One against the rest has no value for a class that is not there.
            return math.nan
        arguments = {"labels": scored.labels, "multi_class": how, "average": "macro"}
        return _sklearn().roc_auc_score(scored.targets, scored.predictions, **arguments)

    return function


def _average_precision(scored: Scored) -> float:
    if scored.classes == 2:
        if not scored.is_positive.any():
            return math.nan
        return _sklearn().average_precision_score(scored.is_positive, scored.positive_probability)
    if len(np.unique(scored.targets)) < scored.classes:
        return math.nan
    return _sklearn().average_precision_score(np.eye(scored.classes)[scored.targets], scored.predictions)


def _log_loss(scored: Scored) -> float:
    return _sklearn().log_loss(scored.targets, scored.predictions, labels=scored.labels)


def _mcc(scored: Scored) -> float:
    if len(np.unique([scored.targets, scored.chosen])) < 2:
        return math.nan
    return _sklearn().matthews_corrcoef(scored.targets, scored.chosen)


def _quadratic_kappa(scored: Scored) -> float:
    if len(np.unique([scored.targets, scored.chosen])) < 2:
        # Agreement beyond chance has no meaning where chance always agrees.
        return math.nan
    return _sklearn().cohen_kappa_score(scored.targets, scored.chosen, labels=scored.labels, weights="quadratic")


def _mse(scored: Scored) -> float:
    return float(np.square(scored.targets - scored.predictions).mean())


def _mae(scored: Scored) -> float:
    return float(np.abs(scored.targets - scored.predictions).mean())


def _r2(scored: Scored) -> float:
    if len(scored.targets) < 2 or not np.ptp(scored.targets):
        return math.nan
    return _sklearn().r2_score(scored.targets, scored.predictions)


def _correlation(name: str) -> Callable[[Scored], float]:
    def function(scored: Scored) -> float:
        from scipy import stats

        if len(scored.targets) < 2 or not np.ptp(scored.targets) or not np.ptp(scored.predictions):
            return math.nan
        return float(getattr(stats, name)(scored.targets, scored.predictions).statistic)

    return function


_ALL = (
    Metric("accuracy", True, CLASSIFICATION, _accuracy, ("acc",)),
    Metric("average_precision", True, CLASSIFICATION, _average_precision, ("ap",)),
    *(
        Metric(name, True, (DETECTION,), boxes.coco_metric(name), (name.replace("_", ""),) if "_" in name else ())
        for name in boxes.SUMMARY
    ),
    Metric("balanced_accuracy", True, CLASSIFICATION, _balanced_accuracy),
    Metric("dice", True, (SEGMENTATION,), segments.dice),
    Metric("f1", True, (BINARY,), _f1(BINARY), ("f1_binary",)),
    Metric("f1_macro", True, CLASSIFICATION, _f1("macro")),
    Metric("f1_micro", True, CLASSIFICATION, _f1("micro")),
    Metric("f1_weighted", True, CLASSIFICATION, _f1("weighted")),
    Metric("iou", True, (SEGMENTATION,), segments.iou, ("mean_iou", "miou")),
    Metric("log_loss", False, CLASSIFICATION, _log_loss, ("nll", "cross_entropy", "ce")),
    Metric("mae", False, (REGRESSION,), _mae, ("mean_absolute_error",)),
    Metric("mcc", True, CLASSIFICATION, _mcc, ("matthews_corrcoef",)),
    Metric("mse", False, (REGRESSION,), _mse, ("mean_squared_error",)),
    Metric("pearsonr", True, (REGRESSION,), _correlation("pearsonr"), ("pearson",)),
    Metric("pixel_accuracy", True, (SEGMENTATION,), segments.pixel_accuracy),
    Metric("quadratic_kappa", True, CLASSIFICATION, _quadratic_kappa, ("cohen_kappa",)),
    Metric("r2", True, (REGRESSION,), _r2),
    Metric("rmse", False, (REGRESSION,), lambda scored: math.sqrt(_mse(scored)), ("root_mean_squared_error",)),
    Metric("roc_auc", True, CLASSIFICATION, _roc_auc(), ("auc", "roc_auc_ovr", "roc_auc_ovr_macro")),
    Metric("roc_auc_ovo", True, CLASSIFICATION, _roc_auc("ovo"), ("roc_auc_ovo_macro",)),
    Metric("spearmanr", True, (REGRESSION,), _correlation("spearmanr"), ("spearman",)),
)
METRICS = {metric.name: metric for metric in _ALL}
ALIASES = {alias: metric.name for metric in _ALL for alias in metric.aliases}
DEFAULTS = {BINARY: "roc_auc", MULTICLASS: "accuracy", REGRESSION: "rmse", DETECTION: "map", SEGMENTATION: "iou"}
# What evaluate reports where nothing is asked for; the default comes first.
REPORTED = {
    BINARY: ("roc_auc", "accuracy", "balanced_accuracy", "f1", "average_precision", "log_loss", "mcc"),
    MULTICLASS: ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "log_loss", "mcc", "roc_auc"),
    REGRESSION: ("rmse", "mae", "mse", "r2", "pearsonr", "spearmanr"),
    DETECTION: boxes.SUMMARY,
    SEGMENTATION: ("iou", "dice", "pixel_accuracy"),
}


def find_metric(name: str, problem_type: str) -> Metric:
    """Return the metric of that name or alias, checked to suit the problem type; "auto" and "" are its default.

    Raises:
        WrongInput: for an unknown name (with the nearest), or a metric of another problem type (with those that fit).
    """
    if name in ("", "auto"):
        name = DEFAULTS[problem_type]
    metric = METRICS.get(ALIASES.get(name, name))
    fitting = [known.name for known in _ALL if problem_type in known.problem_types]
    if metric is None:
        near = nearest(name, [*METRICS, *ALIASES])
        meant = f"; did you mean '{near}'?" if near else "."
        raise WrongInput(
            f"unknown metric '{name}'{meant} For {problem_type}: {', '.join(fitting)}", trouble="unknown-key"
        )
    if problem_type not in metric.problem_types:
        raise WrongInput(f"metric '{name}' is not for {problem_type}; it must be one of {', '.join(fitting)}")
    return metric


def value(metric: Metric, scored: Scored) -> float:
    """Return one metric's value, NaN where it has none."""
    if not len(scored.targets) or not np.isfinite(scored.predictions).all():
        return math.nan
    found = float(metric.function(scored))
    return found if math.isfinite(found) else math.nan


def score_all(
    metrics: Iterable[Metric],
    *,
    targets: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[Scalar] | None = None,
    positive: int | None = None,
) -> dict[str, float]:
    """Return metric name -> value, NaN where it has none.

    Args:
        targets: as `Task.truth` gives them.
        predictions: as `Task.predictions` gives them.
        classes: the task's classes, None for regression.
        positive: index of the positive class; the second of two where not given.
    """
    scored = scored_of(targets, predictions, classes=classes, positive=positive)
    return {metric.name: value(metric, scored) for metric in metrics}


def scored_of(
    targets: np.ndarray, predictions: np.ndarray, *, classes: Sequence[Scalar] | None, positive: int | None
) -> Scored:
    """Return what metrics are computed from; the arguments are `score_all`'s."""
    place = (1 if len(classes or ()) > 1 else 0) if positive is None else positive
    return Scored(targets, predictions, len(classes or ()), place)


def score(
    metric: Metric,
    *,
    targets: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[Scalar] | None = None,
    positive: int | None = None,
) -> float:
    """Return one metric's value, NaN where it has none; see `score_all`."""
    found = score_all([metric], targets=targets, predictions=predictions, classes=classes, positive=positive)
    return found[metric.name]
