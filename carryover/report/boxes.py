"""Owns what a report shows of found boxes: scores of classes, and pictures with true and found boxes over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carryover.data.thumbnail import Thumbnail
from carryover.report import page, pictures
from carryover.report.page import escape, number

# Beyond these a table, or a picture, is no longer read.
MOST_IN_TABLE, MOST_SORTED, MOST_BOXES = 100, 12, 100
_LETTER, _LINE, _MOST_LETTERS = 7.6, 17, 32
# A picture is drawn at least so wide: names on a smaller one would hide it.
_LEAST_WIDTH = 320
STYLE = (
    pictures.STYLE
    + """
svg.boxes { max-width: none; max-height: 420px }
svg.boxes rect { fill: none; stroke-width: 2 }
.strip svg rect { vector-effect: non-scaling-stroke }
svg.boxes .halo { stroke: #000; stroke-opacity: .45; stroke-width: 4 }
svg.boxes .true { stroke-dasharray: 7 4 }
svg.boxes .crowd { stroke-dasharray: 2 5 }
svg.boxes .name { stroke: none; fill-opacity: .92 }
svg.boxes text { font: 600 13px system-ui, sans-serif }
"""
)


@dataclass(frozen=True)
class Box:
    """One box: corners in pixels of the stored picture, class index, score of a found one, None of a true one."""

    corners: tuple[float, float, float, float]
    label: int
    score: float | None = None
    crowd: bool = False


@dataclass(frozen=True)
class Shot:
    """One picture of the report; None for one that can't be read. `words` say what came of it."""

    picture: Thumbnail | None
    words: str
    worst: bool
    boxes: Sequence[Box]


@dataclass(frozen=True)
class Detected:
    """See `evaluation.Shown`.

    Attributes:
        scores: AP, AP at IoU 0.5 and at 0.75 of each class, float64[C, 3], NaN for a class without a true box.
        boxes: true boxes of each class, crowds left out, int64[C].
        threshold: score from which on a found box is drawn and counted below a picture.
    """

    classes: Sequence[str]
    scores: np.ndarray
    boxes: np.ndarray
    shots: Sequence[Shot]
    threshold: float
    style: str = STYLE

    def cards(self) -> list[str]:
        """See `evaluation.Shown`."""
        parts = [page.card("Classes", self._table(), wide=True)]
        return [*parts, page.card("Pictures", self._pictures(), wide=True)] if self.shots else parts

    def to_json(self) -> dict[str, Any]:
        """See `evaluation.Shown`."""
        scored = zip(self.classes, self.scores.tolist(), self.boxes.tolist(), strict=True)
        names = ("ap", "ap_50", "ap_75")
        return {
            "classes": [
                {"class": name, **dict(zip(names, scores, strict=True)), "boxes": boxes}
                for name, scores, boxes in scored
            ]
        }

    def _table(self) -> str:
        order, rows = np.arange(len(self.classes)), []
        if len(order) > MOST_SORTED:
            order = np.argsort(-self.boxes, kind="stable")[: int((self.boxes > 0).sum())]
        for place in order[:MOST_IN_TABLE].tolist():
            ap, at_50, at_75 = self.scores[place].tolist()
            bar = 0.0 if np.isnan(ap) else ap * 60
            shown = f'<span class="bar" style="width: {bar:.0f}px"></span> {number(ap)}'
            rows.append(
                (escape(self.classes[place]), f"{int(self.boxes[place]):,}", number(at_50), number(at_75), shown)
            )
        more = len(self.classes) - len(rows)
        tail = f'<p class="soft">and {more:,} classes with fewer boxes, or none</p>' if more else ""
        note = '<p class="soft">Average precision (AP) is COCO\'s, over IoU 0.5 to 0.95. n/a: no true box here.</p>'
        return page.table(["Class", "True boxes", "AP 0.5", "AP 0.75", "AP"], rows, numeric=1) + tail + note

    def _pictures(self) -> str:
        colours = pictures.colours_of(box.label for shot in self.shots for box in shot.boxes)
        named = {self.classes[place]: colour for place, colour in colours.items()}
        words = (
            f'<p class="soft">The worst by F1 (IoU 0.5), then some evenly spread over the split. Dashed: true; dotted: '
            f"a true crowd; solid, with score: found. Found boxes with a score below {self.threshold:g} are not "
            "drawn.</p>"
        )
        shots = "".join(self._figure(shot, colours) for shot in self.shots)
        return words + pictures.legend(named) + f'<div class="shots">{shots}</div>'

    def _figure(self, shot: Shot, colours: Mapping[int, str]) -> str:
        below = pictures.caption(shot.words, worst=shot.worst)
        if shot.picture is None:
            return f'<figure><div class="gone soft">picture not readable</div>{below}</figure>'
        seen = _enlarged(shot.picture)
        # True ones first, so that what was found lies above them.
        drawn = sorted(shot.boxes, key=lambda box: -1.0 if box.score is None else box.score)[-MOST_BOXES:]
        inside = "".join(_drawn(box, self.classes[box.label], colours[box.label], seen) for box in drawn)
        return f"<figure>{_picture(seen, inside, shot.words)}{below}</figure>"


def strip(shots: Sequence[tuple[Thumbnail, Sequence[Sequence[Any]]]], classes: Sequence[str]) -> str:
    """Return pictures with their true boxes, each [x1, y1, x2, y2, class], side by side under the classes' colours."""
    places = {name: place for place, name in enumerate(classes)}
    colours = pictures.colours_of(places.get(box[4], -1) for _, own in shots for box in own)
    named = {classes[place]: colour for place, colour in colours.items() if place >= 0}
    drawn = []
    for seen, own in shots:
        boxes = [(Box(tuple(box[:4]), places.get(box[4], -1)), box[4]) for box in own[:MOST_BOXES]]
        inside = "".join(_drawn(box, name, colours[box.label], seen) for box, name in boxes)
        drawn.append(_picture(seen, inside, f"a picture with {len(own)} boxes"))
    return f'{pictures.legend(named)}<div class="strip">{"".join(drawn)}</div>' if drawn else ""


def _enlarged(seen: Thumbnail) -> Thumbnail:
    times = max(1.0, _LEAST_WIDTH / seen.width)
    return Thumbnail(seen.uri, round(seen.width * times), round(seen.height * times), seen.scale * times)


def _picture(seen: Thumbnail, inside: str, words: str) -> str:
    return (
        f'<svg class="boxes" viewBox="0 0 {seen.width} {seen.height}" role="img" aria-label="{escape(words)}">'
        f'<image width="{seen.width}" height="{seen.height}" href="{escape(seen.uri)}"/>{inside}</svg>'
    )


def _drawn(box: Box, name: str, colour: str, seen: Thumbnail) -> str:
    """Return a box as SVG; a found one has class and score at its upper edge, a true one says its class on hover."""
    x1, y1, x2, y2 = (corner * seen.scale for corner in box.corners)
    size = f'x="{x1:.1f}" y="{y1:.1f}" width="{max(0.0, x2 - x1):.1f}" height="{max(0.0, y2 - y1):.1f}"'
    kind = "found" if box.score is not None else "true crowd" if box.crowd else "true"
    score = "" if box.score is None else f" {box.score:.2f}"
    title = f"<title>{escape(kind)}: {escape(name)}{score}</title>"
    parts = [f'<rect class="halo" {size}/>' if box.score is not None else ""]
    parts.append(f'<rect class="{kind}" style="stroke: {colour}" {size}>{title}</rect>')
    if box.score is not None or box.crowd:
        parts.append(_label("crowd" if box.crowd else f"{name}{score}", colour, x1, y1, seen))
    return "".join(parts)


def _label(words: str, colour: str, x: float, y: float, seen: Thumbnail) -> str:
    words = words if len(words) <= _MOST_LETTERS else f"{words[: _MOST_LETTERS - 6]}…{words[-5:]}"
    wide = len(words) * _LETTER + 6
    left = max(0.0, min(x, seen.width - wide))
    top = y - _LINE if y >= _LINE else max(y, 0.0)
    return (
        f'<rect class="name" style="fill: {colour}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{_LINE}"/>'
        f'<text style="fill: {pictures.ink_on(colour)}" x="{left + 3:.1f}" y="{top + 13:.1f}">{escape(words)}</text>'
    )
