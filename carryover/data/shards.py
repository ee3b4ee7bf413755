"""Owns the second pass: rows go to Parquet shards of their split, and what is said of them is gathered on the way.

    batch --stored types, images for names--> by split --> row groups (about 8 MiB) --> shard files (about 128 MiB)
                                                 |--> content digest         |--> train only: statistics

Groups and shards are cut by the rows' own sizes, never by how the source was cut, so the same content gives the same
files (from the same version of Arrow), and two writers of one dataset cannot hurt each other.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from carryover.data import values
from carryover.data.columns import ColumnPlan
from carryover.data.compute import pc
from carryover.data.content import ContentHash
from carryover.data.dense import Fitting
from carryover.data.embed import Embedder
from carryover.data.manifest import SPLITS, Shard, Split
from carryover.data.progress import Progress
from carryover.data.request import Request
from carryover.data.rows import ARROW_TYPES, BOXES, file_digest
from carryover.data.sources import Batch
from carryover.data.split import TRAIN
from carryover.data.statistics import STATISTICS
from carryover.data.survey import Survey
from carryover.ground.errors import CarryoverError, WrongInput

GROUP_BYTES = 8 << 20
GROUP_ROWS = 65_536
SHARD_BYTES = 128 << 20
# Four doubles, and about a word for the class.
BOX_BYTES = 48


@dataclass(frozen=True)
class Written:
    """What the second pass left.

    Attributes:
        splits: shards in a folder.
        summaries: what stands for each split in the digest.
        statistics: of train's columns.
        images: folder of images -> what stands for its files; None where that cannot be told again.
    """

    splits: dict[str, Split]
    summaries: dict[str, dict[str, Any]]
    statistics: dict[str, dict[str, Any]]
    images: dict[str, str] | None


def write_shards(request: Request, survey: Survey, codes_path: Path, folder: Path) -> Written:
    """Read everything again and write the shards into a local folder.

    Raises:
        WrongInput: an infinite number; labels of pictures that do not fit them, all of them.
        CarryoverError: the source is not what the first pass read.
    """
    stored = [plan for plan in survey.columns if plan.type != "null"]
    schema = pa.schema([pa.field(plan.name, ARROW_TYPES[plan.stored]) for plan in stored])
    statistics = {plan.name: STATISTICS[plan.type]() for plan in stored}
    writers = {name: SplitWriter(name, schema, folder) for name in SPLITS}
    writers["train"].statistics = statistics
    progress = Progress("second pass", files=len(survey.file_rows), rows=sum(survey.file_rows.values()))
    named = [plan.name for plan in stored if _names(plan)]
    embedder = Embedder(named, several=survey.truth is None)
    fitting = Fitting(survey.truth) if survey.truth else None
    with open(codes_path, "rb") as source, embedder, progress:
        for role, _, batch in request.batches(progress):
            own = np.frombuffer(source.read(batch.rows), dtype=np.uint8)
            if len(own) < batch.rows:
                raise CarryoverError(
                    f"{batch.uri}: changed while it was read; run prepare-data again", trouble="source-changed"
                )
            table = _stored_table(batch, survey)
            if role == "source" and survey.whole:
                whole = pc.is_in(
                    table[request.target], value_set=pa.array(list(survey.whole), table[request.target].type)
                )
                own = np.where(np.asarray(whole), np.uint8(TRAIN), own)
            if fitting:
                fitting.start(batch, table)
            for found in embedder.pieces(table, batch.folder):
                mine, own = own[: found.num_rows], own[found.num_rows :]
                piece = fitting.fit(found) if fitting else found
                for code, name in enumerate(SPLITS):
                    if (mine == code).any():
                        writers[name].add(piece.filter(pa.array(mine == code)))
        if source.read(1):
            raise CarryoverError(
                f"{request.files['source'][0].uri}: changed while it was read; run prepare-data again",
                trouble="source-changed",
            )
        folders = embedder.folders()
    if fitting:
        fitting.check(embedder, named)
    embedder.say()
    splits = {name: writer.close() for name, writer in writers.items()}
    summaries = {name: writer.content.summary() for name, writer in writers.items()}
    told = {name: found.to_json() for name, found in statistics.items()}
    if fitting:
        told[request.target] |= fitting.statistics()
        fitting.say()
    return Written(splits, summaries, told, folders)


def _names(plan: ColumnPlan) -> bool:
    """Tell whether a column's raw values are names of pictures, which are stored for them."""
    return plan.type == "image_path" or (plan.type == "mask" and plan.physical == "string")


