"""Owns random access to the rows of one split: verified shards become one Arrow file, which is mapped into memory.

    shards in the store --size, blake3--> one row group at a time --> <scratch>/<digest>-<split>.arrow --> take

The file appears under its name only when whole, so a later attempt on the same disk takes it as it is.
"""

import itertools
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from carryover.data.manifest import SPLITS, DatasetCard, Shard
from carryover.data.schema import Schema
from carryover.ground import bars, storage
from carryover.ground.digests import Hasher, short
from carryover.ground.errors import WrongInput

_BOX = {"x1": pa.float64(), "y1": pa.float64(), "x2": pa.float64(), "y2": pa.float64()}
# What a row of type boxes holds: [] where the picture has none.
BOXES = pa.list_(pa.field("element", pa.struct({**_BOX, "class": pa.string(), "crowd": pa.bool_()})))
BOXES_ARROW = "list<struct<x1: double, y1: double, x2: double, y2: double, class: string, crowd: bool>>"
ARROW_TYPES = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    # Named as Parquet names it, so that what is read back has the same type.
    "list<binary>": pa.list_(pa.field("element", pa.binary())),
    BOXES_ARROW: BOXES,
}
_CHUNK = 8 << 20


def arrow_schema(schema: Schema) -> pa.Schema:
    """Return how the stored columns (all but the unused ones) look in Arrow, in order."""
    stored = [column for column in schema.columns if column.type != "null"]
    return pa.schema([pa.field(column.name, ARROW_TYPES[column.arrow]) for column in stored])


def file_digest(path: Path) -> str:
    """Return the blake3 of a file's bytes, read in pieces so that memory stays flat."""
    hasher = Hasher()
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            hasher.update(piece)
    return hasher.hexdigest()


def materialise(card: DatasetCard, split: str, scratch: Path) -> Path:
    """Write one split as an Arrow IPC file into `scratch`, one row group in memory at a time.

    Args:
        card: as `load_card` gives it, so that its location is known.
        split: "train", "validation" or "test".

    Raises:
        WrongInput: a shard whose bytes are not those that were written, or an unknown split.
    """
    if split not in card.splits:
        raise WrongInput(f"there is no split '{split}'; there are {', '.join(SPLITS)}")
    target = scratch / f"{short(card.digest)}-{split}.arrow"
    if target.exists():
        return target
    with bars.bar(f"rows of {split}", total=card.splits[split].rows) as shown:
        return write_arrow(target, arrow_schema(card.schema), _counted(row_groups(card, split, scratch), shown))


def _counted(tables: Iterable[pa.Table], shown: bars.Bar) -> Iterator[pa.Table]:
    for table in tables:
        yield table
        shown.add(table.num_rows)


def write_arrow(target: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> Path:
    """Write tables, one in memory at a time, as one Arrow IPC file that appears only when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    try:
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for table in tables:
                writer.write_table(table.combine_chunks())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def row_groups(
    card: DatasetCard, split: str, scratch: Path, *, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield a split's row groups (about 8 MiB) in order; a shard of a distant store lies in `scratch` meanwhile.

    Args:
        columns: those that are wanted; None for all.

    Raises:
        WrongInput: a shard that is missing, or whose bytes are not those that were written.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    for shard in card.splits[split].shards:
        yield from _shard_groups(card, shard, scratch / f"{uuid.uuid4().hex}.parquet", columns)


def _shard_groups(
    card: DatasetCard, shard: Shard, temporary: Path, columns: Sequence[str] | None
) -> Iterator[pa.Table]:
    store = storage.open_store(card.location or card.at)
    path = store.local / shard.file if store.local else temporary
    try:
        if not store.local:
            store.download(shard.file, path)
        if path.stat().st_size != shard.size or file_digest(path) != shard.blake3:
            raise WrongInput(
                f"{store.at(shard.file)}: damaged, its bytes are not those that prepare-data wrote; "
                f"delete {store.at('dataset.json')} and run prepare-data again",
                trouble="damaged",
            )
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns, use_threads=False)
    except FileNotFoundError:
        raise WrongInput(f"{store.at(shard.file)}: missing; run prepare-data again") from None
    finally:
        temporary.unlink(missing_ok=True)


class Rows:
    """One split, mapped from disk: any rows in any order, with memory for the rows taken only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        # Each is a handful of pointers into the map: kept, because making them anew costs more than a take.
        self._batches = [self._reader.get_batch(index) for index in range(self._reader.num_record_batches)]
        self._ends = np.cumsum([batch.num_rows for batch in self._batches], dtype=np.int64)
        self._starts = np.concatenate([[0], self._ends[:-1]])
        self._texts: dict[tuple[int, int], np.ndarray] = {}

    @classmethod
    def open(cls, path: Path) -> "Rows":
        """Map a file that `materialise` wrote."""
        return cls(Path(path))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def schema(self) -> pa.Schema:
        return self._reader.schema

    def take(self, indices: np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows at `indices` (int64[k], each in [0, len)), in that order, every column in one chunk.

        Args:
            columns: those that are wanted; None for all.

        Raises:
            IndexError: an index outside the split.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if not len(indices):
            empty = self.schema.empty_table()
            return empty if columns is None else empty.select(list(columns))
        # Arrow's own take over many chunks looks at each of them, and its take of one row costs as much as of many: so
        # one take where one batch has all, else a slice for each stretch of rows that follow each other.
        owners, local = self._places(indices)
        if (owners == owners[0]).all():
            return pa.Table.from_batches([self._selected(owners[0], columns).take(pa.array(local))])
        cuts = np.flatnonzero((indices[1:] != indices[:-1] + 1) | (owners[1:] != owners[:-1])) + 1
        parts = [
            self._selected(owners[first], columns).slice(local[first], last - first)
            for first, last in itertools.pairwise([0, *cuts.tolist(), len(indices)])
        ]
        return pa.Table.from_batches(parts).combine_chunks()

    def sizes(self, indices: np.ndarray, columns: Sequence[str]) -> np.ndarray:
        """Return int64[k], how many bytes of text the rows at `indices` have in `columns`; 0 of another type.

        Only where texts begin and end is read, never a text.

        Raises:
            IndexError: an index outside the split.
        """
        owners, local = self._places(np.asarray(indices, dtype=np.int64))
        there = [self.schema.get_field_index(name) for name in columns]
        fields = [field for field in there if field >= 0 and self.schema.field(field).type == pa.string()]
        found = np.zeros(len(owners), dtype=np.int64)
        for field in fields:
            places = zip(owners.tolist(), local.tolist(), strict=True)
            ends = ((self._text_ends(owner, field), place) for owner, place in places)
            found += np.fromiter((of[place + 1] - of[place] for of, place in ends), dtype=np.int64, count=len(found))
        return found

    def _places(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which batch each row is in, and where in it."""
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"rows {indices.min()} to {indices.max()} asked of a split of {len(self)}")
        owners = np.searchsorted(self._ends, indices, side="right")
        return owners, indices - self._starts[owners]

    def _selected(self, owner: int, columns: Sequence[str] | None) -> pa.RecordBatch:
        batch = self._batches[owner]
        return batch if columns is None else batch.select(list(columns))

    def _text_ends(self, owner: int, field: int) -> np.ndarray:
        """Return int32[rows + 1], where the texts of one column of a batch begin and end; a view of the map."""
        ends = self._texts.get((owner, field))
        if ends is None:
            texts = self._batches[owner].column(field)
            ends = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset :]
            self._texts[owner, field] = ends
        return ends
