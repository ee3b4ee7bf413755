"""Owns what the first pass remembers of each column and of the label: a bounded amount, however long the data.

    kept exactly          rows, missing, kinds, the first value that is no number; distinct values up to `CATEGORIES`
    kept of a sample      whether text repeats, words, image names: of the 5000 train rows whose numbers hash lowest
    label                 rows of each value, by split, up to `CLASS_LIMIT` values; beyond, only that there are more

Rows count for the split of their own code; those of a class that stays in train whole (split.py) are not moved here.
The sample depends on the rows' numbers in the source only, so not on how they are cut into files or batches.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from carryover.data import values
from carryover.data.columns import CATEGORIES, TEXT_SAMPLE, ColumnFacts
from carryover.data.compute import pc
from carryover.data.order import mix
from carryover.data.problem import CLASS_LIMIT
from carryover.data.sources import Batch
from carryover.data.split import TRAIN, VALIDATION
from carryover.ground.digests import Hasher
from carryover.ground.errors import WrongInput

# Of bytes fewer are kept, because an image may be large; longer text is no path.
BYTES_SAMPLE = 64
LONGEST_PATH = 4096
LONGEST_KEY = 256
SHOWN = 5


class Sampled(NamedTuple):
    """One sampled value: its priority (lowest stay), a key that tells it from others, its words, what may be opened."""

    priority: int
    key: bytes | None
    words: int
    folder: str
    value: str | bytes | None


class Sampler:
    """Chooses the same rows for every column: those of train whose numbers hash lowest."""

    def __init__(self, size: int = TEXT_SAMPLE) -> None:
        self._size = size
        self._lowest = np.empty(0, dtype=np.uint64)
        self._seen = 0

    def choose(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (places, priorities) of the rows of the next batch that may stay in the sample."""
        priorities = mix(np.arange(self._seen, self._seen + len(codes)))
        self._seen += len(codes)
        wanted = codes == TRAIN
        self._lowest = np.sort(np.concatenate([self._lowest, priorities[wanted]]))[: self._size]
        if len(self._lowest) == self._size:
            wanted &= priorities <= self._lowest[-1]
        return np.flatnonzero(wanted), priorities[wanted]


@dataclass
class ColumnTally:
    """All that is remembered of one column.

    Attributes:
        wanted: what each value must be, "number", "text", "bytes", or "" for anything: `odd_rows` counts the others.
        present: values that are not missing; like `odd_rows` of all splits.
    """

    name: str
    wanted: str = ""
    kinds: set[str] = field(default_factory=set)
    rows: int = 0
    missing: int = 0
    odd_value: str = ""
    odd_rows: int = 0
    present: int = 0
    seen: set[bytes | None] | None = field(default_factory=set)
    held_out: set[bytes | None] = field(default_factory=set)
    sample: list[Sampled] = field(default_factory=list)

    def skip(self, rows: int) -> None:
        """Count rows of train that stood in a file before the column was first seen in it."""
        self.rows += rows
        self.missing += rows
        if rows and self.seen is not None:
            self.seen.add(None)

    def add(self, batch: Batch, canonical: pa.Array, codes: np.ndarray) -> None:
        """Take one batch's values in; `codes` (uint8[rows]) says each row's split."""
        array = batch.columns[self.name]
        kinds = batch.kinds(self.name)
        if kinds - values.NUMERIC and not self.odd_value and pa.types.is_string(array.type):
            place = values.first_word(array)
            if place >= 0:
                self.odd_value = f"{batch.uri} row {batch.first_row + place} has {array[place].as_py()[:80]!r}"
        self.kinds |= kinds
        self.present += len(array) - array.null_count
        self.odd_rows += _odd(array, kinds, self.wanted, typed=self.name in batch.known)
        train = codes == TRAIN
        self.rows += int(train.sum())
        self.missing += int((np.asarray(pc.is_null(array)) & train).sum())
        if self.seen is not None:
            self._add_distinct(canonical, codes)

    def _add_distinct(self, canonical: pa.Array, codes: np.ndarray) -> None:
        coded = canonical.dictionary_encode(null_encoding="encode")
        places = np.asarray(coded.indices)
        assert self.seen is not None
        # Beyond the cap a column is no category by its count, so its values need not be known.
        for code, known in ((TRAIN, self.seen), (VALIDATION, self.held_out)):
            found = np.unique(places[codes == code])
            if len(found) > CATEGORIES + 1 or len(known) > CATEGORIES:
                self.seen, self.held_out = None, set()
                return
            known.update(_key(value) for value in coded.dictionary.take(pa.array(found)).to_pylist())

    def add_sample(self, batch: Batch, places: np.ndarray, priorities: np.ndarray) -> None:
        """Take in the values of the sampled rows of a batch (text and bytes only; of others nothing is asked)."""
        array = batch.columns[self.name].take(pa.array(places))
        if pa.types.is_list(array.type):
            # The first of several images tells as much as all.
            array = pa.array([value[0] if value else None for value in array.to_pylist()], pa.binary())
        if pa.types.is_string(array.type):
            counted = values.words(array)
        elif pa.types.is_binary(array.type):
            counted = np.zeros(len(array), dtype=np.int64)
        else:
            return
        folder = batch.folder
        for priority, words, value in zip(priorities, counted, array.to_pylist(), strict=True):
            key = None if value is None else _short(value.encode() if isinstance(value, str) else value)
            path = value if isinstance(value, bytes) or (value and len(value) <= LONGEST_PATH) else None
            self.sample.append(Sampled(int(priority), key, int(words), folder, path))
        size = BYTES_SAMPLE if pa.types.is_binary(array.type) else TEXT_SAMPLE
        if len(self.sample) > 2 * size:
            self.sample = self.lowest(size)

    def lowest(self, size: int) -> list[Sampled]:
        """Return the `size` sampled values of the lowest priority."""
        return sorted(self.sample, key=lambda entry: entry.priority)[:size]

    def facts(self) -> ColumnFacts:
        """Return what the rules ask."""
        sample = self.lowest(TEXT_SAMPLE)
        words = {entry.key: entry.words for entry in sample if entry.key is not None}
        # More distinct values than the cap may stand in the sets of the last batch.
        distinct = len(self.seen) if self.seen is not None and len(self.seen) <= CATEGORIES else None
        return ColumnFacts(
            name=self.name,
            kinds=frozenset(self.kinds),
            rows=self.rows,
            missing=self.missing,
            distinct=distinct,
            unseen=self.seen is not None and not self.held_out <= self.seen,
            sampled=len(sample),
            sample_distinct=len({entry.key for entry in sample}),
            mean_words=sum(words.values()) / len(words) if words else 0.0,
            odd_value=self.odd_value,
        )