def _stored_table(batch: Batch, survey: Survey) -> pa.Table:
    """Return a batch as it is stored, but for images, whose names it still has."""
    arrays: dict[str, pa.Array] = {}
    for plan in survey.columns:
        if plan.type == "null":
            continue
        # A JSONL batch lacks the columns that none of its rows has.
        raw = batch.columns.get(plan.name, pa.nulls(batch.rows))
        try:
            stored = "string" if plan.type == "boxes" or _names(plan) else plan.stored
            array = values.to_stored(raw, physical=plan.physical, stored=stored)
        except pa.ArrowInvalid as error:
            raise CarryoverError(
                f"{batch.uri}: changed while it was read; run prepare-data again", trouble="source-changed"
            ) from error
        place = values.not_finite(array)
        if place >= 0:
            raise WrongInput(
                f"{batch.uri}: column '{plan.name}' is infinite in row {batch.first_row + place}; "
                "give a finite number, or leave it empty for a missing one"
            )
        arrays[plan.name] = array
    return pa.table(arrays)


class SplitWriter:
    """The shards of one split, its content digest, and for train the columns' statistics."""

    def __init__(self, name: str, schema: pa.Schema, folder: Path) -> None:
        self.content = ContentHash(schema.names)
        self.statistics: dict[str, Any] = {}
        self._name = name
        self._schema = schema
        self._folder = folder
        self._pending = schema.empty_table()
        self._sizes = np.empty(0, dtype=np.int64)
        self._shards: list[Shard] = []
        self._writer: pq.ParquetWriter | None = None
        self._shard_rows = self._shard_bytes = 0

    def add(self, table: pa.Table) -> None:
        """Take in the next rows; they are written as row groups fill."""
        self._pending = pa.concat_tables([self._pending, table])
        self._sizes = np.concatenate([self._sizes, row_sizes(table)])
        while cut := _cut(self._sizes):
            self._write_group(self._pending.slice(0, cut), int(self._sizes[:cut].sum()))
            self._pending, self._sizes = self._pending.slice(cut), self._sizes[cut:]

    def close(self) -> Split:
        """Write what is left and return the split."""
        if self._pending.num_rows:
            self._write_group(self._pending, int(self._sizes.sum()))
        self._end_shard()
        return Split(sum(shard.rows for shard in self._shards), tuple(self._shards))

    def _write_group(self, table: pa.Table, size: int) -> None:
        table = table.combine_chunks()
        self.content.update(table)
        for name, statistic in self.statistics.items():
            statistic.add(table[name].combine_chunks())
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._folder / self._file(), self._schema, compression="zstd")
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._shard_rows += table.num_rows
        self._shard_bytes += size
        if self._shard_bytes >= SHARD_BYTES:
            self._end_shard()

    def _file(self) -> str:
        return f"{self._name}-{len(self._shards):05d}.parquet"

    def _end_shard(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        path = self._folder / self._file()
        self._shards.append(Shard(path.name, self._shard_rows, path.stat().st_size, file_digest(path)))
        self._writer, self._shard_rows, self._shard_bytes = None, 0, 0


def row_sizes(table: pa.Table) -> np.ndarray:
    """Return int64[rows], about how many bytes each row takes in memory."""
    sizes = np.zeros(table.num_rows, dtype=np.int64)
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            sizes += np.asarray(pc.fill_null(pc.binary_length(column), 0)) + 4
        elif column.type == BOXES:
            sizes += BOX_BYTES * np.asarray(pc.fill_null(pc.list_value_length(column), 0)) + 4
        elif pa.types.is_list(column.type):
            sizes += _list_sizes(column.combine_chunks())
        else:
            sizes += 8
    return sizes


def _list_sizes(array: pa.ListArray) -> np.ndarray:
    lengths = np.asarray(pc.fill_null(pc.binary_length(array.flatten()), 0)) + 4
    parents = np.asarray(pc.list_parent_indices(array))
    return np.bincount(parents, weights=lengths, minlength=len(array)).astype(np.int64)


def _cut(sizes: np.ndarray) -> int:
    """Return how many rows the next full row group has, 0 where there are not enough yet."""
    if not len(sizes):
        return 0
    enough = int(np.searchsorted(np.cumsum(sizes), GROUP_BYTES)) + 1
    enough = min(enough, GROUP_ROWS)
    return enough if enough <= len(sizes) else 0
