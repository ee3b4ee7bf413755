"""Owns the statistics of the train split that the schema carries; see schema.py for what each type has.

They are taken over blocks of rows that depend on the content alone (shards.py), so that the same content gives the same
numbers to the last bit.
"""

from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from carryover.data import values
from carryover.data.compute import pc
from carryover.data.schema import COUNTS_KEPT

# So many distinct values of a column are counted exactly; beyond, the rarer half is forgotten again and again.
COUNTED = 100_000


class Statistic(Protocol):
    """What is kept of one column."""

    def add(self, array: pa.Array) -> None:
        """Take in the column's values of the next rows."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return what the schema carries."""
        ...


class Numbers:
    """Mean and standard deviation by merging blocks (Chan, Golub and LeVeque 1979); the latter over n, not n - 1."""

    def __init__(self) -> None:
        self._rows = self._count = 0
        self._mean = self._squares = 0.0
        self._least, self._most = np.inf, -np.inf

    def add(self, array: pa.Array) -> None:
        self._rows += len(array)
        block = np.asarray(array.drop_null()).astype(np.float64)
        if not len(block):
            return
        mean = float(block.mean())
        squares = float(((block - mean) ** 2).sum())
        count = self._count + len(block)
        gap = mean - self._mean
        self._squares += squares + gap * gap * self._count * len(block) / count
        self._mean += gap * len(block) / count
        self._count = count
        self._least, self._most = min(self._least, float(block.min())), max(self._most, float(block.max()))

    def to_json(self) -> dict[str, Any]:
        if not self._count:
            return {"count": 0, "missing": self._rows, "mean": None, "std": None, "min": None, "max": None}
        return {
            "count": self._count,
            "missing": self._rows - self._count,
            "mean": self._mean,
            "std": float(np.sqrt(self._squares / self._count)),
            "min": self._least,
            "max": self._most,
        }


class Categories:
    """Rows of each value, as text."""

    def __init__(self) -> None:
        self._missing = 0
        self._exact = True
        self._counts: dict[str, int] = {}

    def add(self, array: pa.Array) -> None:
        self._missing += array.null_count
        counted = pc.value_counts(values.as_text(array.drop_null()))
        texts, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
        for text, count in zip(texts, counts, strict=True):
            self._counts[text] = self._counts.get(text, 0) + count
        if len(self._counts) > COUNTED:
            self._exact = False
            self._counts = dict(self._ranked()[: COUNTED // 2])

    def _ranked(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))

    def to_json(self) -> dict[str, Any]:
        distinct = len(self._counts) if self._exact else None
        counts = dict(self._ranked()[:COUNTS_KEPT])
        return {"missing": self._missing, "distinct": distinct, "exact": self._exact, "counts": counts}


class Texts:
    """How long texts are."""

    def __init__(self) -> None:
        self._missing = self._count = self._words = self._most = 0

    def add(self, array: pa.Array) -> None:
        self._missing += array.null_count
        self._count += len(array) - array.null_count
        self._words += int(values.words(array).sum())
        self._most = max(self._most, pc.max(pc.utf8_length(array)).as_py() or 0)

    def to_json(self) -> dict[str, Any]:
        mean = self._words / self._count if self._count else 0.0
        return {"missing": self._missing, "mean_words": mean, "max_chars": self._most}


class Images:
    """How many images there are, how many that are named cannot be read, and how many one row has at most."""

    def __init__(self) -> None:
        self._missing = self._images = self._unreadable = self._most = 0

    def add(self, array: pa.Array) -> None:
        images = array.flatten()
        self._missing += array.null_count
        self._unreadable += images.null_count
        self._images += len(images) - images.null_count
        self._most = max(self._most, pc.max(pc.list_value_length(array)).as_py() or 0)

    def to_json(self) -> dict[str, Any]:
        return {
            "missing": self._missing,
            "images": self._images,
            "unreadable": self._unreadable,
            "most": self._most,
        }


class Missing:
    """How many values are missing; all there is to say of bytes."""

    def __init__(self) -> None:
        self._missing = 0

    def add(self, array: pa.Array) -> None:
        self._missing += array.null_count

    def to_json(self) -> dict[str, Any]:
        return {"missing": self._missing}


STATISTICS: dict[str, type[Statistic]] = {
    "categorical": Categories,
    "image_bytes": Missing,
    "image_path": Images,
    "numerical": Numbers,
    "text": Texts,
}
