"""Drift: the index by its formula, what chance alone brings, what each type of column shows, and what is not known."""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from carryover.data import drift
from carryover.data.drift import Bins, Drift, chance, psi
from carryover.data.follow import Reference
from carryover.data.manifest import CARD, DatasetCard, load_card
from carryover.data.schema import Column, Schema
from carryover.data.statistics import QUANTILES, SAMPLED, STATISTICS, Sample, quantiles
from carryover.steps.prepare_data import prepare_data
from tests.data.support import WORDS, prepared, reviews, table, write

OTHER = "quarterly revenue margin audit ledger tax invoice credit debt asset".split()


def measured(type: str, before: Any, now: Any) -> Drift:
    """Returns the drift of one column whose values before and now are these Arrow arrays."""
    import pyarrow as pa

    arrow = {"numerical": "double", "image_bytes": "binary"}.get(type, "string")
    made = []
    for values in (before, now):
        statistic = STATISTICS[type]()
        statistic.add(pa.array(values))
        made.append(Schema("y", "regression", None, (Column("x", type, arrow, statistic.to_json()),)))
    (found,) = drift.measure(Reference("dataset", "0" * 64, "before", made[0]), made[1])
    return found


def test_the_index_by_its_formula() -> None:
    before, now = np.array([10.0, 30.0, 60.0]) * 1e6, np.array([20.0, 30.0, 50.0]) * 1e6
    expected = 0.1 * np.log(0.2 / 0.1) + (0.5 - 0.6) * np.log(0.5 / 0.6)
    assert psi(before, now) == pytest.approx(expected, abs=1e-6)
    assert psi(before, before) == psi(now * 0 + 1, now * 0 + 1) == 0
    # An empty bin is no infinite index, and one that neither has does not count.
    assert 0.5 < psi(np.array([50.0, 50.0, 0.0]), np.array([50.0, 0.0, 0.0])) < 10


@pytest.mark.parametrize("type", ["numerical", "categorical"])
def test_nothing_changed_is_called_stable_as_often_as_chance_says(type: str) -> None:
    """Small samples of one distribution: the 0.1 of the textbook alone would call many of them shifted."""
    random = np.random.default_rng(0)

    def sample(rows: int) -> list[Any]:
        if type == "numerical":
            return random.lognormal(size=rows).tolist()
        return random.choice(list("abcdefgh"), size=rows, p=np.arange(1, 9) / 36).tolist()

    found = [measured(type, sample(800), sample(80)) for _ in range(400)]
    above = sum((one.psi or 0) > (one.chance or 0) for one in found) / len(found)
    assert above <= 0.03
    assert sum(one.word != "stable" for one in found) / len(found) <= 0.03
    assert sum((one.psi or 0) > drift.SHIFTED for one in found) / len(found) > 0.2


def test_chance_is_the_tail_of_chi_squared() -> None:
    bins = Bins(np.ones(11), np.ones(11), 500, 100)
    assert chance(bins) == pytest.approx((1 / 500 + 1 / 100) * stats.chi2.ppf(0.99, 10))
    assert chance(Bins(np.array([5.0, 0.0]), np.array([5.0, 0.0]), 5, 5)) == 0


def test_a_shift_of_a_normal_has_the_index_that_it_should() -> None:
    """Of two normals of one spread, a distance d apart, the index of ten bins is a little below d squared."""
    random = np.random.default_rng(1)
    for distance, word in ((0.05, "stable"), (0.4, "shifted"), (1.0, "drifted")):
        found = measured("numerical", random.normal(size=6000), random.normal(loc=distance, size=6000))
        assert found.word == word
        assert found.psi == pytest.approx(distance**2, rel=0.35, abs=0.01)


def test_values_beyond_all_known_ones_and_constants_are_seen() -> None:
    assert measured("numerical", [5.0] * 100, [5.0] * 100).psi == 0
    for now in (3.0, 5.1, 9.0):
        assert measured("numerical", [5.0] * 100, [now] * 100).word == "drifted"
    assert measured("numerical", list(map(float, range(100))), [-1.0] * 100).word == "drifted"
    flags = measured("numerical", [0.0, 1.0] * 500, [0.0] * 700 + [1.0] * 300)
    assert flags.psi == pytest.approx((0.7 - 0.5) * np.log(0.7 / 0.5) + (0.3 - 0.5) * np.log(0.3 / 0.5), rel=0.05)


@pytest.mark.parametrize("type", ["numerical", "categorical", "text", "image_bytes"])
def test_missing_values_count_in_every_type(type: str) -> None:
    value = {"numerical": 1.5, "image_bytes": b"x"}.get(type, "one two")
    found = measured(type, [value] * 950 + [None] * 50, [value] * 500 + [None] * 500)
    assert (found.missing, found.word) == ((0.05, 0.5), "drifted")
    assert measured(type, [value] * 950 + [None] * 50, [None] * 100 + [value] * 1900).word == "stable"


def test_categories_that_are_new() -> None:
    found = measured("categorical", ["a"] * 60 + ["b"] * 40, ["a"] * 30 + ["b"] * 20 + ["c"] * 50)
    assert (found.unseen, found.word) == (0.5, "drifted")


