"""Owns which rows an extension trains on: those of the new Dataset or what is new in it, and some of the parent's.

    data.mode             snapshot    every train row of the new Dataset
                          delta       those that the parent's Dataset has in none of its splits
    data.replay.fraction              and so many of the parent's train rows, behind them

A row is known by its content: all stored values, the label's too, but not its identifiers, which an export may give
anew. Which rows are replayed depends on the seed and their numbers alone: a larger fraction adds rows and takes none
away, and so do more rows at the parent's end. Memory holds a row group; what is known of the parent is a file of 8
bytes a row, sorted and mapped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from carryover.data import values
from carryover.data.compute import pc
from carryover.data.config import DELTA, SNAPSHOT, DataConfig
from carryover.data.manifest import SPLITS, DatasetCard
from carryover.data.order import mix
from carryover.data.rows import arrow_schema, materialise, row_groups, write_arrow
from carryover.data.split import row_keys
from carryover.ground.digests import short
from carryover.ground.errors import WrongInput

# Keeps the choice of rows to replay apart from every other use of the seed.
_REPLAY = 0x7265706C6179
_CHUNK = 1 << 20
_TOP = np.uint64(48)


class NothingNew(WrongInput):
    """Raised for an extension by what is new where nothing is: its parent is as good as it can get from these data."""

    usual = "too-few-rows"


@dataclass(frozen=True)
class Mixture:
    """The rows to train on.

    Attributes:
        path: an Arrow file, as `Rows.open` reads it.
        new: rows of the new Dataset, which come first.
        known: its train rows that are left out, because the parent's Dataset has them.
        replayed: rows of the parent's Dataset, which come last.
    """

    path: Path
    new: int
    known: int
    replayed: int

    @property
    def words(self) -> str:
        """Return what a person is told."""
        parts = [f"{self.new:,} rows of the dataset"]
        parts += [f"without {self.known:,} that the Model's dataset has"] if self.known else []
        parts += [f"and {self.replayed:,} of the Model's dataset again"] if self.replayed else []
        return f"training on {', '.join(parts)}"


def check_parentless(config: DataConfig) -> None:
    """Raise WrongInput where a run that extends nothing is asked for what only an extension has."""
    asked = [("data.mode", config.mode)] if config.mode != SNAPSHOT else []
    asked += [("data.replay.fraction", config.replay.fraction)] if config.replay.fraction else []
    for name, value in asked:
        raise WrongInput(
            f"{name}: {value!r} is not possible here: it is about the dataset of a Model that is extended; give "
            "--init-from, or leave the key out",
            trouble="wrong-flags",
        )


def needs_parent(config: DataConfig) -> bool:
    """Tell whether the rows to train on depend on the parent's Dataset."""
    return config.mode != SNAPSHOT or config.replay.fraction > 0


def training_rows(
    card: DatasetCard, config: DataConfig, scratch: Path, *, parent: DatasetCard | None, seed: int
) -> Mixture:
    """Write the rows that an extension trains on into `scratch`.

    Args:
        card, parent: as `load_card` gives them, so that their locations are known.
        parent: the Dataset of the Model that is extended; it may be None where `needs_parent` says no.

    Raises:
        NothingNew: when only new rows are wanted and there are none.
        WrongInput: a damaged shard, or rows of the parent that can't stand beside the new ones.
    """
    if not needs_parent(config):
        return Mixture(materialise(card, "train", scratch), card.splits["train"].rows, 0, 0)
    assert parent is not None
    told = f"{config.mode}-{config.replay.fraction}-{seed}-{short(parent.digest)}"
    target = scratch / f"{short(card.digest)}-train-{told}.arrow"
    parts = _Parts(card, parent, config, scratch, seed)
    write_arrow(target, arrow_schema(card.schema), parts.tables())
    return Mixture(target, parts.new, card.splits["train"].rows - parts.new, parts.replayed)


def new_rows(card: DatasetCard, parent: DatasetCard, scratch: Path) -> int:
    """Return how many train rows of a Dataset are new to another one. Both are read once, a row group at a time."""
    return sum(table.num_rows for table in _new_tables(card, parent, scratch))


@dataclass
class _Parts:
    """The tables of a mixture, counted as they are written."""

    card: DatasetCard
    parent: DatasetCard
    config: DataConfig
    scratch: Path
    seed: int
    new: int = 0
    replayed: int = 0

    def tables(self) -> Iterator[pa.Table]:
        delta = self.config.mode == DELTA
        some = _new_tables(self.card, self.parent, self.scratch) if delta else None
        for table in some if some is not None else row_groups(self.card, "train", self.scratch):
            self.new += table.num_rows
            yield table
        if not self.new:
            raise NothingNew(
                f"data.mode delta: nothing is new in dataset {short(self.card.digest)}, dataset "
                f"{short(self.parent.digest)} of the Model has all of its {self.card.splits['train'].rows} train rows"
            )
        for table in _replayed(self.parent, self.config.replay.fraction, self.scratch, seed=self.seed):
            self.replayed += table.num_rows
            yield _conformed(table, self.card, self.parent)


