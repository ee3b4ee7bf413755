"""The portrait of a Dataset: exact where all rows are looked at, bounded where they are many, made again when gone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carryover.data import portrait as portraits
from carryover.data.looks import Picked, edges
from carryover.data.manifest import SPLITS, load_card
from carryover.data.portrait import FILE, Portrait, find_portrait, portray, read_portrait
from carryover.ground.storage import open_store
from carryover.report.dataset import dataset_page
from tests.data.support import prepared, reviews, table, write


def test_counts_are_those_of_the_rows_of_each_split(tmp_path: Path) -> None:
    rows = reviews(600)
    card = prepared(tmp_path, write(tmp_path / "a.jsonl", [{**row, "tail": float(row["id"]) ** 4} for row in rows]))
    found = read_portrait(card.at)
    assert found is not None and found.whole and found.rows == card.rows()
    for split in SPLITS:
        own = table(card, split, tmp_path / "s")
        price = np.asarray(own["price"].combine_chunks().drop_null())
        shown = found.columns["price"]
        counts, outside = shown["histogram"]["counts"][split], shown["histogram"]
        want = np.histogram(price, shown["histogram"]["edges"])[0]
        assert counts == want.tolist()
        assert sum(counts) + outside["below"][split] + outside["above"][split] == len(price)
        assert shown["missing"][split] == own["price"].null_count
        labels = own["label"].to_pylist()
        assert found.columns["label"]["counts"][split] == {name: labels.count(name) for name in set(labels)}
    assert found.columns["id"]["distinct"] == 600
    texts = found.columns["text"]
    assert len(texts["samples"]) == 4 and set(texts["samples"]) <= {row["text"] for row in rows}
    # A long tail is left out, and said; all values are somewhere.
    tail = found.columns["tail"]["histogram"]
    assert tail["edges"][-1] <= 599.0**4 * 1.01


def test_repeated_leaked_and_contradicting_rows_are_counted(tmp_path: Path) -> None:
    rows = [{name: row[name] for name in ("text", "price", "label")} for row in reviews(200)]
    turned = [{**row, "label": "good" if row["label"] == "bad" else "bad"} for row in rows[:7]]
    held = write(tmp_path / "held.jsonl", rows[:20])
    source = write(tmp_path / "a.jsonl", [*rows, *rows[:10], *turned])
    card = prepared(tmp_path, source, validation_source=[str(held)], test_fraction=0.0, train_fraction=1.0)
    found = read_portrait(card.at)
    assert found is not None and found.repeated is not None
    assert found.repeated.within == {"train": 17, "validation": 0, "test": 0}
    assert found.repeated.leaked == {"validation": 20, "test": 0}
    # Of each of the seven: the row, its repetition, the turned one, and that which is held out.
    assert found.repeated.contradicting == 28
    assert json.loads((Path(card.at) / FILE).read_bytes())["kind"] == "portrait"


def test_a_column_that_alone_tells_the_label_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """What was made of the label is said; what merely goes with it, or is of one row each, is not."""
    rows = [
        {
            **{name: row[name] for name in ("text", "price", "label")},
            "made": f"{row['label']}-{place % 3}",
            "number": {"good": 4.0, "bad": 1.0}[row["label"]] + place % 2,
            "often": row["label"] if place % 10 else "good",
            "own": place,
        }
        for place, row in enumerate(reviews(400))
    ]
    card = prepared(tmp_path, write(tmp_path / "a.jsonl", rows), column_types={"number": "numerical"})
    found = read_portrait(card.at)
    assert found is not None and found.telling == {"made": 1.0, "number": 1.0}
    said = capsys.readouterr().err
    assert "warning: made: alone tells the label of all rows of train" in said and "often" not in said
    assert "--column-type made=null" in dataset_page(card, found)


def test_of_many_rows_some_are_looked_at_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carryover.data.shards.GROUP_ROWS", 40)
    card = prepared(tmp_path, write(tmp_path / "a.csv", reviews(900)))
    monkeypatch.setattr(portraits, "MOST_ROWS", 300)
    found = portray(load_card(card.at), tmp_path / "s")
    assert not found.whole and found.repeated is None
    assert 200 < sum(found.rows.values()) < 500 and all(found.rows.values())
    assert sum(found.columns["price"]["missing"].values()) < 100
    assert len(found.columns["text"]["samples"]) >= 2


def test_one_that_is_gone_or_of_another_version_is_made_again_unless_too_much_were_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = prepared(tmp_path, write(tmp_path / "a.csv", reviews(120)), store="memory://portrait-of-a-test")
    store = open_store(card.at)
    first = store.read(FILE)
    for damage in (b"", b"[]", b'{"format": 99}', None):
        store.delete(FILE) if damage is None else store.write(FILE, damage)
        assert read_portrait(card.at) is None
        assert isinstance(find_portrait(card, tmp_path / "s"), Portrait)
        assert store.read(FILE) == first
    store.delete(FILE)
    monkeypatch.setattr(portraits, "MOST_BYTES", 1)
    assert find_portrait(card, tmp_path / "s") is None
    # A card whose shards are gone is still a card.
    gone = replace(card, location=str(tmp_path / "nowhere"))
    assert find_portrait(gone, tmp_path / "s") is None


def test_shown_rows_are_evenly_spread_also_over_rows_left_out() -> None:
    picked = Picked(100, 4)
    assert [first + place for first in (0, 50) for place in picked.places(first, 50)] == [20, 40, 59, 79]
    late = Picked(100, 4)
    # Of rows that were passed over the next one is taken.
    assert late.places(60, 40) == [0, 19]
    assert Picked(3, 8).places(0, 3) == [0, 1, 2]
    assert Picked(0, 8).places(0, 0) == []


@pytest.mark.parametrize(
    ("told", "whole", "first", "last", "bars"),
    [
        ({"quantiles": [0, 1, 2], "min": 0, "max": 2}, True, -0.5, 2.5, 3),
        ({"quantiles": [0.0, 1.0], "min": 0.0, "max": 1.0}, False, 0.0, 1.0, 30),
        ({"quantiles": [0.0, 1.0], "min": -50.0, "max": 900.0}, False, -0.1, 1.1, 30),
        ({"quantiles": [5.0, 5.0], "min": 5.0, "max": 5.0}, False, 4.5, 5.5, 30),
        ({"quantiles": [0.0, 0.0], "min": 0.0, "max": 0.0}, False, -0.5, 0.5, 30),
        ({"quantiles": [], "min": None, "max": None}, True, -0.5, 0.5, 1),
        ({"quantiles": [3, 40, 70], "min": 3, "max": 70}, True, 3.0, 70.0, 30),
    ],
)
def test_bars_begin_and_end_where_values_do(told: dict, whole: bool, first: float, last: float, bars: int) -> None:
    found = edges(told, whole=whole)
    assert (found[0], found[-1], len(found) - 1) == (pytest.approx(first), pytest.approx(last), bars)