def test_texts_that_speak_of_other_things_at_the_same_length() -> None:
    chance = random.Random(0)

    def texts(words: Sequence[str], count: int) -> list[str]:
        return [" ".join(chance.choices(words, k=8)) for _ in range(count)]

    assert measured("text", texts(WORDS, 800), texts(WORDS, 200)).word == "stable"
    assert measured("text", texts(WORDS, 800), texts(WORDS * 4 + OTHER, 200)).word != "stable"
    assert measured("text", texts(WORDS, 800), texts(OTHER, 200)).word == "drifted"
    longer = [f"{text} {text}" for text in texts(WORDS, 200)]
    assert measured("text", texts(WORDS, 800), longer).word == "drifted"


def test_quantiles_are_of_the_data_however_they_are_cut() -> None:
    values = np.random.default_rng(3).normal(size=3 * SAMPLED)

    def kept(blocks: int) -> np.ndarray:
        sample = Sample()
        for block in np.array_split(values, blocks):
            sample.keep(block[sample.choose(len(block))])
        return np.sort(sample.rows())

    assert len(kept(1)) == SAMPLED
    assert np.array_equal(kept(1), kept(7)) and np.array_equal(kept(1), kept(1000))
    exact = np.quantile(values, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    assert np.abs(np.array(quantiles(kept(7))) - exact)[5:-5].max() < 0.12
    assert quantiles(np.empty(0)) == []


def test_statistics_of_an_older_version_are_taken_from_the_rows_that_are_still_there(tmp_path: Path) -> None:
    old = prepared(tmp_path, write(tmp_path / "a.csv", reviews(300)))
    new = write(tmp_path / "b.csv", [{**row, "price": row["id"]} for row in reviews(200, seed=1, start=300)])

    def ask() -> dict[str, dict[str, Any]]:
        result = prepare_data(source=[str(new)], schema_from=old.at, store=str(tmp_path / "store"))
        return {one["column"]: one for one in result["drift"]}

    known = ask()
    _write(_without(old))
    assert "quantiles" not in load_card(old.at).schema.column("price").statistics
    assert ask() == known
    shutil.move(Path(old.at) / "train-00000.parquet", tmp_path)
    gone = ask()
    assert (gone["price"]["psi"], gone["price"]["word"]) == (None, "not measured")
    assert "is gone" in gone["price"]["why"]
    assert gone["kind"] == known["kind"]


def _without(card: DatasetCard) -> DatasetCard:
    """Returns a card as an older version wrote it."""

    def old(column: Column) -> Column:
        fresh = {"quantiles", "word_groups"} | ({"count"} if column.type == "text" else set())
        return replace(column, statistics={k: v for k, v in column.statistics.items() if k not in fresh})

    return replace(card, schema=replace(card.schema, columns=tuple(map(old, card.schema.columns))))


def _write(card: DatasetCard) -> None:
    (Path(card.at) / CARD).write_text(json.dumps(card.to_json()))


def test_the_table_of_a_split_is_what_is_measured(tmp_path: Path) -> None:
    """Rows of validation and test say nothing: the statistics are of train."""
    old = prepared(tmp_path, write(tmp_path / "a.csv", reviews(300)))
    prices = table(old, "train", tmp_path / "s")["price"].drop_null().to_numpy()
    known = old.schema.column("price").statistics["quantiles"]
    assert set(known) <= set(prices.tolist())
    assert known == sorted(known)


def test_real_reviews_drift_from_one_subject_to_another_and_not_within_one(shared_data: Path) -> None:
    import pyarrow.parquet as pq

    from carryover.data.compute import pc

    reviews = pq.read_table(shared_data / "review_domains" / "review_domains.parquet")
    by_domain = {
        name: reviews["sentence"].filter(pc.equal(reviews["domain"], name)).combine_chunks()
        for name in reviews["domain"].unique().to_pylist()
    }
    assert len(by_domain) == 3
    order = np.random.default_rng(0).permutation(len(reviews))
    for name, texts in by_domain.items():
        others = [measured("text", texts, by_domain[other]) for other in by_domain if other != name]
        assert all(one.word != "stable" and (one.psi or 0) > 2 * (one.chance or 0) for one in others)
    for start in range(0, 2000, 100):
        some = reviews["sentence"].combine_chunks()
        now, before = some.take(order[start : start + 100]), some.take(order[start + 100 : start + 1100])
        assert measured("text", before, now).word == "stable"


def test_shares_of_both_sides_are_named_and_whole() -> None:
    before = [*range(100), None] * 5
    found = measured("numerical", before, [*range(-20, 60), *[None] * 20])
    shares = {name: (was, now) for name, was, now in found.shares}
    assert shares["up to 9"] == (pytest.approx(50 / 505, abs=1e-3), pytest.approx(0.3, abs=0.02))
    assert shares["above 9, to 19"][1] == pytest.approx(0.1, abs=0.02) and shares["(missing)"][1] == 0.2
    for side in (0, 1):
        assert sum(pair[side] for pair in shares.values()) == pytest.approx(1, abs=0.002)
    # Where the least tenth is one value alone, what lies below it has a name too.
    low = measured("numerical", [0.0] * 50 + [1.0] * 30 + [2.0] * 20, [-5.0] * 10 + [0.0] * 60 + [9.0] * 30)
    assert {name: now for name, _, now in low.shares}["below 0"] == pytest.approx(0.1)
    assert {name: now for name, _, now in low.shares}["0"] == pytest.approx(0.6)
    kinds = measured("categorical", ["a"] * 30 + ["b"] * 10, ["b"] * 10 + ["c"] * 30)
    assert kinds.shares == (("a", 0.75, 0.0), ("b", 0.25, 0.25), ("(all others)", 0.0, 0.75))
    assert json.loads(json.dumps(kinds.to_json()))["shares"][0] == ["a", 0.75, 0.0]
