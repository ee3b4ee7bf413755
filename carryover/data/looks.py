"""Owns what is shown of a column of each type; all of it is plain JSON.

    all            missing {split: rows}
    numerical      distinct; histogram {edges [B + 1], counts {split: [B]}, below, above {split: rows}}
    text           distinct; histogram of words, the same; samples: beginnings of a few texts
    categorical    label only: counts {split: {value: rows}}
    image_path, image_bytes    sizes {widths, heights: [least, median, most]}, formats {name: images}, looked (images);
                               pictures: thumbnails; of these and below none where the label is of pictures
    boxes          objects {boxes in a picture: pictures of train}; pictures: {thumbnail, boxes [x1, y1, x2, y2, name]}
    mask           ids {ids in a picture: pictures of train}; pictures: {thumbnail, mask: PNG of ids as a data URI}

`distinct` is null beyond `DISTINCT` values. A histogram leaves long tails out: what lies there is `below`, `above`.
"""

import io
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from carryover.data import values
from carryover.data.compute import pc
from carryover.data.manifest import SPLITS
from carryover.data.masks import ids_of
from carryover.data.schema import DENSE, Column, Schema
from carryover.data.thumbnail import data_uri, scaled, thumbnail

BINS, DISTINCT, SAMPLES, LETTERS = 30, 100_000, 4, 400
STRIP, STRIP_WIDTH, SIZED, MASKS_COUNTED = 8, 160, 400, 400
# A range this many times as wide as what holds 99 of 100 values has long tails.
LONG_TAILS = 3.0
# Whole numbers over so few values have a bar each.
FEW = 40


class Look(Protocol):
    """What is gathered of one column."""

    def add(self, split: str, first: int, table: pa.Table) -> None:
        """Take in some rows of a split, of which the first one has the number `first`."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return what is shown."""
        ...


class Distinct:
    """How many different values there are, up to `DISTINCT`."""

    def __init__(self) -> None:
        self._seen: set[int] | None = set()

    def add(self, array: pa.Array) -> None:
        if self._seen is None:
            return
        self._seen.update(map(hash, pc.unique(array.drop_null()).to_pylist()))
        if len(self._seen) > DISTINCT:
            self._seen = None

    def count(self) -> int | None:
        return None if self._seen is None else len(self._seen)


class Histogram:
    """Rows of each split between edges that the statistics of train suggest."""

    def __init__(self, edges: np.ndarray) -> None:
        self._edges = edges
        self._counts: dict[str, np.ndarray] = {split: np.zeros(len(edges) + 1, np.int64) for split in SPLITS}

    def add(self, split: str, numbers: np.ndarray) -> None:
        # The last bin has its upper edge too, as numpy's histogram has.
        places = np.searchsorted(self._edges, numbers, side="right")
        places[numbers == self._edges[-1]] = len(self._edges) - 1
        self._counts[split] += np.bincount(places, minlength=len(self._edges) + 1)

    def to_json(self) -> dict[str, Any]:
        return {
            "edges": self._edges.tolist(),
            "counts": {split: counts[1:-1].tolist() for split, counts in self._counts.items()},
            "below": {split: int(counts[0]) for split, counts in self._counts.items()},
            "above": {split: int(counts[-1]) for split, counts in self._counts.items()},
        }


def edges(told: Mapping[str, Any], *, whole: bool) -> np.ndarray:
    """Return where bars of a histogram begin and end, float64[B + 1].

    Args:
        told: statistics with quantiles, and min and max where they are known.
        whole: whether all values are whole numbers.
    """
    points = told.get("quantiles") or [0.0]
    low, high = float(points[0]), float(points[-1])
    inner = high - low
    least, most = float(told.get("min", low) or low), float(told.get("max", high) or high)
    if most - least > LONG_TAILS * inner > 0:
        least, most = max(least, low - 0.1 * inner), min(most, high + 0.1 * inner)
    if whole and most - least < FEW:
        return np.arange(np.floor(least), np.ceil(most) + 2) - 0.5
    if most <= least:
        margin = abs(least) * 0.1 or 0.5
        least, most = least - margin, least + margin
    return np.linspace(least, most, BINS + 1)