def _new_tables(card: DatasetCard, parent: DatasetCard, scratch: Path) -> Iterator[pa.Table]:
    """Yield the train rows of a Dataset that another one does not have."""
    if card.digest == parent.digest:
        return
    known = _known(parent, scratch)
    for table in row_groups(card, "train", scratch):
        keys = _contents(table.drop_columns(_identifiers(card)))
        places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        fresh = table.filter(pa.array(known[places] != keys))
        if fresh.num_rows:
            yield fresh


def _known(parent: DatasetCard, scratch: Path) -> np.ndarray:
    """Return the sorted contents of all rows of a Dataset, uint64[n], mapped from a file; n is at least 1."""
    scratch.mkdir(parents=True, exist_ok=True)
    shape = (max(1, sum(parent.rows().values())),)
    known = np.memmap(scratch / f"{short(parent.digest)}-contents", dtype=np.uint64, mode="w+", shape=shape)
    start = 0
    for split in SPLITS:
        for table in row_groups(parent, split, scratch):
            known[start : start + table.num_rows] = _contents(table.drop_columns(_identifiers(parent)))
            start += table.num_rows
    known.sort()
    return known


def _identifiers(card: DatasetCard) -> list[str]:
    return [column.name for column in card.schema.columns if column.type == "identifier"]


def _contents(table: pa.Table) -> np.ndarray:
    """Return uint64[rows], a hash of what each row holds; a missing value is the same as a column that is not there."""
    return row_keys({name: _bytes(table[name].combine_chunks()) for name in table.column_names}, table.num_rows)


def _bytes(array: pa.Array) -> pa.Array:
    """Return values as bytes, numbers by what they say (1 and 1.0 are one value), texts letter by letter."""
    if pa.types.is_list(array.type) or pa.types.is_binary(array.type):
        return values.canonical(array)
    return pc.cast(values.as_text(array), pa.binary())


def _replayed(parent: DatasetCard, fraction: float, scratch: Path, *, seed: int) -> Iterator[pa.Table]:
    """Yield the chosen train rows of a Dataset, in its order."""
    rows = parent.splits["train"].rows
    count = int(fraction * rows + 0.5)
    if not count:
        return
    highest, start = _highest(rows, count, seed), 0
    for table in row_groups(parent, "train", scratch):
        chosen = mix(seed, _REPLAY, np.arange(start, start + table.num_rows)) <= highest
        start += table.num_rows
        if chosen.any():
            yield table.filter(pa.array(chosen))


def _highest(rows: int, count: int, seed: int) -> np.uint64:
    """Return the count-th lowest of the rows' numbers hashed with the seed; no two are alike, as `mix` is a bijection.

    Found in two passes with flat memory: first in which of 65,536 equal parts it lies, then among those.
    """

    def hashed() -> Iterator[np.ndarray]:
        for start in range(0, rows, _CHUNK):
            yield mix(seed, _REPLAY, np.arange(start, min(rows, start + _CHUNK)))

    ends = np.cumsum(sum(np.bincount((part >> _TOP).astype(np.int64), minlength=1 << 16) for part in hashed()))
    place = int(np.searchsorted(ends, count))
    inside = np.concatenate([part[(part >> _TOP) == np.uint64(place)] for part in hashed()])
    below = int(ends[place - 1]) if place else 0
    return np.sort(inside)[count - below - 1]


def _conformed(table: pa.Table, card: DatasetCard, parent: DatasetCard) -> pa.Table:
    """Return the parent's rows as the new Dataset stores its own: its columns and types, nulls for what is not there.

    Raises:
        WrongInput: for a label that is not there, or values that the new type does not have.
    """
    schema = arrow_schema(card.schema)
    if card.schema.label not in table.column_names:
        raise WrongInput(
            f"data.replay.fraction: dataset {short(parent.digest)} of the Model has no label column "
            f"'{card.schema.label}'; {_REMEDY}"
        )
    arrays = []
    for field in schema:
        array = table[field.name] if field.name in table.column_names else pa.nulls(table.num_rows)
        try:
            text = pa.types.is_string(field.type) and not pa.types.is_null(array.type)
            arrays.append(values.as_text(array) if text else pc.cast(array, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise WrongInput(
                f"data.replay.fraction: column '{field.name}' is {array.type} in dataset {short(parent.digest)} of the "
                f"Model, and some of it can't be stored as {field.type}, as the new rows are; {_REMEDY}"
            ) from None
    return pa.table(arrays, schema=schema)


_REMEDY = "prepare the new data with --schema-from the Model"
