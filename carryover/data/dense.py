"""Owns labels that are of pictures, boxes and masks, through both passes.

first pass    BoxTally, MaskTally: boxes (pixels) of each class, and what cannot be read at all
settled       Truth: the classes, and how the ids of masks are renamed
second pass   Fitting: each label against its picture --> the stored column, or everything that does not fit, at once
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from carryover.data import boxes, images, masks
from carryover.data.embed import Embedder, read_image
from carryover.data.pictures import Size, size_of
from carryover.data.problems import Problems, raise_all, shown
from carryover.data.rows import BOXES
from carryover.data.schema import Scalar
from carryover.data.sources import Batch
from carryover.ground.console import say
from carryover.ground.errors import CarryoverError


class Tally(Protocol):
    """What the first pass remembers of a dense label.

    Attributes:
        name: of the column.
        counts: class, as text -> int64[6]: boxes or pixels by the row's own code of the source (3), of given ones.
        missing: rows without a label.
    """

    name: str
    counts: dict[str, np.ndarray]
    problems: Problems
    missing: int
    missing_at: list[str]

    def add(self, batch: Batch, codes: np.ndarray, *, given: bool) -> None: ...


@dataclass
class BoxTally:
    """Boxes of each class; see `Tally`.

    Attributes:
        declared: class -> its id, of all that the source names, with boxes or without; None: taken by another file's.
    """

    name: str
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)
    missing: int = 0
    missing_at: list[str] = field(default_factory=list)
    declared: dict[str, int | str | None] = field(default_factory=dict)

    def add(self, batch: Batch, codes: np.ndarray, *, given: bool) -> None:
        """Take one batch's labels in; `given`: the rows are of a given validation or test source."""
        if not given:
            self._declare(batch)
        for place, value in enumerate(_values(self, batch)):
            if value is None:
                continue
            where = f"{batch.uri} row {batch.first_row + place}"
            try:
                raw = boxes.parse(value) if isinstance(value, str) else None
            except ValueError as error:
                self.problems.note("rows have no boxes that can be read", f"{where} {error}")
                continue
            if raw is None:
                self.problems.note("rows have no boxes that can be read", f"{where} has {str(value)[:40]!r}")
                continue
            for box in raw.boxes:
                self.counts.setdefault(box.name, np.zeros(6, np.int64))[codes[place] + 3 * given] += 1

    def _declare(self, batch: Batch) -> None:
        """Take in what a file declares. The name tells a class; an id that another one has already is not kept."""
        for name, own in batch.categories.items():
            if name not in self.declared:
                taken = own in self.declared.values()
                self.declared[name] = None if taken else own


@dataclass
class MaskTally:
    """Pixels of each id; see `Tally`."""

    name: str
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)
    missing: int = 0
    missing_at: list[str] = field(default_factory=list)

    def add(self, batch: Batch, codes: np.ndarray, *, given: bool) -> None:
        """Take one batch's labels in; `given`: the rows are of a given validation or test source."""
        with ThreadPoolExecutor(images.THREADS) as pool:
            found = pool.map(lambda value: _pixels(value, batch.folder), _values(self, batch))
            for place, one in enumerate(found):
                if isinstance(one, str):
                    where = f"{batch.uri} row {batch.first_row + place}"
                    self.problems.note("masks can't be used", f"{where}: {one}")
                elif one is not None:
                    self._count(one, int(codes[place]) + 3 * given)

    def _count(self, pixels: np.ndarray, code: int) -> None:
        for id in np.flatnonzero(pixels):
            self.counts.setdefault(str(id), np.zeros(6, np.int64))[code] += pixels[id]


def tally_of(type: str, name: str) -> "BoxTally | MaskTally":
    """Return an empty tally of a label of this type."""
    return BoxTally(name) if type == "boxes" else MaskTally(name)


def _values(tally: Tally, batch: Batch) -> list[Any]:
    """Return a batch's labels, after counting those that are missing."""
    values = batch.columns.get(tally.name, pa.nulls(batch.rows)).to_pylist()
    gone = [batch.first_row + place for place, value in enumerate(values) if value is None]
    tally.missing += len(gone)
    if gone and len(tally.missing_at) < 5:
        tally.missing_at.append(f"{batch.uri} row{'s' * (len(gone) > 1)} {', '.join(map(str, gone[:5]))}")
    return values


def _pixels(value: Any, folder: str) -> np.ndarray | str | None:
    """Return int64[256], a mask's pixels by id; what is wrong with it; or None where there is none."""
    if value is None:
        return None
    data = value if isinstance(value, bytes) else read_image(images.resolve(folder, value.strip()))
    name = "its bytes" if isinstance(value, bytes) else value
    if data is None:
        return f"{name} is missing or no picture"
    try:
        return masks.pixels_of(masks.ids_of(data))
    except ValueError as error:
        return f"{name} {error}"


@dataclass(frozen=True)
class Truth:
    """What the first pass settled of a dense label.

    Attributes:
        type: "boxes" or "mask".
        category_ids: class -> its id in the source; of boxes.
        renamed: id in the source -> id that is stored; of masks.
    """

    type: str
    label: str
    picture: str
    classes: tuple[Scalar, ...]
    category_ids: Mapping[str, int | str] = field(default_factory=dict)
    renamed: Mapping[int, int] = field(default_factory=dict)