class Numbers:
    """See the module."""

    def __init__(self, column: Column, schema: Schema, rows: int) -> None:
        self._name = column.name
        whole = column.arrow == "int64" or all(
            float(one).is_integer() for one in column.statistics.get("quantiles", ())
        )
        self._histogram = Histogram(edges(column.statistics, whole=whole))
        self._distinct, self._missing = Distinct(), by_split()

    def add(self, split: str, first: int, table: pa.Table) -> None:
        array = table[self._name].combine_chunks()
        self._missing[split] += array.null_count
        self._distinct.add(array)
        self._histogram.add(split, np.asarray(array.drop_null()).astype(np.float64))

    def to_json(self) -> dict[str, Any]:
        shown = {"missing": self._missing, "distinct": self._distinct.count()}
        return {**shown, "histogram": self._histogram.to_json()}


class Texts:
    """See the module."""

    def __init__(self, column: Column, schema: Schema, rows: int) -> None:
        self._name = column.name
        self._histogram = Histogram(edges(column.statistics, whole=True))
        self._distinct, self._missing = Distinct(), by_split()
        self._picked = Picked(rows, SAMPLES)
        self._samples: list[str] = []

    def add(self, split: str, first: int, table: pa.Table) -> None:
        array = table[self._name].combine_chunks()
        self._missing[split] += array.null_count
        self._distinct.add(array)
        self._histogram.add(split, values.words(array.drop_null()).astype(np.float64))
        if split == "train":
            found = [array[place].as_py() for place in self._picked.places(first, len(array))]
            self._samples += [text[:LETTERS] + "…" * (len(text) > LETTERS) for text in found if text]

    def to_json(self) -> dict[str, Any]:
        shown = {"missing": self._missing, "distinct": self._distinct.count()}
        return {**shown, "histogram": self._histogram.to_json(), "samples": self._samples}


class Categories:
    """See the module."""

    def __init__(self, column: Column, schema: Schema, rows: int) -> None:
        self._name, self._is_label = column.name, column.name == schema.label
        self._missing = by_split()
        self._counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}

    def add(self, split: str, first: int, table: pa.Table) -> None:
        array = table[self._name].combine_chunks()
        self._missing[split] += array.null_count
        if self._is_label:
            counted = pc.value_counts(values.as_text(array.drop_null()))
            pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
            self._counts[split].update(dict(pairs))

    def to_json(self) -> dict[str, Any]:
        counts = {split: dict(found.most_common()) for split, found in self._counts.items()}
        return {"missing": self._missing, **({"counts": counts} if self._is_label else {})}


class Pictures:
    """See the module."""

    def __init__(self, column: Column, schema: Schema, rows: int) -> None:
        self._name = column.name
        # Where the label is of pictures, they are shown with it.
        self._picked = Picked(rows, 0 if schema.problem_type in DENSE else STRIP)
        self._step = max(1, rows // SIZED)
        self._missing = by_split()
        self._sizes: list[tuple[int, int]] = []
        self._formats: Counter[str] = Counter()
        self._shown: list[dict[str, Any]] = []

    def add(self, split: str, first: int, table: pa.Table) -> None:
        array = table[self._name]
        self._missing[split] += array.null_count
        if split != "train":
            return
        for place in range(-first % self._step, len(array), self._step):
            self._measure(picture_of(array[place].as_py()))
        for place in self._picked.places(first, len(array)):
            small = thumbnail(picture_of(array[place].as_py()), width=STRIP_WIDTH)
            self._shown += [vars(small)] if small else []

    def _measure(self, data: bytes | None) -> None:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(data or b"")) as image:
                self._sizes.append(image.size)
                self._formats[str(image.format)] += 1
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
            # How many can't be read is known of all of them, from the statistics.
            return

    def to_json(self) -> dict[str, Any]:
        sides = np.array(self._sizes).reshape(-1, 2)
        spans = [[int(np.min(side)), int(np.median(side)), int(np.max(side))] if len(side) else [] for side in sides.T]
        return {
            "missing": self._missing,
            "sizes": {"widths": spans[0], "heights": spans[1]},
            "formats": dict(self._formats.most_common()),
            "looked": len(self._sizes),
            "pictures": self._shown,
        }


