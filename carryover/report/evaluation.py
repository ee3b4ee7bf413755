"""Owns the report of an evaluation: scores, and for each dataset confusion matrix and ROC curve, or scatter plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from carryover.report import charts, page
from carryover.report.page import escape, number
from carryover.tasks.curves import Roc, class_scores

# Beyond these a matrix is no longer read; the table of confusions says the same.
MOST_LARGE, MOST_WITH_NUMBERS, MOST_IN_MATRIX, MOST_IN_TABLE, MOST_CONFUSIONS = 3, 12, 40, 100, 15


@dataclass(frozen=True)
class Evaluation:
    """One dataset's result.

    Attributes:
        name: the dataset's URI or another name, for people.
        metrics: name -> value, NaN where there is none; the first one is the main one.
        classes: names of the classes as text, None for regression.
        matrix: int64[C, C] confusion matrix, None for regression.
        roc: of a binary problem.
        truth, predictions: numbers float64[N] of a regression, else None.
    """

    name: str
    rows: int
    metrics: Mapping[str, float]
    classes: Sequence[str] | None = None
    positive: str = ""
    matrix: np.ndarray | None = None
    roc: Roc | None = None
    truth: np.ndarray | None = None
    predictions: np.ndarray | None = None


def evaluation_page(
    evaluations: Sequence[Evaluation],
    *,
    title: str,
    lead: str,
    facts: Sequence[tuple[str, object]],
    foot: str,
    before: str = "",
    after: str = "",
) -> str:
    """Return the HTML page; all texts are plain, `facts` are what is known of the model.

    Args:
        before, after: sections around the Datasets' own, as HTML.
    """
    body = [before]
    for evaluation in evaluations:
        body.append(f'<h2>{escape(evaluation.name)} <span class="soft">· {evaluation.rows:,} rows</span></h2>')
        body.append(page.tiles(evaluation.metrics.items()))
        body.append(page.cards(_classified(evaluation) if evaluation.classes else _measured(evaluation)))
    body.append(after)
    body.append("<h2>Model</h2>" + page.cards([page.card("Where it comes from", page.facts(facts), wide=True)]))
    return page.page(title, lead, body, foot=foot)


def _classified(evaluation: Evaluation) -> list[str]:
    assert evaluation.matrix is not None
    assert evaluation.classes is not None
    parts = []
    if len(evaluation.classes) <= MOST_IN_MATRIX:
        wide = len(evaluation.classes) > 5
        parts.append(page.card("Confusion matrix", _matrix(evaluation.matrix, evaluation.classes), wide=wide))
    if evaluation.roc is not None:
        heading = f"ROC curve, positive class “{evaluation.positive}”"
        parts.append(page.card(heading, charts.roc_chart(evaluation.roc.fpr, evaluation.roc.tpr)))
    parts.append(page.card("Classes", _class_table(evaluation.matrix, evaluation.classes), wide=True))
    if len(evaluation.classes) > 2 and (confusions := _confusions(evaluation.matrix, evaluation.classes)):
        parts.append(page.card("Most frequent confusions", confusions, wide=True))
    return parts


def _matrix(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Return the matrix as a table, rows true and columns predicted, shaded by the share of the row."""
    full = len(classes) <= MOST_WITH_NUMBERS
    heads = "".join(f'<th title="{escape(name)}">{escape(name)}</th>' for name in classes)
    lines = [f'<tr><th class="side soft">true ↓ predicted →</th>{heads}</tr>']
    for index, name in enumerate(classes):
        total = max(1, int(matrix[index].sum()))
        cells = []
        for column, count in enumerate(matrix[index].tolist()):
            share = count / total
            colour = "--accent-rgb" if column == index else "--wrong-rgb"
            inside = f"{count:,}<small>{share:.0%}</small>" if full else (str(count) if count else "")
            hover = escape(f"true {name}, predicted {classes[column]}: {count:,} ({share:.1%})")
            cells.append(
                f'<td style="background: rgb(var({colour}) / {share * 0.75:.3f})" title="{hover}">{inside}</td>'
            )
        lines.append(f'<tr><th class="side" title="{escape(name)}">{escape(name)}</th>{"".join(cells)}</tr>')
    kind = "large" if len(classes) <= MOST_LARGE else "" if full else "dense"
    return f'<div class="scroll"><table class="matrix {kind}">{"".join(lines)}</table></div>'


def _class_table(matrix: np.ndarray, classes: Sequence[str]) -> str:
    scored = sorted(zip(classes, class_scores(matrix), strict=True), key=lambda pair: -pair[1].support)
    if len(classes) <= MOST_WITH_NUMBERS:
        scored = list(zip(classes, class_scores(matrix), strict=True))
    rows = [
        (
            escape(name),
            f"{one.support:,}",
            f"{one.predicted:,}",
            number(one.precision),
            number(one.recall),
            f'<span class="bar" style="width: {one.f1 * 60:.0f}px"></span> {number(one.f1)}',
        )
        for name, one in scored[:MOST_IN_TABLE]
    ]
    more = len(scored) - len(rows)
    tail = f'<p class="soft">and {more:,} classes with fewer rows</p>' if more else ""
    return page.table(["Class", "Rows", "Predicted", "Precision", "Recall", "F1"], rows, numeric=1) + tail


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


def _measured(evaluation: Evaluation) -> list[str]:
    assert evaluation.truth is not None
    assert evaluation.predictions is not None
    finite = np.isfinite(evaluation.predictions)
    truth, predictions = evaluation.truth[finite], evaluation.predictions[finite]
    if not len(truth):
        return [page.card("Predictions", "<p>The model gave no finite number.</p>")]
    errors = charts.histogram_chart(predictions - truth, x_title="Prediction minus true value", label="Errors")
    return [page.card("Predictions", charts.scatter_chart(truth, predictions)), page.card("Errors", errors)]
