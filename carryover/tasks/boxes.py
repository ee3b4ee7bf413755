"""Owns how found boxes are compared with true ones: COCO's average precision and recall, by pycocotools."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carryover.tasks.box_matches import ALL_SIZES, MOST, Matches, matches_of

if TYPE_CHECKING:
    from carryover.tasks.metrics import Scored

# The places of COCO's twelve numbers.
SUMMARY = (
    "map", "map_50", "map_75", "map_small", "map_medium", "map_large",
    "mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large",
)  # fmt: skip


@dataclass(frozen=True)
class CocoScores:
    """What COCO's evaluation says of found boxes.

    Attributes:
        summary: the twelve numbers; NaN where nothing of the kind (a size of boxes) was to be found.
        classes: (AP, AP at 0.5, AP at 0.75) of each class, float64[C, 3].
        boxes: true boxes of each class, crowds left out, int64[C].
        evaluated: pycocotools' `COCOeval`.
    """

    summary: dict[str, float]
    classes: np.ndarray
    boxes: np.ndarray
    evaluated: Any

    def matches(self, *, size: str = ALL_SIZES, most: int = MOST) -> list[Matches]:
        """Return what was taken for what, of each class; see box_matches.py."""
        return matches_of(self.evaluated, size=size, most=most)


def coco_metric(name: str) -> "Callable[[Scored], float]":
    """Return one of COCO's numbers as the function of a metric."""

    def function(scored: "Scored") -> float:
        return scored.coco.summary[name]

    return function


def coco_scores(truth: np.ndarray, found: np.ndarray, classes: int) -> CocoScores:
    """Return COCO's scores of found boxes [N, K, 6] against true ones [N, M, 6], as detection.py has them."""
    evaluated = _evaluated(truth, found, classes)
    precision = evaluated.eval["precision"]
    # [IoU 0.5 to 0.95, recall, class, sizes: all, most boxes: 100]
    every = np.stack([_mean(precision[part, :, :, 0, -1]) for part in (slice(None), slice(0, 1), slice(5, 6))], axis=1)
    summary = {name: _number(value) for name, value in zip(SUMMARY, evaluated.stats, strict=True)}
    mine = truth[..., 4][(truth[..., 4] >= 0) & (truth[..., 5] <= 0)].astype(np.int64)
    return CocoScores(summary, every, np.bincount(mine, minlength=classes), evaluated)


def _evaluated(truth: np.ndarray, found: np.ndarray, classes: int) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # It tells each of its steps on standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        true: Any = COCO()
        told: Any = COCO()
        for coco, boxes, scored in ((true, truth, False), (told, found, True)):
            coco.dataset = _dataset(boxes, classes, scored=scored)
            coco.createIndex()
        evaluated = COCOeval(true, told, "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated


def _dataset(boxes: np.ndarray, classes: int, *, scored: bool) -> dict[str, Any]:
    """Return boxes in COCO's own form; its ids count from 1, since it takes an id of 0 for no match."""
    annotations: list[dict[str, Any]] = []
    for image, number in np.argwhere(boxes[..., 4] >= 0):
        x1, y1, x2, y2, fifth, sixth = map(float, boxes[image, number])
        extra = {"score": fifth, "iscrowd": 0} if scored else {"iscrowd": int(sixth > 0)}
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": int(image) + 1,
                "category_id": int(sixth if scored else fifth) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                **extra,
            }
        )
    return {
        "images": [{"id": number + 1} for number in range(len(boxes))],
        "categories": [{"id": number + 1} for number in range(classes)],
        "annotations": annotations,
    }


def _mean(precision: np.ndarray) -> np.ndarray:
    """Return [T, R, C] -> [C], NaN for a class without a box; COCO marks these with -1."""
    known = np.where(precision < 0, np.nan, precision).reshape(-1, precision.shape[-1])
    counts = (~np.isnan(known)).sum(axis=0)
    return np.divide(np.nansum(known, axis=0), counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _number(value: float) -> float:
    return float(value) if value >= 0 else float("nan")
