"""The rows of an extension: what is new by content, a replay that only ever grows, and types that fit together."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from carryover.data import mix, shards
from carryover.data.config import DataConfig, ReplayConfig
from carryover.data.manifest import DatasetCard, find_dataset
from carryover.data.mix import Mixture, NothingNew, check_parentless, new_rows, training_rows
from carryover.data.rows import Rows, arrow_schema
from carryover.ground.errors import WrongInput
from tests.data.support import prepared, reviews, table, write
from tests.data.test_images import picture

ROWS = reviews(300)
MORE = reviews(100, seed=1, start=300)
DELTA = DataConfig(mode="delta")


def replayed(fraction: float, mode: str = "snapshot") -> DataConfig:
    return DataConfig(mode=mode, replay=ReplayConfig(fraction))


@pytest.fixture
def old(tmp_path: Path) -> DatasetCard:
    return prepared(tmp_path, write(tmp_path / "a.csv", ROWS))


@pytest.fixture
def both(tmp_path: Path, old: DatasetCard) -> DatasetCard:
    return prepared(tmp_path, write(tmp_path / "b.csv", [*ROWS, *MORE]), schema_from=old.at)


@pytest.fixture
def added(tmp_path: Path, old: DatasetCard) -> DatasetCard:
    return prepared(tmp_path, write(tmp_path / "c.csv", MORE), schema_from=old.at)


def mixed(tmp_path: Path, card: DatasetCard, parent: DatasetCard | None, config: DataConfig, seed: int = 0) -> Mixture:
    return training_rows(card, config, tmp_path / "mix", parent=parent, seed=seed)


def ids(mixture: Mixture) -> list[int]:
    rows = Rows.open(mixture.path)
    assert len(rows) == mixture.new + mixture.replayed
    return rows.take(np.arange(len(rows)))["id"].to_pylist()


def train_ids(card: DatasetCard, scratch: Path) -> list[int]:
    return table(card, "train", scratch)["id"].to_pylist()


def test_a_snapshot_is_the_train_split(tmp_path: Path, both: DatasetCard) -> None:
    whole = mixed(tmp_path, both, None, DataConfig())
    assert ids(whole) == train_ids(both, tmp_path / "s")
    assert (whole.new, whole.known, whole.replayed) == (both.rows()["train"], 0, 0)


def test_a_delta_is_what_the_parent_has_in_no_split(tmp_path: Path, old: DatasetCard, both: DatasetCard) -> None:
    delta = mixed(tmp_path, both, old, DELTA)
    expected = [number for number in train_ids(both, tmp_path / "s") if number >= 300]
    assert ids(delta) == expected
    assert (delta.new, delta.known) == (len(expected), both.rows()["train"] - len(expected))
    assert new_rows(both, old, tmp_path / "n") == len(expected)
    # Also where an old row would now be in train that was held out then.
    other = prepared(tmp_path, tmp_path / "b.csv", validation_source=[str(tmp_path / "a.csv")])
    assert ids(mixed(tmp_path, other, old, DELTA)) == [n for n in train_ids(other, tmp_path / "s") if n >= 300]


def test_a_changed_value_or_label_makes_a_row_new(tmp_path: Path, old: DatasetCard) -> None:
    rows = [dict(row) for row in ROWS]
    kept = train_ids(old, tmp_path / "s")[:3]
    rows[kept[0]]["label"] = "good" if rows[kept[0]]["label"] == "bad" else "bad"
    rows[kept[1]]["price"] = None if rows[kept[1]]["price"] is not None else 1.0
    rows[kept[2]]["id"] = 10_000.5
    card = prepared(
        tmp_path, write(tmp_path / "b.csv", rows), schema_from=old.at, validation_source=[str(tmp_path / "a.csv")]
    )
    assert card.schema.column("id").arrow == "double"
    assert sorted(ids(mixed(tmp_path, card, old, DELTA))) == sorted([kept[0], kept[1], 10_000.5])


def test_nothing_new_is_an_outcome_of_its_own(tmp_path: Path, old: DatasetCard) -> None:
    fewer = prepared(tmp_path, write(tmp_path / "b.csv", ROWS[:250][::-1]), schema_from=old.at)
    for card in (old, fewer):
        assert new_rows(card, old, tmp_path / "n") == 0
        for config in (DELTA, replayed(0.5, "delta")):
            with pytest.raises(NothingNew, match=r"data\.mode delta: nothing is new in dataset"):
                mixed(tmp_path, card, old, config)
    assert not list((tmp_path / "mix").glob("*.arrow"))


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_replay_takes_that_many_rows_of_the_parents_train_split(
    tmp_path: Path, old: DatasetCard, added: DatasetCard, fraction: float
) -> None:
    whole = mixed(tmp_path, added, old, replayed(fraction, "delta"))
    known = train_ids(old, tmp_path / "s")
    assert whole.replayed == int(fraction * len(known) + 0.5)
    found = ids(whole)
    assert found[: whole.new] == train_ids(added, tmp_path / "s")
    again = found[whole.new :]
    assert again == [number for number in known if number in set(again)]
    assert len(set(again)) == whole.replayed


def test_replay_only_ever_grows(tmp_path: Path, old: DatasetCard, both: DatasetCard, added: DatasetCard) -> None:
    """More of the parent adds rows; another seed takes others; the same seed takes the same."""

    def chosen(parent: DatasetCard, fraction: float, seed: int = 0) -> set[int]:
        whole = mixed(tmp_path, added, parent, replayed(fraction), seed)
        return set(ids(whole)[whole.new :])

    few, many = chosen(old, 0.2), chosen(old, 0.4)
    assert few < many
    assert few == chosen(old, 0.2)
    assert few != chosen(old, 0.2, seed=1)
    # The parent has grown at its end: of what it had, no row comes that did not come before.
    grown = {number for number in chosen(both, 0.4 * old.rows()["train"] / both.rows()["train"]) if number < 300}
    assert grown <= many
    assert len(grown) > 0.5 * len(many)


def test_replay_is_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mix, "_CHUNK", 1000)
    for rows, count in ((10_000, 1000), (70_001, 35_000), (5, 5), (1, 1)):
        highest = mix._highest(rows, count, seed=3)
        chosen = np.flatnonzero(mix.mix(3, mix._REPLAY, np.arange(rows)) <= highest)
        assert len(chosen) == count
        if rows >= 10_000:
            tenths = np.bincount(chosen * 10 // rows, minlength=10) / count
            assert np.abs(tenths - 0.1).max() < 0.02


def test_the_file_does_not_depend_on_how_rows_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for size in (8 << 20, 900):
        monkeypatch.setattr(shards, "GROUP_BYTES", size)
        monkeypatch.setattr(shards, "SHARD_BYTES", 4 * size)
        place = tmp_path / str(size)
        old = prepared(place, write(place / "a.csv", ROWS))
        both = prepared(place, write(place / "b.csv", [*ROWS, *MORE]), schema_from=old.at)
        found.append(ids(mixed(place, both, old, replayed(0.3, "delta"))))
    assert found[0] == found[1]


def test_datasets_in_an_object_store(tmp_path: Path, old: DatasetCard, both: DatasetCard, s3_store_uri: str) -> None:
    expected = ids(mixed(tmp_path, both, old, replayed(0.3, "delta")))
    far = [prepared(tmp_path, tmp_path / "a.csv", store=s3_store_uri)]
    far.append(prepared(tmp_path, tmp_path / "b.csv", store=s3_store_uri, schema_from=far[0].at))
    assert [card.digest for card in far] == [old.digest, both.digest]
    place = tmp_path / "far"
    assert ids(mixed(place, far[1], far[0], replayed(0.3, "delta"))) == expected
    assert not list((place / "mix").glob("*.parquet"))


def test_the_parents_rows_take_the_new_types(tmp_path: Path, old: DatasetCard) -> None:
    rows = [
        {
            "id": row["id"] + 0.5,
            "text": row["text"],
            "kind": row["id"] % 3,
            "photo": picture(row["id"]),
            "label": row["label"],
        }
        for row in MORE
    ]
    types = {"kind": "categorical", "photo": "image_bytes"}
    card = prepared(tmp_path, write(tmp_path / "b.parquet", rows), column_types=types)
    whole = mixed(tmp_path, card, old, replayed(1.0))
    found = Rows.open(whole.path)
    assert found.schema == arrow_schema(card.schema)
    replay = found.take(np.arange(whole.new, len(found)))
    known = table(old, "train", tmp_path / "s")
    assert replay["id"].to_pylist() == [float(number) for number in known["id"].to_pylist()]
    assert replay["kind"].equals(known["kind"]) and replay["label"].equals(known["label"])
    assert replay["photo"].null_count == len(replay)


def test_parents_that_do_not_fit(tmp_path: Path, old: DatasetCard) -> None:
    renamed = [{"verdict" if name == "label" else name: value for name, value in row.items()} for row in MORE]
    other = prepared(tmp_path, write(tmp_path / "b.csv", renamed), label="verdict")
    with pytest.raises(WrongInput, match="has no label column 'verdict'; prepare the new data with --schema-from"):
        mixed(tmp_path, other, old, replayed(0.5))
    whole = prepared(tmp_path, write(tmp_path / "c.csv", [{**row, "price": row["id"]} for row in MORE]))
    with pytest.raises(WrongInput, match=r"column 'price' is double in dataset .* can't be stored as int64"):
        mixed(tmp_path, whole, old, replayed(0.5))


def test_without_a_parent_the_keys_are_refused() -> None:
    check_parentless(DataConfig())
    for config, words in ((DELTA, "data.mode: 'delta'"), (replayed(0.5), "data.replay.fraction: 0.5")):
        with pytest.raises(WrongInput, match=f"{words} is not possible here.*--init-from"):
            check_parentless(config)


def test_a_dataset_is_found_where_it_was_and_in_a_store_that_was_moved(tmp_path: Path, old: DatasetCard) -> None:
    named = {"digest": old.digest, "uri": old.at}
    assert find_dataset(named, store="")[0] == old
    os.rename(tmp_path / "store", tmp_path / "moved")
    found, places = find_dataset(named, store=str(tmp_path / "moved"))
    assert found is not None and found.location == str(tmp_path / "moved" / "datasets" / old.digest[:32])
    gone, places = find_dataset(named, store=str(tmp_path / "nowhere"))
    assert gone is None
    assert places == (f"{tmp_path}/nowhere/datasets/{old.digest[:32]}", old.at)
    # Another dataset in its place is not it.
    assert find_dataset({**named, "digest": "f" * 64}, store=str(tmp_path / "moved"))[0] is None


@pytest.mark.parametrize("type", [pa.string(), pa.float64(), pa.int64(), pa.bool_(), pa.list_(pa.binary())])
def test_what_a_row_holds_is_told_apart(type: pa.DataType) -> None:
    samples: dict[str, list[Any]] = {
        "string": ["7", "007", "", None, "7.0"],
        "double": [7.0, 7.5, None],
        "int64": [7, 8, None],
        "bool": [True, False, None],
    }
    values = samples.get(str(type), [[b"a"], [b"b"], None])
    keys = mix._contents(pa.table({"x": pa.array(values, type), "label": pa.array(["y"] * len(values))}))
    assert len(set(keys.tolist())) == len(values)
    # Where a value is missing, a table without the column says the same.
    bare = mix._contents(pa.table({"label": pa.array(["y"])}))
    assert bare[0] == keys[values.index(None)]
