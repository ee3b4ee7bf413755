"""Owns what a report shows of classified rows: confusion matrix, curves, scores of classes, confusions, mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carryover.report import charts, examples, page, probabilities
from carryover.report.examples import Example
from carryover.report.page import escape, number
from carryover.report.probabilities import Told
from carryover.tasks.curves import Roc, area, class_scores

# Beyond these a matrix is no longer read; the table of confusions says the same.
MOST_LARGE, MOST_WITH_NUMBERS, MOST_IN_MATRIX, MOST_IN_TABLE, MOST_CONFUSIONS = 3, 12, 40, 100, 15
# Of the fullest cell: what is written on it has to be read, on light and on dark.
SHADE = 0.55


@dataclass(frozen=True)
class Classified:
    """See `evaluation.Shown`.

    Attributes:
        classes: names of the classes as text.
        matrix: int64[C, C] confusion matrix.
        positive, roc: of a binary problem.
        told: what charts of probabilities are drawn from; None without them.
        mistakes: the rows that were told wrong with most confidence, the worst first.
    """

    classes: Sequence[str]
    matrix: np.ndarray
    positive: str = ""
    roc: Roc | None = None
    told: Told | None = None
    mistakes: Sequence[Example] = ()
    style: str = examples.STYLE

    def cards(self) -> list[str]:
        """See `evaluation.Shown`."""
        parts = []
        if len(self.classes) <= MOST_IN_MATRIX:
            wide = len(self.classes) > 5
            parts.append(page.card("Confusion matrix", matrix_table(self.matrix, self.classes), wide=wide))
        if self.roc is not None:
            heading = f"ROC curve, positive class “{self.positive}”"
            words = page.note(f"Area {number(area(self.roc))}; dashed: a guess (0.5).")
            parts.append(page.card(heading, charts.roc_chart(self.roc.fpr, self.roc.tpr) + words))
        parts += probabilities.cards(self.told) if self.told else []
        parts.append(page.card("Classes", _class_table(self.matrix, self.classes, self.told), wide=True))
        if len(self.classes) > 2 and (confusions := _confusions(self.matrix, self.classes)):
            parts.append(page.card("Most frequent confusions", confusions, wide=True))
        if self.mistakes:
            parts.append(examples.card("Worst mistakes", self.mistakes, "Told wrong with most confidence."))
        return parts

    def to_json(self) -> dict[str, Any]:
        """See `evaluation.Shown`."""
        matrix = {"labels": list(self.classes), "matrix": self.matrix.tolist()}
        return {"confusion_matrix": matrix, "roc": None if self.roc is None else _roc(self.roc)}


def _roc(curve: Roc) -> dict[str, list[float]]:
    return {"fpr": curve.fpr.tolist(), "tpr": curve.tpr.tolist(), "threshold": curve.threshold.tolist()}


def matrix_table(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Return the matrix as a table, rows true and columns predicted, shaded by the share of the row."""
    full = len(classes) <= MOST_WITH_NUMBERS
    heads = "".join(f'<th title="{escape(name)}">{escape(name)}</th>' for name in classes)
    lines = [f'<tr><th class="side soft">true ↓ predicted →</th>{heads}</tr>']
    for index, name in enumerate(classes):
        total = max(1, int(matrix[index].sum()))
        cells = []
        for column, count in enumerate(matrix[index].tolist()):
            share = count / total
            colour = "--right-rgb" if column == index else "--miss-rgb"
            inside = f"{count:,}<small>{share:.0%}</small>" if full else (str(count) if count else "")
            hover = escape(f"true {name}, predicted {classes[column]}: {count:,} ({share:.1%})")
            cells.append(
                f'<td style="background: rgb(var({colour}) / {share * SHADE:.3f})" title="{hover}">{inside}</td>'
            )
        lines.append(f'<tr><th class="side" title="{escape(name)}">{escape(name)}</th>{"".join(cells)}</tr>')
    kind = "large" if len(classes) <= MOST_LARGE else "" if full else "dense"
    return f'<div class="scroll"><table class="matrix {kind}">{"".join(lines)}</table></div>'


def _class_table(matrix: np.ndarray, classes: Sequence[str], told: Told | None) -> str:
    scores = class_scores(matrix)
    order = np.arange(len(classes))
    if len(classes) > MOST_WITH_NUMBERS:
        order = np.argsort([-one.support for one in scores], kind="stable")
    # Of two classes the one's area is the other's, and stands below its curve.
    areas = probabilities.areas(told, order[:MOST_IN_TABLE].tolist()) if told and len(classes) > 2 else {}
    rows = []
    for place in order[:MOST_IN_TABLE].tolist():
        one = scores[place]
        cells = [escape(classes[place]), f"{one.support:,}", f"{one.predicted:,}"]
        cells += [_bar(one.precision), _bar(one.recall), _bar(one.f1)]
        rows.append([*cells, *(number(value) for value in areas.get(place, ()))])
    more = len(classes) - len(rows)
    tail = page.note(f"and {more:,} classes with fewer rows") if more else ""
    heads = ["Class", "Rows", "Predicted", "Precision", "Recall", "F1", *(["ROC area", "AP"] if areas else [])]
    return page.table(heads, rows, numeric=1) + tail


def _bar(share: float) -> str:
    return f'<span class="bar" style="width: {share * 40:.0f}px"></span> {number(share)}'


def _confusions(matrix: np.ndarray, classes: Sequence[str]) -> str:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [tuple(int(part) for part in np.unravel_index(place, wrong.shape)) for place in order]
    rows = [
        (escape(classes[i]), escape(classes[j]), f"{wrong[i, j]:,}", f"{wrong[i, j] / matrix[i].sum():.1%}")
        for i, j in pairs
        if wrong[i, j]
    ]
    return page.table(["True", "Predicted", "Rows", "Of the true class"], rows, numeric=2) if rows else ""
