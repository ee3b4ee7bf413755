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
