"""Rows: any order from a mapped file, for the memory of the rows taken; damaged shards are never read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from carryover.data import shards
from carryover.data.manifest import DatasetCard
from carryover.data.rows import Rows, arrow_schema, materialise
from carryover.ground.errors import WrongInput
from tests.data.support import prepared, reviews, write


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetCard:
    # Small groups and shards, so that there are many of both.
    monkeypatch.setattr(shards, "GROUP_BYTES", 2000)
    monkeypatch.setattr(shards, "SHARD_BYTES", 8000)
    return prepared(tmp_path, write(tmp_path / "a.csv", reviews(500)))


def test_take_gives_rows_in_the_order_asked(card: DatasetCard, tmp_path: Path) -> None:
    assert len(card.splits["train"].shards) > 2
    rows = Rows.open(materialise(card, "train", tmp_path / "s"))
    assert len(rows) == card.rows()["train"]
    assert rows.schema == arrow_schema(card.schema)
    whole = rows.take(np.arange(len(rows)))
    chance = np.random.default_rng(0)
    spread, repeated = chance.integers(0, len(rows), 50), chance.integers(0, len(rows), 9)
    repeated[7] = repeated[3]
    batch, run = np.array([3, 1, 2, 2]), np.arange(5, len(rows) - 5)
    for wanted in (spread, repeated, batch, run, run[::-1], np.concatenate([run, run]), np.array([7])):
        taken = rows.take(wanted)
        assert taken == whole.take(wanted)
        assert all(column.num_chunks == 1 for column in taken.columns)
        assert rows.take(wanted, ["kind", "id"]) == whole.select(["kind", "id"]).take(wanted)
    assert rows.take(np.array([], dtype=np.int64)).num_rows == 0
    for outside in (-1, len(rows)):
        with pytest.raises(IndexError):
            rows.take(np.array([0, outside]))


def test_sizes_of_texts_are_known_without_reading_them(tmp_path: Path) -> None:
    texts, others = ["one", None, "", "zwölf", "five"], [None, "b", "", "four", "é"]
    table = pa.table({"n": range(5), "a": texts, "b": others})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    (tmp_path / "rows").write_bytes(sink.getvalue())
    rows = Rows.open(tmp_path / "rows")
    every = np.array([4, 0, 1, 1, 3, 2])
    wanted = [sum(len((column[row] or "").encode()) for column in (texts, others)) for row in every]
    assert rows.sizes(every, ["a", "b"]).tolist() == wanted
    assert rows.sizes(every, ["b"]).tolist() == [len((others[row] or "").encode()) for row in every]
    assert rows.sizes(every, ["n", "gone"]).tolist() == [0] * 6
    with pytest.raises(IndexError):
        rows.sizes(np.array([5]), ["a"])


def test_a_file_is_made_once_and_taken_again(card: DatasetCard, tmp_path: Path) -> None:
    first = materialise(card, "validation", tmp_path / "s")
    made = first.stat().st_mtime_ns
    assert materialise(card, "validation", tmp_path / "s") == first
    assert first.stat().st_mtime_ns == made
    assert [path.name for path in (tmp_path / "s").iterdir()] == [first.name]


def test_a_flipped_bit_is_found_before_anything_is_read(card: DatasetCard, tmp_path: Path) -> None:
    shard = Path(card.location) / card.splits["train"].shards[1].file
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(WrongInput, match=f"{shard.name}: damaged"):
        materialise(card, "train", tmp_path / "s")
    assert not list((tmp_path / "s").iterdir())
    assert len(Rows.open(materialise(card, "test", tmp_path / "s"))) == card.rows()["test"]


def test_an_unknown_split(card: DatasetCard, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="no split 'dev'; there are train, validation, test"):
        materialise(card, "dev", tmp_path)