class _Row(NamedTuple):
    """One row on its way: where it is, its picture's size (None: cannot be read), its label's raw value."""

    where: str
    size: Size | None
    label: Any


class Fitting:
    """Holds labels against their pictures, and remembers what does not fit."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._problems = Problems()
        self._dropped: dict[str, int] = {}
        self._where: list[str] = []

    def start(self, batch: Batch, table: pa.Table) -> None:
        """Remember what the pictures of a batch are called; `table` has names for pictures still."""
        rows = [f"{batch.uri} row {batch.first_row + place}" for place in range(table.num_rows)]
        names = table[self._truth.picture]
        named = names.to_pylist() if pa.types.is_string(names.type) else [None] * len(rows)
        self._where = [name or row for name, row in zip(named, rows, strict=True)]

    def fit(self, table: pa.Table) -> pa.Table:
        """Return the next rows of the batch with the label as it is stored; pictures are bytes now.

        Raises:
            CarryoverError: a label is not what the first pass read.
        """
        truth = self._truth
        where, self._where = self._where[: table.num_rows], self._where[table.num_rows :]
        with ThreadPoolExecutor(images.THREADS) as pool:
            seen = list(pool.map(_seen, _column(table, truth.picture)))
        sizes = [self._size(one, name) for one, name in zip(seen, where, strict=True)]
        rows = [_Row(*row) for row in zip(where, sizes, _column(table, truth.label), strict=True)]
        try:
            fitted = self._boxes(rows) if truth.type == "boxes" else self._masks(rows)
        except ValueError as error:
            raise CarryoverError(
                f"{where[0]}: changed while it was read; run prepare-data again", trouble="source-changed"
            ) from error
        return table.set_column(table.schema.get_field_index(truth.label), truth.label, fitted)

    def _size(self, seen: Size | str | None, where: str) -> Size | None:
        if isinstance(seen, str):
            kind, _, why = seen.partition(": ")
            self._problems.note(kind, f"{where} {why}".strip())
        return seen if isinstance(seen, Size) else None

    def _boxes(self, rows: Sequence[_Row]) -> pa.Array:
        found: list[list[dict[str, Any]]] = []
        for where, size, label in rows:
            raw = boxes.parse(label)
            # A picture that can't be read is an error at the end.
            fits = [] if size is None else boxes.fitted(raw, size, where, self._problems, self._dropped)
            found.append(fits)
        return pa.array(found, BOXES)

    def _masks(self, rows: Sequence[_Row]) -> pa.Array:
        with ThreadPoolExecutor(images.THREADS) as pool:
            found = list(pool.map(lambda row: _mask(row.label, self._truth.renamed), rows))
        for row, (_, size) in zip(rows, found, strict=True):
            if row.size and size and size != (row.size.width, row.size.height):
                said = f"{row.where} is {row.size.width} x {row.size.height}, its mask {size[0]} x {size[1]}"
                self._problems.note("masks have another size than their pictures", said + boxes.turned_words(row.size))
        return pa.array([data for data, _ in found], pa.binary())

    def check(self, embedder: Embedder, columns: Sequence[str]) -> None:
        """Raise WrongInput with everything that did not fit.

        Args:
            columns: those whose names became pictures.
        """
        words = []
        for column in columns:
            lost, examples = embedder.unreadable(column)
            if lost:
                words.append(f"{lost:,} files of column '{column}' are missing or no pictures: {shown(examples, lost)}")
        raise_all(f"label column '{self._truth.label}'", [*words, *self._problems.words()])

    def say(self) -> None:
        """Say what was left out."""
        for reason, count in self._dropped.items():
            say(f"label column '{self._truth.label}': {count:,} boxes {reason} dropped")

    def statistics(self) -> dict[str, Any]:
        """Return what is told of the label besides the statistics of what is stored."""
        truth = self._truth
        if truth.type == "boxes":
            return {"category_ids": dict(truth.category_ids), "dropped": dict(self._dropped)}
        return {"renamed": {str(old): new for old, new in truth.renamed.items()}}


def _seen(value: Any) -> Size | str | None:
    """Return a picture's size; what is wrong with it; or None for a name that led nowhere, which is told elsewhere."""
    if value is None:
        return "rows have no picture"
    if isinstance(value, list) and len(value) > 1:
        return "rows have several pictures, where their label is of one"
    data = value[0] if isinstance(value, list) else value
    try:
        return None if data is None else size_of(data)
    except ValueError as error:
        return f"pictures can't be used: {error}"


def _column(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist()


def _mask(value: Any, renamed: Mapping[int, int]) -> tuple[bytes | None, tuple[int, int] | None]:
    """Return a mask as it is stored, and its width and height; None where there is none to read."""
    data = value[0] if isinstance(value, list) and value else value
    if not isinstance(data, bytes):
        return None, None
    ids = masks.rename(masks.ids_of(data), renamed)
    return masks.stored(ids), (ids.shape[1], ids.shape[0])
