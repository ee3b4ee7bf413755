"""Owns which found boxes COCO's evaluation took for which true ones, of each class: what its numbers are sums of.

from the highest score on      box 0   box 1   box 2  ...   D found boxes of one class, in all pictures
true   [T, D]                    x       x                  matched at IoU 0.5, 0.55 ... 0.95
false  [T, D]                                    x          not matched; one in a crowd is neither
wanted [N]                     true boxes of each picture that were to be found
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ALL_SIZES, MOST = "all", 100
THRESHOLDS = 10


@dataclass(frozen=True)
class Matches:
    """One class's matches; see the drawing.

    Attributes:
        image: place of the picture of each found box, int64[D].
        score: float64[D], falling.
    """

    image: np.ndarray
    score: np.ndarray
    true: np.ndarray
    false: np.ndarray
    wanted: np.ndarray


def matches_of(evaluated: Any, *, size: str = ALL_SIZES, most: int = MOST) -> list[Matches]:
    """Return each class's matches from an evaluated `COCOeval`.

    Args:
        size: "all", "small", "medium" or "large"; boxes of other sizes count for nothing.
        most: found boxes of a picture that count, those of the highest score.
    """
    params, pictures = evaluated.params, len(evaluated.params.imgIds)
    place = params.areaRngLbl.index(size)
    starts = [(number * len(params.areaRng) + place) * pictures for number in range(len(params.catIds))]
    return [_of_class(evaluated.evalImgs[start : start + pictures], most) for start in starts]


def _of_class(pictures: Sequence[Mapping[str, Any] | None], most: int) -> Matches:
    wanted = np.zeros(len(pictures))
    images, scores = [np.empty(0, np.int64)], [np.empty(0)]
    matched, ignored = ([np.empty((THRESHOLDS, 0), bool)] for _ in range(2))
    for image, one in enumerate(pictures):
        if one is None:
            continue
        wanted[image] = (np.asarray(one["gtIgnore"]) == 0).sum()
        scores.append(np.asarray(one["dtScores"][:most], np.float64))
        images.append(np.full(len(scores[-1]), image))
        matched.append(np.asarray(one["dtMatches"])[:, :most] > 0)
        ignored.append(np.asarray(one["dtIgnore"])[:, :most] > 0)
    score = np.concatenate(scores)
    # COCO's order: boxes of one score stay in the order of their pictures.
    order = np.argsort(-score, kind="stable")
    hit, out = (np.concatenate(parts, axis=1)[:, order] for parts in (matched, ignored))
    return Matches(np.concatenate(images)[order], score[order], hit & ~out, ~hit & ~out, wanted)
