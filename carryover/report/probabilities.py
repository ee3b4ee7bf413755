"""Owns what a report shows of told probabilities: precision and recall, calibration, scores by class, thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carryover.report import charts, page
from carryover.report.charts import Axes, Series
from carryover.report.page import number
from carryover.tasks import curves
from carryover.tasks.calibration import BINS, Reliability, reliability

UNIT = (0.0, 1.0)
# Lines of one chart that can still be told apart; bins of the scores of each class.
MOST_LINES, SCORE_BINS = 5, 20
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LOW = 230


@dataclass(frozen=True)
class Told:
    """What a classifier told of rows: true class indices int64[N], probabilities float64[N, C], names of the classes.

    Attributes:
        positive: index of the positive class of a binary problem, None for others.
    """

    targets: np.ndarray
    probabilities: np.ndarray
    classes: Sequence[str]
    positive: int | None = None


def cards(told: Told) -> list[str]:
    """Return the parts of a report that need probabilities; none where one of them is no number."""
    if not len(told.targets) or not np.isfinite(told.probabilities).all():
        return []
    return [*(_many(told) if told.positive is None else _binary(told, told.positive)), *_calibration(told)]


def _binary(told: Told, positive: int) -> list[str]:
    is_positive, probability = told.targets == positive, told.probabilities[:, positive]
    found = curves.precision_recall(told.targets, told.probabilities, positive=positive)
    if found is None:
        return []
    name = told.classes[positive]
    base = float(is_positive.mean())
    drawn = charts.lines_chart(
        [Series(name, found.recall, found.precision)],
        Axes(UNIT, UNIT),
        x_title="Recall",
        y_title="Precision",
        label="Precision over recall",
        ideal=((0, base), (1, base)),
    )
    words = f"Average precision {number(found.average)}; dashed: a guess ({number(base)} of the rows are positive)."
    return [
        page.card(f"Precision and recall, “{name}”", drawn + page.note(words)),
        page.card("Scores of each class", _scores(told, positive)),
        page.card(f"Thresholds for “{name}”", _thresholds(is_positive, probability), wide=True),
    ]


def _scores(told: Told, positive: int) -> str:
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    is_positive, probability = told.targets == positive, told.probabilities[:, positive]
    shares = [np.histogram(probability[kept], edges)[0] / max(1, kept.sum()) for kept in (is_positive, ~is_positive)]
    name, other = told.classes[positive], told.classes[1 - positive]
    title = f"Probability of “{name}”"
    drawn = charts.counts_chart(
        edges, shares[0], x_title=title[:50], y_title="Share of the class", label=title, before=shares[1]
    )
    return drawn + page.note(f"Filled: rows that are “{name}”. Line: rows that are “{other}”.")


def _thresholds(is_positive: np.ndarray, probability: np.ndarray) -> str:
    best = curves.best_threshold(is_positive, probability)
    every = [curves.at_threshold(is_positive, probability, at) for at in THRESHOLDS]
    rows = []
    for one in sorted([*every, best], key=lambda one: one.at):
        mark = page.tag("greatest F1") if one is best else page.tag("as scored") if one.at == 0.5 else ""
        shares = (one.precision, one.recall, one.f1, one.false_positive_rate)
        rows.append((f"{one.at:.4g} {mark}", f"{one.taken:,}", *(number(share) for share in shares)))
    words = "The greatest F1 is chosen on these very rows, so it is a little too good for others."
    heads = ("from probability", "taken", "precision", "recall", "F1", "false positive rate")
    return page.table(heads, rows, numeric=1) + page.note(words)


def _many(told: Told) -> list[str]:
    """Return ROC and precision over recall of the classes with most rows, each against all others."""
    counts = np.bincount(told.targets, minlength=len(told.classes))
    chosen = [int(at) for at in np.argsort(-counts, kind="stable")[:MOST_LINES]]
    found = [(at, curves.roc(told.targets, told.probabilities, positive=at)) for at in chosen]
    rocs = [Series(told.classes[at], one.fpr, one.tpr) for at, one in found if one is not None]
    pairs = [(at, curves.precision_recall(told.targets, told.probabilities, positive=at)) for at in chosen]
    lines = [Series(told.classes[at], one.recall, one.precision) for at, one in pairs if one is not None]
    if not rocs:
        return []
    left_out = len(told.classes) - len(rocs)
    words = page.note("Those with most rows; the table of classes has the areas of all.") if left_out else ""
    unit = Axes(UNIT, UNIT)
    drawn = charts.lines_chart(
        rocs,
        unit,
        x_title="False positive rate",
        y_title="True positive rate",
        label="ROC of classes",
        ideal=((0, 0), (1, 1)),
    )
    both = charts.lines_chart(
        lines, unit, x_title="Recall", y_title="Precision", label="Precision over recall of classes"
    )
    return [page.card("ROC, each against the rest", drawn + words), page.card("Precision and recall", both + words)]


def _calibration(told: Told) -> list[str]:
    if told.positive is None:
        confidence, right = told.probabilities.max(axis=1), told.probabilities.argmax(axis=1) == told.targets
        title, share = "Confidence in the class told", "Share told right"
    else:
        confidence, right = told.probabilities[:, told.positive], told.targets == told.positive
        title, share = f"Probability of “{told.classes[told.positive]}”"[:50], "Share that is"
    found = reliability(confidence, right)
    if found is None:
        return []
    return [page.card("Calibration", _reliability(found, title, share), wide=True)]


def _reliability(found: Reliability, title: str, share: str) -> str:
    there = found.rows > 0
    drawn = charts.lines_chart(
        [Series("told", found.confidence[there], found.right[there])],
        Axes(UNIT, UNIT),
        x_title=title,
        y_title=share,
        label="Reliability diagram",
        ideal=((0, 0), (1, 1)),
        dots=True,
    )
    rows = charts.counts_chart(
        np.linspace(0, 1, BINS + 1), found.rows, x_title=title, label="Rows by confidence", height=LOW
    )
    words = (
        f"ECE {number(found.ece)}: how far, on average over the rows, what is told lies from what is true, in "
        f"{BINS} equal bins. On the dashed line, of rows told with 0.8 eight in ten are. Beside: rows of each bin; of "
        "few rows a point says little."
    )
    return f'<div class="halves"><div>{drawn}</div><div>{rows}{page.note(words)}</div></div>'


def areas(told: Told, places: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Return class index -> area under its ROC curve and its average precision, NaN where it has none."""
    found = {}
    for at in places:
        roc = curves.roc(told.targets, told.probabilities, positive=at)
        both = curves.precision_recall(told.targets, told.probabilities, positive=at)
        found[at] = (float("nan") if roc is None else curves.area(roc), both.average if both else float("nan"))
    return found