@dataclass
class LabelTally:
    """How many rows each label value has: by the row's own code in the source, and in given validation, test rows."""

    name: str
    counts: dict[str, np.ndarray] | None = field(default_factory=dict)
    missing: int = 0
    missing_at: list[str] = field(default_factory=list)

    def add(self, batch: Batch, codes: np.ndarray, *, given: bool) -> None:
        """Take one batch's labels in.

        Args:
            given: the rows are of a given validation or test source, and `codes` says which.
        """
        if self.name in batch.columns and pa.types.is_binary(batch.columns[self.name].type):
            raise WrongInput(f"{batch.uri}: label column '{self.name}' holds bytes; a label is text or a number")
        # A JSONL batch lacks the columns that none of its rows has.
        array = values.as_text(batch.columns.get(self.name, pa.nulls(batch.rows)))
        if array.null_count:
            self.missing += array.null_count
            rows = np.flatnonzero(np.asarray(pc.is_null(array)))[:SHOWN] + batch.first_row
            if len(self.missing_at) < SHOWN:
                self.missing_at.append(f"{batch.uri} row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}")
        if self.counts is None:
            return
        coded = pc.dictionary_encode(array)
        places = np.asarray(pc.fill_null(coded.indices, len(coded.dictionary)))
        table = np.zeros((len(coded.dictionary) + 1, 6), dtype=np.int64)
        np.add.at(table, (places, codes + (3 if given else 0)), 1)
        for text, row in zip(coded.dictionary.to_pylist(), table[:-1], strict=True):
            self.counts[text] = self.counts.get(text, 0) + row
        if len(self.counts) > CLASS_LIMIT:
            self.counts = None

    def typed(self, physical: str) -> "dict[Any, np.ndarray] | None":
        """Return label value in its own type -> int64[6], rows by code of the source (3) and of given splits (3)."""
        if self.counts is None:
            return None
        array = values.to_physical(pa.array(list(self.counts), pa.string()), physical)
        merged: dict[Any, np.ndarray] = {}
        for value, row in zip(array.to_pylist(), self.counts.values(), strict=True):
            merged[value] = merged.get(value, 0) + row
        return merged


def _odd(array: pa.Array, kinds: frozenset[str], wanted: str, *, typed: bool) -> int:
    """Return how many values are not what is wanted; see `ColumnTally`."""
    if not wanted:
        return 0
    if "nested" in kinds:
        # Which of them are missing is not known any more.
        return len(array)
    bytes = pa.types.is_binary(array.type) or pa.types.is_list(array.type)
    if bytes != (wanted == "bytes"):
        return len(array) - array.null_count
    if wanted == "number" and pa.types.is_string(array.type) and kinds - values.NUMERIC:
        return values.count_words(array, typed=typed)
    return 0


def _key(value: bytes | None) -> bytes | None:
    return value if value is None or len(value) <= LONGEST_KEY else _short(value)


def _short(value: bytes) -> bytes:
    return Hasher(value).digest(16)
