"""Owns what a report shows of told masks: scores of classes, pixels by class, and pictures beside their masks."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carryover.data.masks import ids_of
from carryover.data.schema import IGNORED_ID
from carryover.data.thumbnail import Thumbnail
from carryover.report import page, pictures
from carryover.report.classes import MOST_IN_MATRIX, matrix_table
from carryover.report.page import escape, number
from carryover.report.pictures import NEUTRAL, WRONG
from carryover.tasks.segments import dice_of_classes, iou_of_classes

MOST_IN_TABLE, MOST_SORTED = 100, 12
STYLE = (
    pictures.STYLE
    + """
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(45%, 200px), 1fr)); gap: 8px }
.panels div { min-width: 0 }
.panels img { display: block; width: 100%; height: auto; border-radius: 6px; border: 1px solid var(--line) }
.panels span { font-size: 12px; color: var(--soft) }
"""
)


@dataclass(frozen=True)
class Shot:
    """One picture of the report (None: can't be read), and true and told class indices [H, W], below 0 none."""

    picture: Thumbnail | None
    words: str
    worst: bool
    truth: np.ndarray
    told: np.ndarray


@dataclass(frozen=True)
class Segmented:
    """See `evaluation.Shown`; `matrix` float64[C, C] counts pixels, true class by told class."""

    classes: Sequence[str]
    matrix: np.ndarray
    shots: Sequence[Shot]
    style: str = STYLE

    def cards(self) -> list[str]:
        """See `evaluation.Shown`."""
        parts = [page.card("Classes", self._table(), wide=True)]
        if len(self.classes) <= MOST_IN_MATRIX:
            parts.append(page.card("Pixels", matrix_table(self.matrix.astype(np.int64), self.classes), wide=True))
        return [*parts, page.card("Pictures", self._pictures(), wide=True)] if self.shots else parts

    def to_json(self) -> dict[str, Any]:
        """See `evaluation.Shown`."""
        pixels = self.matrix.astype(np.int64)
        scores = zip(self.classes, *self._scores(), pixels.sum(axis=1).tolist(), strict=True)
        names = ("class", "iou", "dice", "pixels")
        return {
            "confusion_matrix": {"labels": list(self.classes), "matrix": pixels.tolist()},
            "roc": None,
            "classes": [dict(zip(names, one, strict=True)) for one in scores],
        }

    def _scores(self) -> tuple[list[float], list[float]]:
        return iou_of_classes(self.matrix).tolist(), dice_of_classes(self.matrix).tolist()

    def _table(self) -> str:
        true, told = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        order = np.arange(len(true)) if len(true) <= MOST_SORTED else np.argsort(-true, kind="stable")
        iou, dice = self._scores()
        rows = []
        for place in order[:MOST_IN_TABLE].tolist():
            bar = 0.0 if np.isnan(iou[place]) else iou[place] * 60
            shown = f'<span class="bar" style="width: {bar:.0f}px"></span> {number(iou[place])}'
            counts = f"{int(true[place]):,}", f"{int(told[place]):,}"
            rows.append((escape(self.classes[place]), *counts, number(dice[place]), shown))
        more = len(order) - len(rows)
        tail = f'<p class="soft">and {more:,} classes with fewer pixels</p>' if more else ""
        return page.table(["Class", "Pixels", "Told", "Dice", "IoU"], rows, numeric=1) + tail

    def _pictures(self) -> str:
        colours = self._colours()
        named = {self.classes[place]: colour for place, colour in colours.items()}
        words = (
            '<p class="soft">The worst by IoU of their own, then some evenly spread over the split. Ignored pixels are '
            "left out of the truth, and grey among the wrong ones.</p>"
        )
        shots = "".join(_figure(shot, colours) for shot in self.shots)
        return f'{words}{pictures.legend(named)}<div class="shots wide">{shots}</div>'

    def _colours(self) -> dict[int, str]:
        """Return the colours of the classes that are seen; the background of two is grey."""
        seen = {int(place) for shot in self.shots for part in (shot.truth, shot.told) for place in np.unique(part)}
        background = {0: NEUTRAL} if len(self.classes) == 2 else {}
        return {**background, **pictures.colours_of(place for place in seen if place >= len(background))}


def strip(shots: Sequence[tuple[Thumbnail, str]], classes: Sequence[str]) -> str:
    """Return pictures beside their masks, each a PNG of ids as a data URI, under the classes' colours."""
    told = [(seen, _ids(mask)) for seen, mask in shots]
    found = sorted({int(one) for _, ids in told for one in np.unique(ids)} - {IGNORED_ID})
    # As in an evaluation, the background of two is grey.
    background = {0: NEUTRAL} if len(classes) == 2 else {}
    colours = {**background, **pictures.colours_of(one for one in found if one not in background)}
    every = [colours.get(place, NEUTRAL) for place in range(max(found, default=0) + 1)]
    pairs = []
    for seen, ids in told:
        painted = pictures.painted(np.where(ids == IGNORED_ID, -1, ids.astype(np.int64)), every)
        size = f'width="{seen.width}" height="{seen.height}"'
        pairs.append(
            f'<img src="{escape(seen.uri)}" {size} alt="a picture"><img src="{painted}" {size} alt="its mask">'
        )
    named = {str(one): colours.get(one, NEUTRAL) for one in found}
    return f'{pictures.legend(named)}<div class="strip">{"".join(pairs)}</div>' if pairs else ""


def _ids(uri: str) -> np.ndarray:
    return ids_of(base64.b64decode(uri.partition("base64,")[2]))


def _figure(shot: Shot, colours: Mapping[int, str]) -> str:
    every = [colours.get(place, NEUTRAL) for place in range(max(colours, default=0) + 1)]
    wrong = np.where(shot.truth < 0, 1, np.where(shot.truth != shot.told, 0, -1))
    panels = [("told", pictures.painted(shot.told, every)), ("wrong pixels", pictures.painted(wrong, [WRONG, NEUTRAL]))]
    panels = [("truth", pictures.painted(shot.truth, every)), *panels]
    if shot.picture is not None:
        panels = [("picture", shot.picture.uri), *panels]
    images = "".join(
        f'<div><img src="{uri}" alt="{escape(f"{name}, {shot.words}")}"><span>{escape(name)}</span></div>'
        for name, uri in panels
    )
    return f'<figure><div class="panels">{images}</div>{pictures.caption(shot.words, worst=shot.worst)}</figure>'