class Boxes:
    """See the module."""

    def __init__(self, column: Column, schema: Schema, rows: int) -> None:
        self._name, self._picture = column.name, _picture_column(schema)
        self._picked, self._objects = Picked(rows, STRIP), Counter[int]()
        self._missing = by_split()
        self._shown: list[dict[str, Any]] = []

    def add(self, split: str, first: int, table: pa.Table) -> None:
        array = table[self._name].combine_chunks()
        lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0))
        self._missing[split] += int((lengths == 0).sum())
        if split != "train":
            return
        self._objects.update(lengths.tolist())
        for place in self._picked.places(first, len(array)):
            small = thumbnail(_cell(table, self._picture, place), width=2 * STRIP_WIDTH)
            found = [[box["x1"], box["y1"], box["x2"], box["y2"], box["class"]] for box in array[place].as_py() or ()]
            self._shown += [{"thumbnail": vars(small), "boxes": found}] if small else []

    def to_json(self) -> dict[str, Any]:
        return {"missing": self._missing, "objects": _by_number(self._objects), "pictures": self._shown}


class Masks:
    """See the module."""

    def __init__(self, column: Column, schema: Schema, rows: int) -> None:
        self._name, self._picture = column.name, _picture_column(schema)
        self._picked, self._ids = Picked(rows, STRIP), Counter[int]()
        self._step = max(1, rows // MASKS_COUNTED)
        self._missing = by_split()
        self._shown: list[dict[str, Any]] = []

    def add(self, split: str, first: int, table: pa.Table) -> None:
        array = table[self._name]
        self._missing[split] += array.null_count
        if split != "train":
            return
        for place in range(-first % self._step, len(array), self._step):
            mask = array[place].as_py()
            self._ids.update([len(np.unique(ids_of(mask)))] if mask else [])
        for place in self._picked.places(first, len(array)):
            mask, small = array[place].as_py(), thumbnail(_cell(table, self._picture, place), width=STRIP_WIDTH)
            if mask and small:
                self._shown.append({"thumbnail": vars(small), "mask": _small_mask(mask, small.scale)})

    def to_json(self) -> dict[str, Any]:
        return {"missing": self._missing, "ids": _by_number(self._ids), "pictures": self._shown}


class Absent:
    """Of a type that has nothing to be seen, how often it is missing."""

    def __init__(self, column: Column, schema: Schema, rows: int) -> None:
        self._name, self._missing = column.name, by_split()

    def add(self, split: str, first: int, table: pa.Table) -> None:
        self._missing[split] += table[self._name].null_count

    def to_json(self) -> dict[str, Any]:
        return {"missing": self._missing}


class Picked:
    """Which rows of train are shown: `most` of them, evenly spread, so that sorted data show all of their kinds."""

    def __init__(self, rows: int, most: int) -> None:
        self._waiting = np.unique(np.linspace(0, max(0, rows - 1), min(most, rows) + 2).round().astype(int))[1:-1]
        if rows <= most:
            self._waiting = np.arange(rows)

    def places(self, first: int, rows: int) -> list[int]:
        """Return which of the next rows are shown; those that stood in rows left out are the next ones after them."""
        due = self._waiting[self._waiting < first + rows]
        self._waiting = self._waiting[len(due) :]
        return np.unique(np.maximum(due - first, 0)).tolist()


def by_split() -> dict[str, int]:
    """Return a count of nothing for each split."""
    return {split: 0 for split in SPLITS}  # noqa: C420  whose keys are any text to a type checker


def picture_of(cell: Any) -> bytes | None:
    """Return the bytes of a row's first picture, None where there is none."""
    return next(iter(cell), None) if isinstance(cell, list) else cell


def _picture_column(schema: Schema) -> str:
    return next(column.name for column in (*schema.features("image_path"), *schema.features("image_bytes")))


def _cell(table: pa.Table, name: str, place: int) -> bytes | None:
    return picture_of(table[name][place].as_py())


def _small_mask(data: bytes, scale: float) -> str:
    from PIL import Image

    image = Image.fromarray(ids_of(data))
    return data_uri(image.resize(scaled(image.size, scale), Image.Resampling.NEAREST), "PNG", optimize=True)


def _by_number(counted: Mapping[int, int]) -> dict[str, int]:
    return {str(number): counted[number] for number in sorted(counted)}


LOOKS: dict[str, Callable[[Column, Schema, int], Look]] = {
    "boxes": Boxes,
    "categorical": Categories,
    "identifier": Absent,
    "image_bytes": Pictures,
    "image_path": Pictures,
    "mask": Masks,
    "numerical": Numbers,
    "text": Texts,
}
