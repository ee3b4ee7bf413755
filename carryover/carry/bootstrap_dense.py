"""Owns the resampled scores of boxes and masks: functions of how often each picture is drawn, as in bootstrap.py.

masks   counts [R, N] @ pixels told right, true, told [N, C]    --> IoU and the like of each resample
boxes   COCO's matching is done once; a found box counts as often as its picture is drawn:
        counts [R, N] --> weights of found boxes [R, D], falling score --cumulated--> precision over recall --> AP
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from carryover.tasks.box_matches import ALL_SIZES, MOST, THRESHOLDS, Matches
from carryover.tasks.metrics import Scored

Resampled = Callable[[np.ndarray], np.ndarray]
# Resamples times found boxes at once.
_AT_ONCE = 2_000_000
# COCO's levels of recall.
LEVELS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class _Number:
    """One of COCO's twelve numbers: from which IoU threshold to before which, sizes of boxes, boxes of a picture."""

    thresholds: tuple[int, int] = (0, THRESHOLDS)
    size: str = ALL_SIZES
    most: int = MOST


_PRECISIONS = {
    "map": _Number(),
    "map_50": _Number((0, 1)),
    "map_75": _Number((5, 6)),
    **{f"map_{size}": _Number(size=size) for size in ("small", "medium", "large")},
}
_RECALLS = {
    **{f"mar_{most}": _Number(most=most) for most in (1, 10, 100)},
    **{f"mar_{size}": _Number(size=size) for size in ("small", "medium", "large")},
}


def looks(name: str, scored: Scored) -> int:
    """Return how many times a row a metric looks at when it is resampled: an average precision once a box and IoU."""
    if name not in _PRECISIONS:
        return 1
    first, end = _PRECISIONS[name].thresholds
    boxes = int((scored.predictions[..., 4] >= 0).sum())
    return max(1, boxes * (end - first) // len(scored.targets))


def _over_classes(
    number: _Number, of_class: Callable[[Matches, slice, np.ndarray], np.ndarray]
) -> Callable[[Scored], Resampled]:
    """Return a metric that is a mean over the classes which have a box to be found."""

    def make(scored: Scored) -> Resampled:
        classes = [one for one in scored.coco.matches(size=number.size, most=number.most) if one.wanted.any()]

        def values(counts: np.ndarray) -> np.ndarray:
            if not classes:
                return np.full(len(counts), np.nan)
            found = np.stack([of_class(one, slice(*number.thresholds), counts) for one in classes])
            there = np.stack([counts @ one.wanted > 0 for one in classes])
            return np.where(there, found, 0).sum(axis=0) / there.sum(axis=0)

        return values

    return make


def _recall(one: Matches, thresholds: slice, counts: np.ndarray) -> np.ndarray:
    """Return the mean recall of one class over IoU thresholds, float64[R]."""
    hits = one.true[thresholds].mean(axis=0)
    return counts @ np.bincount(one.image, hits, minlength=len(one.wanted)) / (counts @ one.wanted)


def _precision(one: Matches, thresholds: slice, counts: np.ndarray) -> np.ndarray:
    """Return the mean average precision of one class over IoU thresholds, float64[R]."""
    at_once = max(1, _AT_ONCE // max(1, len(one.image)))
    parts = [_precision_at_once(one, thresholds, counts[at : at + at_once]) for at in range(0, len(counts), at_once)]
    return np.concatenate(parts)


def _precision_at_once(one: Matches, thresholds: slice, counts: np.ndarray) -> np.ndarray:
    wanted, weights = counts @ one.wanted, counts[:, one.image]
    total = np.zeros(len(counts))
    for true, false in zip(one.true[thresholds], one.false[thresholds], strict=True):
        # Precision is greatest, and recall grows, where a true one is found: no other place matters.
        told = np.cumsum(weights * (true | false), axis=1)[:, true]
        total += _area(np.cumsum(weights[:, true], axis=1), told, wanted)
    return total / len(one.true[thresholds])


def _area(found: np.ndarray, told: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return COCO's average precision, a mean over LEVELS, from cumulated true and all found boxes [R, P]."""
    precision = found / (told + np.spacing(1))
    # The best precision at this recall or a greater one; beyond the last there is none.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)
    areas = np.zeros(len(found))
    for row in np.flatnonzero(wanted):
        areas[row] = best[row, np.searchsorted(found[row] / wanted[row], LEVELS, side="left")].mean()
    return areas


def _of_pixels(
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[Scored], Resampled]:
    """Return a metric of each class's pixels: told right, true, told; all float64[R, C]."""

    def make(scored: Scored) -> Resampled:
        matrices = scored.predictions
        parts = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(axis=2), matrices.sum(axis=1)
        return lambda counts: score(*(counts @ part for part in parts))

    return make


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return the foreground's share of two classes, else the mean over the classes that have one; as in segments.py."""
    shares = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    if shares.shape[1] == 2:
        return shares[:, 1]
    there = whole > 0
    return np.where(there, shares, 0).sum(axis=1) / there.sum(axis=1)


DENSE: dict[str, Callable[[Scored], Resampled]] = {
    **{name: _over_classes(number, _precision) for name, number in _PRECISIONS.items()},
    **{name: _over_classes(number, _recall) for name, number in _RECALLS.items()},
    "dice": _of_pixels(lambda right, true, told: _share(2 * right, true + told)),
    "iou": _of_pixels(lambda right, true, told: _share(right, true + told - right)),
    "pixel_accuracy": _of_pixels(lambda right, true, told: right.sum(axis=1) / true.sum(axis=1)),
}
