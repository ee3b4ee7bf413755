"""Owns what people are shown of a dataset's rows beside statistics: distributions by split, samples, repeated rows.

    <store>/datasets/<digest>/portrait.json     made of the shards, so it can be made again; not part of the digest

Of much data only every n-th row group is looked at (`whole` is then false), so that it takes a bounded time. Statistics
in the schema (statistics.py) are of all rows of train, and what training reads; these are for the eye.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from carryover.data.looks import LOOKS, by_split
from carryover.data.manifest import SPLITS, DatasetCard
from carryover.data.rows import row_groups
from carryover.data.schema import DENSE, Schema
from carryover.data.split import row_keys
from carryover.data.telling import MOST_ROWS as TOLD_BY
from carryover.data.telling import columns_asked, telling
from carryover.data.values import canonical
from carryover.ground import storage
from carryover.ground.errors import WrongInput

FILE = "portrait.json"
FORMAT = 2
# Beyond these, row groups are left out; a distant dataset of more is not fetched again for a picture of it.
MOST_ROWS, MOST_BYTES = 1_000_000, 1 << 30
# So many bytes are hashed at once.
HASHED_BYTES = 2 << 20


@dataclass(frozen=True)
class Repeated:
    """Rows that are equal in all features, identifiers aside.

    Attributes:
        within: split -> rows that repeat an earlier one of the same split.
        leaked: "validation", "test" -> rows that stand in train too.
        contradicting: rows of all splits that equal another one in all but the label.
    """

    within: Mapping[str, int]
    leaked: Mapping[str, int]
    contradicting: int


@dataclass(frozen=True)
class Portrait:
    """See the module.

    Attributes:
        rows: split -> rows that were looked at.
        columns: column -> what its type shows, see looks.py.
        repeated: None where not all rows were looked at.
        telling: columns that alone tell the label -> of which share of the rows, see telling.py.
    """

    rows: Mapping[str, int]
    whole: bool
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    repeated: Repeated | None = None
    telling: Mapping[str, float] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the bytes of portrait.json."""
        value = {"format": FORMAT, "kind": "portrait", **asdict(self)}
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read_portrait(folder: str) -> Portrait | None:
    """Return the portrait that lies in a dataset's folder, None where there is none that this version reads."""
    try:
        value = json.loads(storage.open_store(folder).read(FILE))
        if value["format"] != FORMAT:
            return None
        repeated = None if value["repeated"] is None else Repeated(**value["repeated"])
        return Portrait(value["rows"], value["whole"], value["columns"], repeated, value["telling"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        # It is only shown, and can be made again.
        return None


def find_portrait(card: DatasetCard, scratch: Path) -> Portrait | None:
    """Return a dataset's portrait, made anew and kept where there is none; None where too much would be fetched.

    Args:
        card: as `load_card` gives it.
    """
    folder = card.location or card.at
    found = read_portrait(folder)
    distant = storage.open_store(folder).local is None
    if found is not None or (distant and _size(card) > MOST_BYTES):
        return found
    try:
        made = portray(card, scratch)
        storage.open_store(folder).write(FILE, made.to_bytes())
    except (WrongInput, OSError):
        # A shard that is gone is for whoever reads the rows to say; a card still has its numbers.
        return None
    return made


def portray(card: DatasetCard, scratch: Path) -> Portrait:
    """Look at a dataset's rows.

    Args:
        card: its `location` is where the shards lie.
        scratch: for shards of a distant store, one at a time.
    """
    step = max(1, math.ceil(sum(card.rows().values()) / MOST_ROWS), math.ceil(_size(card) / MOST_BYTES))
    train = card.rows()["train"]
    looks = {one.name: LOOKS[one.type](one, card.schema, train) for one in card.schema.columns if one.type in LOOKS}
    rows, keys = by_split(), _Keys(card.schema)
    asked, told = columns_asked(card.schema), []
    for split, first, table in _groups(card, scratch, step):
        rows[split] += table.num_rows
        for look in looks.values():
            look.add(split, first, table)
        if step == 1:
            keys.add(split, table)
        if asked and split == "train" and sum(map(len, told)) < TOLD_BY:
            told.append(table.select(asked))
    shown = {name: look.to_json() for name, look in looks.items()}
    alone = telling(pa.concat_tables(told).slice(0, TOLD_BY)) if told else {}
    return Portrait(rows, step == 1, shown, keys.repeated() if step == 1 else None, alone)


def _size(card: DatasetCard) -> int:
    return sum(shard.size for split in card.splits.values() for shard in split.shards)


def _groups(card: DatasetCard, scratch: Path, step: int) -> Iterator[tuple[str, int, pa.Table]]:
    """Yield (split, number of its first row in the split, rows) of every `step`-th row group, the first one too."""
    for split in SPLITS:
        first = 0
        for place, table in enumerate(row_groups(card, split, scratch)):
            if place % step == 0:
                yield split, first, table.combine_chunks()
            first += table.num_rows


class _Keys:
    """A hash of each row's features, and of its label."""

    def __init__(self, schema: Schema) -> None:
        self._features = [column.name for column in schema.features()]
        # Boxes and masks of one picture hardly ever agree to the pixel, which is no contradiction.
        self._label = "" if schema.problem_type in DENSE else schema.label
        self._keys: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        self._labels: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}

    def add(self, split: str, table: pa.Table) -> None:
        self._keys[split].append(_hashes(table, self._features))
        if self._label:
            self._labels[split].append(_hashes(table, [self._label]))

    def repeated(self) -> Repeated:
        keys: dict[str, np.ndarray] = {split: _joined(parts) for split, parts in self._keys.items()}
        within = {split: len(own) - len(np.unique(own)) for split, own in keys.items()}
        leaked = {split: int(np.isin(keys[split], keys["train"]).sum()) for split in SPLITS[1:]}
        return Repeated(within, leaked, self._contradicting(_joined(list(keys.values()))))

    def _contradicting(self, keys: np.ndarray) -> int:
        if not self._label:
            return 0
        labels = _joined([_joined(parts) for parts in self._labels.values()])
        pairs = np.unique(np.stack([keys, labels], axis=1), axis=0)
        several, counts = np.unique(pairs[:, 0], return_counts=True)
        return int(np.isin(keys, several[counts > 1]).sum())


def _hashes(table: pa.Table, names: list[str]) -> np.ndarray:
    """Return uint64[rows]; hashing copies what it reads several times, so pictures are taken a few at a time."""
    count = max(1, HASHED_BYTES * table.num_rows // max(1, table.nbytes))
    pieces = (table.slice(first, count) for first in range(0, table.num_rows, count))
    return _joined([_hashes_of(piece, names) for piece in pieces])


def _hashes_of(table: pa.Table, names: list[str]) -> np.ndarray:
    arrays = {name: canonical(table[name].combine_chunks()) for name in names}
    return row_keys(arrays, table.num_rows)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)
