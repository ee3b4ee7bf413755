"""Owns what a box is: how sources write boxes, what they must be in their picture, and what is told of them.

[[x1, y1, x2, y2, "cat"], ...]  as a list, as its text (JSON, or as Python prints it), or as structs with these names
    --against the picture's size--> clipped by up to a pixel, those of no size dropped; further out: an error
    --> {x1, y1, x2, y2, class, crowd}, doubles, in pixels from the left upper corner
"""

from typing import Any

import numpy as np
import pyarrow as pa

from carryover.data.compute import pc

# COCO's measure: up to so many pixels a box is small, up to so many medium.
SMALL, MEDIUM = 32.0**2, 96.0**2


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
