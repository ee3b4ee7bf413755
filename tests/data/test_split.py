"""A row's split is its own: nothing that happens to other rows moves it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from carryover.data import values
from carryover.data.manifest import SPLITS
from carryover.data.split import Fractions, codes, row_keys
from carryover.ground.errors import WrongInput
from tests.data.support import prepared, reviews, splits, table, write


def keys(columns: dict[str, list]) -> np.ndarray:
    arrays = {name: values.canonical(pa.array(column)) for name, column in columns.items()}
    return row_keys(arrays, len(next(iter(columns.values()))))


def test_the_key_is_of_names_and_values_only() -> None:
    base = keys({"a": ["x", "y"], "b": [1, 2]})
    assert (keys({"b": ["1", "2.0"], "a": ["x", "y"], "c": [None, None]}) == base).all()
    assert (keys({"b": [2, 1], "a": ["y", "x"]})[::-1] == base).all()
    assert (keys({"a": ["x", "y"], "c": [1, 2]}) != base).all()
    assert len(set(keys({"a": ["xb", "x"], "b": ["y", "by"]}))) == 2


def test_the_key_never_changes() -> None:
    """Datasets of earlier versions were split by it: a change moves test rows into train."""
    found = keys({"text": ["héllo", "x"], "n": [1.5, None]})
    assert [f"{key:016x}" for key in found] == ["5c999ff293746927", "15bd74e189f8ec9d"]


@given(some.floats(0.05, 0.9), some.floats(0.05, 0.9))
def test_fractions_hold_in_expectation(validation: float, test: float) -> None:
    if validation + test > 0.95:
        return
    shares = Fractions(1 - validation - test, validation, test).shares(validation_given=False, test_given=False)
    drawn = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    counts = np.bincount(codes(drawn, shares), minlength=3) / len(drawn)
    assert np.allclose(counts, [shares.train, shares.validation, shares.test], atol=0.02)


def test_a_given_split_leaves_the_rest_to_the_others() -> None:
    shares = Fractions().shares(validation_given=True, test_given=False)
    assert (round(shares.train, 6), shares.validation, round(shares.test, 6)) == (0.888889, 0.0, 0.111111)
    assert Fractions().shares(validation_given=True, test_given=True) == Fractions(1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("fractions", "words"),
    [
        ((0.8, 0.1, 0.2), "1 together"),
        ((0.9, 0.0, 0.1), "--validation-fraction"),
        ((0.0, 0.5, 0.5), "--train-fraction"),
        ((1.2, 0.1, -0.3), "--train-fraction"),
    ],
)
def test_impossible_fractions(fractions: tuple[float, float, float], words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        Fractions(*fractions).shares(validation_given=False, test_given=False)


def test_new_rows_other_orders_and_corrected_labels_move_no_row(tmp_path: Path) -> None:
    old = reviews(400)
    before = splits(prepared(tmp_path, write(tmp_path / "old.csv", old)), tmp_path / "a")
    new = reviews(300, seed=1, start=400) + old[::-1]
    new = [{**row, "label": "good" if row["id"] == 7 else row["label"]} for row in new]
    after = splits(prepared(tmp_path, write(tmp_path / "new.parquet", new)), tmp_path / "b")
    assert {number: after[number] for number in before} == before
    assert {"train", "validation", "test"} == set(before.values())


def test_equal_rows_stay_together(tmp_path: Path) -> None:
    rows = [{**row, "id": place} for place, row in enumerate(reviews(200) * 3)]
    card = prepared(tmp_path, write(tmp_path / "a.jsonl", rows), column_types={"id": "null", "text": "text"})
    found = [set(table(card, split, tmp_path / "s")["text"].to_pylist()) for split in SPLITS]
    assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])
    assert sum(card.rows().values()) == 600


def test_a_class_too_small_to_split_stays_in_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = reviews(300)
    rows += [{**row, "label": f"rare {place // 2}"} for place, row in enumerate(reviews(40, seed=2, start=300))]
    card = prepared(tmp_path, write(tmp_path / "a.csv", rows))
    found = splits(card, tmp_path / "s")
    assert {found[number] for number in range(300, 340)} == {"train"}
    assert {found[number] for number in range(300)} == {"train", "validation", "test"}
    assert "too small to split, so all in train: 'rare 0'" in capsys.readouterr().err
