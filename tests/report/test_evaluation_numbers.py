"""Numbers behind an evaluation's charts against scikit-learn, on a real Model's answers; what stands on its page."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk
from sklearn.calibration import calibration_curve

from carryover.report import page as pages
from carryover.report.charts import Axes, Series, counts_chart, lines_chart
from carryover.report.classes import Classified
from carryover.report.numbers import Measured
from carryover.report.page import MOST_BYTES
from carryover.report.probabilities import THRESHOLDS, Told, areas, cards
from carryover.tasks.calibration import BINS, reliability
from carryover.tasks.curves import area, at_threshold, best_threshold, confusion, precision_recall, roc
from tests.report.pages import evaluation_of_many_classes, evaluation_of_numbers


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A page of thirty classes, and its answers: true class indices, probabilities."""
    page = evaluation_of_many_classes(tmp_path_factory.mktemp("many"))
    table = pq.read_table(page.parent / "predictions.parquet")
    names = [name for name in table.column_names if name.startswith("probability_")]
    classes = [name.removeprefix("probability_") for name in names]
    truth = np.array([classes.index(value) for value in table["label"].to_pylist()])
    return page, truth, np.stack([np.asarray(table[name]) for name in names], axis=1)


def binary(truth: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One half of the classes against the other: whether a row is of it, and its probability."""
    return truth < 15, probabilities[:, :15].sum(axis=1).clip(0, 1)


def test_calibration_is_scikit_learns(many: tuple[Path, np.ndarray, np.ndarray]) -> None:
    _, truth, probabilities = many
    confidence = probabilities.max(axis=1)
    for told, right in (
        binary(truth, probabilities)[::-1],
        (confidence, probabilities.argmax(axis=1) == truth),
        # Edges of bins, 0 and 1 among them.
        (np.linspace(0, 1, 11), np.arange(11) % 2 == 0),
    ):
        found = reliability(told, right)
        assert found is not None
        share, mean = calibration_curve(right, told, n_bins=BINS)
        there = found.rows > 0
        assert found.right[there] == pytest.approx(share) and found.confidence[there] == pytest.approx(mean)
        assert found.ece == pytest.approx(np.sum(found.rows[there] / len(told) * np.abs(share - mean)))
    assert reliability(np.array([0.5, np.nan]), np.array([True, False])) is None
    assert reliability(np.empty(0), np.empty(0, bool)) is None


def test_curves_and_areas_are_scikit_learns(many: tuple[Path, np.ndarray, np.ndarray]) -> None:
    _, truth, probabilities = many
    found = areas(Told(truth, probabilities, [str(at) for at in range(30)]), range(30))
    for at in range(0, 30, 7):
        is_one = truth == at
        curve = precision_recall(truth, probabilities, positive=at)
        assert curve is not None
        precision, recall, _ = sk.precision_recall_curve(is_one, probabilities[:, at])
        assert curve.precision.tolist() == precision.tolist() and curve.recall.tolist() == recall.tolist()
        assert curve.average == pytest.approx(sk.average_precision_score(is_one, probabilities[:, at]))
        assert found[at] == pytest.approx((sk.roc_auc_score(is_one, probabilities[:, at]), curve.average))
    only = np.zeros(5, np.int64)
    assert precision_recall(only, np.full((5, 2), 0.5), positive=0) is None
    assert np.isnan(areas(Told(only, np.full((5, 2), 0.5), ["a", "b"]), [0])[0]).all()


def test_thresholds_are_scikit_learns(many: tuple[Path, np.ndarray, np.ndarray]) -> None:
    _, truth, probabilities = many
    is_positive, told = binary(truth, probabilities)
    for at in (*THRESHOLDS, 0.0, float(told[3])):
        chosen, found = told >= at, at_threshold(is_positive, told, at)
        assert found.taken == chosen.sum()
        want = sk.precision_recall_fscore_support(is_positive, chosen, average="binary")[:3]
        assert (found.precision, found.recall, found.f1) == pytest.approx(want)
        assert found.false_positive_rate == pytest.approx((chosen & ~is_positive).sum() / (~is_positive).sum())
    best = best_threshold(is_positive, told)
    every = [sk.f1_score(is_positive, told >= at) for at in told]
    assert best.f1 == pytest.approx(max(every)) and best.at == pytest.approx(told[int(np.argmax(every))])
    # Rows of one probability can't be told apart.
    same = best_threshold(np.array([True, False, True]), np.array([0.4, 0.4, 0.4]))
    assert (same.at, same.taken, same.f1) == (0.4, 3, pytest.approx(0.8))


def test_the_page_says_the_numbers_and_shows_the_mistakes(many: tuple[Path, np.ndarray, np.ndarray]) -> None:
    path, truth, probabilities = many
    text, chosen = path.read_text(), probabilities.argmax(axis=1)
    found = reliability(probabilities.max(axis=1), chosen == truth)
    assert found is not None and f"ECE {pages.number(found.ece)}" in text
    gap = probabilities.max(axis=1) - probabilities[np.arange(len(truth)), truth]
    worst = int(np.argmax(gap))
    (shown,) = re.findall(r"Worst mistakes.*?<p>(.*?)</p>", text, re.DOTALL)[:1] or [""]
    assert "Told wrong with most confidence" in text
    sure = f"{probabilities[worst].max():.1%} sure; the true one {probabilities[worst, truth[worst]]:.1%}"
    assert sure in text.partition("Worst mistakes")[2][:1500], shown
    assert text.count("told as <b>") == min(12, int((chosen != truth).sum()))
    assert "carryover lineage" in text


def test_errors_of_numbers_are_told_by_size(tmp_path: Path) -> None:
    page = evaluation_of_numbers(tmp_path)
    table = pq.read_table(page.parent / "predictions.parquet")
    errors = np.asarray(table["prediction"]) - np.asarray(table["label"])
    text = page.read_text()
    assert f"Mean {pages.number(float(errors.mean()))}" in text
    first = text.partition("Worst mistakes")[2]
    assert f"off by {errors[np.abs(errors).argmax()]:+.4g}" in first[:900]
    order = np.argsort(np.asarray(table["label"]), kind="stable")
    tenth = np.abs(errors[np.array_split(order, 10)[0]])
    assert pages.number(float(np.median(tenth))) in text and pages.number(float(np.quantile(tenth, 0.9))) in text


@pytest.mark.parametrize(
    "shown",
    [
        Measured(np.array([1.0]), np.array([1.0])),
        Measured(np.array([1.0, 2.0]), np.array([np.nan, np.inf])),
        Measured(np.full(30, 7.0), np.full(30, 7.0)),
        Classified(
            ["a", "b"], np.zeros((2, 2), np.int64), "b", None, Told(np.empty(0, int), np.empty((0, 2)), "ab", 1)
        ),
        Classified(["a", "b"], np.eye(2, dtype=int), "b", None, Told(np.arange(2), np.full((2, 2), np.nan), "ab", 1)),
        Classified(["a", "b"], np.diag([3, 0]), "b", None, Told(np.zeros(3, int), np.full((3, 2), 0.5), "ab", 1)),
    ],
    ids=["one row", "no number", "all the same", "no rows", "no probabilities", "one class"],
)
def test_little_or_nothing_is_a_page_too(shown: Any) -> None:
    text = "".join(shown.cards())
    assert "nan" not in text.lower() and "inf" not in text.lower()


def test_one_class_has_calibration_but_no_curve() -> None:
    told = Told(np.zeros(4, int), np.tile([0.8, 0.2], (4, 1)), ["a", "b"], 1)
    assert len(cards(told)) == 1 and "ECE 0.2000" in cards(told)[0]
    assert confusion(told.targets, told.probabilities.argmax(axis=1), 2).tolist() == [[4, 0], [0, 0]]
    both = roc(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), positive=1)
    assert both is not None and area(both) == 1.0


def test_charts_scale_and_name_what_they_show() -> None:
    drawn = lines_chart(
        [Series("<b>", np.array([0.0, 1.0]), np.array([0.0, 1.0])), Series("c", np.array([0.5]), np.array([0.5]))],
        Axes((0, 1), (0, 1)), x_title="x", y_title="y", label="both",
    )  # fmt: skip
    assert "&lt;b&gt;" in drawn and "<b>" not in drawn and drawn.count("<li>") == 2
    one = counts_chart(np.array([7.5, 8.5]), np.array([3]), x_title="words", label="words")
    assert re.findall(r'text-anchor="middle">([\d.]+)<', one) == ["7", "8", "9"]


def test_a_page_of_too_many_pictures_says_what_it_leaves_out() -> None:
    picture = f'<img src="data:image/jpeg;base64,{"A" * 700_000}" width="9" height="9" alt="x">'
    text = pages.page("t", "l", [picture] * 6, foot="made")
    assert text.count("<img") == 4 and len(text) < MOST_BYTES + 10_000
    assert "2 pictures left out" in text and text.count("picture left out") == 2
    assert "left out" not in pages.page("t", "l", [picture] * 3, foot="made")
