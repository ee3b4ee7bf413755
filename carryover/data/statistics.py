"""Owns the statistics of the train split that the schema carries; see schema.py for what each type has.

They are taken over blocks of rows that depend on the content alone (shards.py), so that the same content gives the same
numbers to the last bit. Quantiles and words are of a sample: of the values whose numbers in the split hash lowest.
"""

import re
import zlib
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from carryover.data import values
from carryover.data.boxes import Boxes
from carryover.data.compute import pc
from carryover.data.masks import Masks
from carryover.data.schema import COUNTS_KEPT
from carryover.data.split import TRAIN
from carryover.data.tally import Sampler

# So many distinct values of a column are counted exactly; beyond, the rarer half is forgotten again and again.
COUNTED = 100_000
# Quantile i of n is the value below which (i + 1/2) / n of the sample lie.
QUANTILES = 100
SAMPLED = 4000
# Words fall into so many groups by their hash; of a long text only its beginning counts. In fewer groups rare words, by
# which one subject differs from another, drown among the frequent ones that stand in every text (docs/extend.md).
WORD_GROUPS = 256
WORDS_WITHIN = 20_000


class Statistic(Protocol):
    """What is kept of one column."""

    def add(self, array: pa.Array) -> None:
        """Take in the column's values of the next rows."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return what the schema carries."""
        ...


class Sample:
    """A bounded sample of rows of numbers, the same for the same values however they are cut into blocks."""

    def __init__(self) -> None:
        self._sampler = Sampler(SAMPLED)
        self._priorities = np.empty(0, dtype=np.uint64)
        self._kept: np.ndarray | None = None
        self._waiting = np.empty(0, dtype=np.uint64)

    def choose(self, rows: int) -> np.ndarray:
        """Return the places, among the next `rows` values, of those that `keep` is to be given."""
        places, self._waiting = self._sampler.choose(np.full(rows, TRAIN, dtype=np.uint8))
        return places

    def keep(self, rows: np.ndarray) -> None:
        """Take in the values [k] or [k, n] of the places just chosen."""
        self._priorities = np.concatenate([self._priorities, self._waiting])
        self._kept = rows if self._kept is None else np.concatenate([self._kept, rows])
        if len(self._priorities) > SAMPLED:
            lowest = np.argsort(self._priorities)[:SAMPLED]
            self._priorities, self._kept = self._priorities[lowest], self._kept[lowest]

    def rows(self) -> np.ndarray:
        """Return what is kept, in no order; empty where there was nothing."""
        return np.empty(0) if self._kept is None else self._kept


def quantiles(sample: np.ndarray) -> list[Any]:
    """Return `QUANTILES` values of a sample [n], each one of its own values; [] where there are none."""
    if not len(sample):
        return []
    places = ((np.arange(QUANTILES) + 0.5) / QUANTILES * len(sample)).astype(np.int64)
    return np.sort(sample)[places].tolist()


class Numbers:
    """Mean and standard deviation by merging blocks (Chan, Golub and LeVeque 1979); the latter over n, not n - 1."""

    def __init__(self) -> None:
        self._rows = self._count = 0
        self._mean = self._squares = 0.0
        self._least, self._most = np.inf, -np.inf
        self._sample = Sample()

    def add(self, array: pa.Array) -> None:
        self._rows += len(array)
        block = np.asarray(array.drop_null()).astype(np.float64)
        if not len(block):
            return
        self._sample.keep(block[self._sample.choose(len(block))])
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
            "quantiles": quantiles(self._sample.rows()),
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
    """How long texts are, and how often words of each group stand in them."""

    def __init__(self) -> None:
        self._missing = self._count = self._words = self._most = 0
        self._sample = Sample()

    def add(self, array: pa.Array) -> None:
        self._missing += array.null_count
        self._count += len(array) - array.null_count
        self._words += int(values.words(array).sum())
        self._most = max(self._most, pc.max(pc.utf8_length(array)).as_py() or 0)
        texts = array.drop_null()
        chosen = texts.take(pa.array(self._sample.choose(len(texts))))
        groups = [word_groups(text) for text in chosen.to_pylist()]
        if groups:
            self._sample.keep(np.column_stack([values.words(chosen), np.stack(groups)]))

    def to_json(self) -> dict[str, Any]:
        sample = self._sample.rows().reshape(-1, 1 + WORD_GROUPS)
        return {
            "missing": self._missing,
            "count": self._count,
            "mean_words": self._words / self._count if self._count else 0.0,
            "max_chars": self._most,
            "quantiles": quantiles(sample[:, 0].astype(np.int64)),
            "word_groups": sample[:, 1:].sum(axis=0).astype(np.int64).tolist(),
        }


def word_groups(text: str) -> np.ndarray:
    """Return int64[WORD_GROUPS], how many different words of each group a text has, case and punctuation aside.

    A word counts once a text: said again and again in one, it would look like a change of them all.
    """
    words = set(re.findall(r"\w+", text[:WORDS_WITHIN].lower()))
    found = [zlib.crc32(word.encode()) % WORD_GROUPS for word in words]
    return np.bincount(found, minlength=WORD_GROUPS).astype(np.int64)


class Images:
    """How many images there are, how many that are named cannot be read, and how many one row has at most."""

    def __init__(self) -> None:
        self._missing = self._count = self._images = self._unreadable = self._most = 0

    def add(self, array: pa.Array) -> None:
        images = array.flatten()
        self._missing += array.null_count
        self._count += len(array) - array.null_count
        self._unreadable += images.null_count
        self._images += len(images) - images.null_count
        self._most = max(self._most, pc.max(pc.list_value_length(array)).as_py() or 0)

    def to_json(self) -> dict[str, Any]:
        return {
            "missing": self._missing,
            "count": self._count,
            "images": self._images,
            "unreadable": self._unreadable,
            "most": self._most,
        }


class Missing:
    """How many values are missing; all there is to say of bytes."""

    def __init__(self) -> None:
        self._missing = self._count = 0

    def add(self, array: pa.Array) -> None:
        self._missing += array.null_count
        self._count += len(array) - array.null_count

    def to_json(self) -> dict[str, Any]:
        return {"missing": self._missing, "count": self._count}


STATISTICS: dict[str, type[Statistic]] = {
    "boxes": Boxes,
    "categorical": Categories,
    "identifier": Missing,
    "image_bytes": Missing,
    "image_path": Images,
    "mask": Masks,
    "numerical": Numbers,
    "text": Texts,
}
