"""Owns what a classification looks like beyond single numbers: confusion matrix, ROC curve, scores of each class."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Roc:
    """A ROC curve from (0, 0) to (1, 1), all finite; arrays float64[P].

    Attributes:
        threshold: the least probability that counts as positive at each point; 1 at the first, which takes none.
    """

    fpr: np.ndarray
    tpr: np.ndarray
    threshold: np.ndarray


@dataclass(frozen=True)
class ClassScores:
    """How one class fared: rows that have it, rows predicted as it, and the usual three (0 where there is no row)."""

    support: int
    predicted: int
    precision: float
    recall: float
    f1: float


def confusion(targets: np.ndarray, chosen: np.ndarray, classes: int) -> np.ndarray:
    """Return int64[classes, classes]: rows whose true class is i and whose predicted class is j."""
    return np.bincount(targets * classes + chosen, minlength=classes * classes).reshape(classes, classes)


def roc(targets: np.ndarray, probabilities: np.ndarray, *, positive: int) -> Roc | None:
    """Return the ROC curve of a binary problem, None where a class has no row or a probability is not finite.

    Args:
        targets: class indices int64[N].
        probabilities: float64[N, 2].
        positive: index of the positive class.
    """
    is_positive = targets == positive
    if is_positive.all() or not is_positive.any() or not np.isfinite(probabilities).all():
        return None
    from sklearn.metrics import roc_curve

    fpr, tpr, threshold = roc_curve(is_positive, probabilities[:, positive])
    # scikit-learn's first threshold is infinite, which JSON and KFP do not have.
    return Roc(fpr, tpr, np.where(np.isfinite(threshold), threshold, 1.0))


def class_scores(matrix: np.ndarray) -> list[ClassScores]:
    """Return the scores of each class of a confusion matrix."""
    found = []
    for index in range(len(matrix)):
        right = int(matrix[index, index])
        support, predicted = int(matrix[index].sum()), int(matrix[:, index].sum())
        precision, recall = right / max(predicted, 1), right / max(support, 1)
        f1 = 2 * right / max(support + predicted, 1)
        found.append(ClassScores(support, predicted, precision, recall, f1))
    return found


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision over recall, from all rows (recall 1) to none (recall 0, precision 1); arrays float64[P].

    Attributes:
        average: average precision, the sum of precisions weighted by the steps of recall; no trapezoids.
    """

    precision: np.ndarray
    recall: np.ndarray
    average: float


def precision_recall(targets: np.ndarray, probabilities: np.ndarray, *, positive: int) -> PrecisionRecall | None:
    """Return precision over recall of one class against all others, None where a class has no row; see `roc`.

    Args:
        targets: class indices int64[N].
        probabilities: float64[N, C].
    """
    is_positive = targets == positive
    if is_positive.all() or not is_positive.any() or not np.isfinite(probabilities).all():
        return None
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(is_positive, probabilities[:, positive])
    return PrecisionRecall(precision, recall, float(average_precision_score(is_positive, probabilities[:, positive])))


def area(curve: Roc) -> float:
    """Return the area under a ROC curve."""
    return float(np.trapezoid(curve.tpr, curve.fpr))


@dataclass(frozen=True)
class Threshold:
    """What comes of taking rows as positive whose probability is `at` or more; a share of nothing is NaN."""

    at: float
    taken: int
    precision: float
    recall: float
    f1: float
    false_positive_rate: float


def at_threshold(is_positive: np.ndarray, probability: np.ndarray, at: float) -> Threshold:
    """Return what a threshold brings.

    Args:
        is_positive: bool[N].
        probability: of the positive class, float64[N].
    """
    taken = probability >= at
    right, positives = int((taken & is_positive).sum()), int(is_positive.sum())
    rows, negatives = int(taken.sum()), len(is_positive) - positives
    precision = right / rows if rows else float("nan")
    recall = right / positives if positives else float("nan")
    rate = (rows - right) / negatives if negatives else float("nan")
    return Threshold(at, rows, precision, recall, 2 * right / max(rows + positives, 1), rate)


def best_threshold(is_positive: np.ndarray, probability: np.ndarray) -> Threshold:
    """Return the threshold with the greatest F1, among the probabilities that were told; the highest of equal ones."""
    order = np.argsort(-probability, kind="stable")
    told, right = probability[order], np.cumsum(is_positive[order])
    # Rows of one probability are taken together.
    ends = np.flatnonzero(np.append(np.diff(told) != 0, True))
    f1 = 2 * right[ends] / np.maximum(ends + 1 + is_positive.sum(), 1)
    return at_threshold(is_positive, probability, float(told[ends[int(f1.argmax())]]))
