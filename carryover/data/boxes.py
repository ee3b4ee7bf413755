"""Owns what a box is: how sources write boxes, what they must be in their picture, and what is told of them.

[[x1, y1, x2, y2, "cat"], ...]  as a list, as its text (JSON, or as Python prints it), or as structs with these names
    --against the picture's size--> clipped by up to a pixel, those of no size dropped; further out: an error
    --> {x1, y1, x2, y2, class, crowd}, doubles, in pixels from the left upper corner
"""

import ast
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from carryover.data.compute import pc
from carryover.data.pictures import Size
from carryover.data.problems import Problems
from carryover.ground.errors import WrongInput

# COCO's measure: up to so many pixels a box is small, up to so many medium.
SMALL, MEDIUM = 32.0**2, 96.0**2
# Annotators' tools round to either side of a picture's edge; so far out a box is clipped without a word.
ROUNDING = 1.0
NO_SIZE = "without size"
# Numbers that a box is to a network: corners, class, crowd.
WIDTH = 6


class Box(NamedTuple):
    """One box as a source has it."""

    x1: float
    y1: float
    x2: float
    y2: float
    name: str
    crowd: bool


class Raw(NamedTuple):
    """What a source says of one picture: its boxes and, where it is said, its width and height."""

    boxes: list[Box]
    size: tuple[float, float] | None


def parse(text: str) -> Raw:
    """Read the raw text of one picture's boxes.

    Raises:
        ValueError: it says something else; the words stand behind "row 7".
    """
    value = _parsed(text)
    size = None
    if isinstance(value, dict):
        value, size = value.get("boxes"), value.get("size")
    if not isinstance(value, list):
        raise ValueError(f"has {text[:80]!r}, which is no list of boxes")
    return Raw([_box(item) for item in value], tuple(size) if size else None)


def fitted(raw: Raw, size: Size, where: str, problems: Problems, dropped: dict[str, int]) -> list[dict[str, Any]]:
    """Return a picture's boxes as they are stored, after holding them against its size.

    Args:
        where: the picture, for `problems`.
        dropped: reason -> boxes, counted on.
    """
    if raw.size and raw.size != (size.width, size.height):
        said = f"{where} is {size.width} x {size.height}, not {raw.size[0]:g} x {raw.size[1]:g}"
        problems.note("pictures have another size than the annotations say", said + turned_words(size))
        return []
    found = []
    for box in raw.boxes:
        shown = f"{where} ({size.width} x {size.height}) has {box.name!r} at {_shown(box)}"
        out = max(-box.x1, -box.y1, box.x2 - size.width, box.y2 - size.height)
        if box.x1 == box.x2 or box.y1 == box.y2:
            dropped[NO_SIZE] = dropped.get(NO_SIZE, 0) + 1
        elif min(box.x2, box.y2) <= 0 or box.x1 >= size.width or box.y1 >= size.height:
            problems.note("boxes lie outside their pictures", shown)
        elif out > ROUNDING:
            problems.note("boxes reach out of their pictures by more than a pixel", f"{shown}, {out:g} too far")
        else:
            x1, y1 = max(box.x1, 0.0), max(box.y1, 0.0)
            x2, y2 = min(box.x2, float(size.width)), min(box.y2, float(size.height))
            found.append({"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": box.name, "crowd": box.crowd})
    return found


def numbers_of(boxes: Sequence[Mapping[str, Any]] | None, indices: Mapping[str, int], *, label: str) -> np.ndarray:
    """Return a picture's boxes, float32[m, 6]: x1, y1, x2, y2, class index, crowd.

    Args:
        boxes: what a column of type boxes holds for it.
        indices: class -> index.

    Raises:
        WrongInput: for a class that is not among them.
    """
    found = np.zeros((len(boxes or ()), WIDTH), np.float32)
    for place, box in enumerate(boxes or ()):
        index = indices.get(box["class"])
        if index is None:
            known = ", ".join(map(repr, list(indices)[:20]))
            raise WrongInput(f"label '{label}': {box['class']!r} is no class of the model; classes are {known}")
        found[place] = (box["x1"], box["y1"], box["x2"], box["y2"], index, float(bool(box.get("crowd"))))
    return found


def turned_words(size: Size) -> str:
    """Return why a size may be another than expected."""
    return " (its EXIF data turn it; its label must be of the turned picture)" if size.turned else ""


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        # What a list becomes where pandas writes CSV.
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _box(item: Any) -> Box:
    if isinstance(item, Mapping) and {"x1", "y1", "x2", "y2", "class"} <= item.keys():
        item = [item["x1"], item["y1"], item["x2"], item["y2"], item["class"], item.get("crowd")]
    if not isinstance(item, (list, tuple)) or len(item) not in (5, 6):
        raise ValueError(f"has the box {str(item)[:80]}; a box is [x1, y1, x2, y2, class]")
    try:
        sides = [float(side) for side in item[:4]]
    except (TypeError, ValueError):
        sides = [math.nan]
    if not all(map(math.isfinite, sides)):
        raise ValueError(f"has the box {str(item)[:80]}; its sides must be four numbers, x1, y1, x2, y2")
    if sides[2] < sides[0] or sides[3] < sides[1]:
        raise ValueError(f"has the box {str(item)[:80]}, which ends before it starts; it must be x1, y1, x2, y2")
    if item[4] is None or item[4] == "":
        raise ValueError(f"has the box {str(item)[:80]}, which has no class")
    # Where a table has numbers only, a class is a number among sides.
    name = int(item[4]) if isinstance(item[4], float) and item[4].is_integer() else item[4]
    return Box(sides[0], sides[1], sides[2], sides[3], str(name), len(item) > 5 and bool(item[5]))


def _shown(box: Box) -> str:
    return "[" + ", ".join(f"{side:g}" for side in box[:4]) + "]"


class Boxes:
    """How many boxes there are: of each class, of each size, in one picture at most."""

    def __init__(self) -> None:
        self._pictures = self._empty = self._boxes = self._most = 0
        self._counts: dict[str, int] = {}
        self._sizes = np.zeros(3, dtype=np.int64)

    def add(self, array: pa.Array) -> None:
        lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0))
        boxes = array.flatten()
        self._pictures += len(array)
        self._empty += int((lengths == 0).sum())
        self._boxes += len(boxes)
        self._most = max(self._most, int(lengths.max(initial=0)))
        counted = pc.value_counts(pc.struct_field(boxes, "class"))
        for name, count in zip(*(counted.field(field).to_pylist() for field in ("values", "counts")), strict=True):
            self._counts[name] = self._counts.get(name, 0) + count
        x1, y1, x2, y2 = (np.asarray(pc.struct_field(boxes, side)) for side in ("x1", "y1", "x2", "y2"))
        self._sizes += np.bincount(np.searchsorted([SMALL, MEDIUM], (x2 - x1) * (y2 - y1), side="right"), minlength=3)

    def to_json(self) -> dict[str, Any]:
        return {
            "missing": self._empty,
            "count": self._pictures,
            "boxes": self._boxes,
            "most": self._most,
            "counts": dict(sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))),
            "sizes": dict(zip(("small", "medium", "large"), self._sizes.tolist(), strict=True)),
        }
