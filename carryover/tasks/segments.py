"""Owns the scores of segmentation, from confusion matrices float64[N, C, C] of pictures (truth by what was told)."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from carryover.tasks.metrics import Scored


def iou_of_classes(matrix: np.ndarray) -> np.ndarray:
    """Return intersection over union of each class, float64[C]; NaN for one that is neither there nor told."""
    hit = matrix.diagonal()
    return _share(hit, matrix.sum(axis=0) + matrix.sum(axis=1) - hit)


def dice_of_classes(matrix: np.ndarray) -> np.ndarray:
    """Return Dice's coefficient (F1 of pixels) of each class, float64[C]; NaN as in `iou_of_classes`."""
    return _share(2 * matrix.diagonal(), matrix.sum(axis=0) + matrix.sum(axis=1))


def iou(scored: "Scored") -> float:
    """Mean over classes; of two classes, that of the second, the foreground (as AutoMM's binary `iou`)."""
    return _of(iou_of_classes(scored.pixels))


def dice(scored: "Scored") -> float:
    """As `iou`, of Dice's coefficient."""
    return _of(dice_of_classes(scored.pixels))


def pixel_accuracy(scored: "Scored") -> float:
    """Share of pixels, ignored ones left out, that are told right."""
    return float(scored.pixels.diagonal().sum() / scored.pixels.sum())


def _of(classes: np.ndarray) -> float:
    if len(classes) == 2:
        return float(classes[1])
    return float(np.nanmean(classes)) if np.isfinite(classes).any() else float("nan")


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
