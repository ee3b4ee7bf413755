"""Owns what a report shows of predicted numbers: predictions over true values, errors from several sides, mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carryover.report import charts, examples, page
from carryover.report.examples import Example
from carryover.report.page import number

PARTS = 10
BAR = 80
# Fewer rows say nothing of how errors are spread.
LEAST_ROWS = 20


@dataclass(frozen=True)
class Measured:
    """See `evaluation.Shown`; `truth` and `predictions` are float64[N], `mistakes` the rows of the largest errors."""

    truth: np.ndarray
    predictions: np.ndarray
    mistakes: Sequence[Example] = ()
    style: str = examples.STYLE

    def cards(self) -> list[str]:
        """See `evaluation.Shown`."""
        finite = np.isfinite(self.predictions)
        truth, predictions = self.truth[finite], self.predictions[finite]
        if not len(truth):
            return [page.card("Predictions", "<p>The model gave no finite number.</p>")]
        errors = predictions - truth
        drawn = charts.histogram_chart(errors, x_title="Prediction minus true value", label="Errors")
        bias = page.note(f"Mean {number(float(errors.mean()))}: below 0, too little is told on average.")
        residuals = charts.residuals_chart(predictions, errors)
        parts = [
            page.card("Predictions", charts.scatter_chart(truth, predictions)),
            page.card("Errors", drawn + bias),
            page.card("Errors over predictions", residuals + page.note("A cloud that bends or widens has a reason.")),
        ]
        if len(errors) >= LEAST_ROWS and errors.std() > 0:
            words = "On the dashed line errors are normally distributed; ends beyond it are rare and large errors."
            parts.append(page.card("Are errors normal?", charts.normal_chart(errors) + page.note(words)))
        if len(errors) >= LEAST_ROWS:
            parts.append(page.card("Errors by tenths of the true values", _tenths(truth, errors), wide=True))
        if self.mistakes:
            parts.append(examples.card("Worst mistakes", self.mistakes, "The largest errors."))
        return parts

    def to_json(self) -> dict[str, Any]:
        """See `evaluation.Shown`."""
        return {}


def _tenths(truth: np.ndarray, errors: np.ndarray) -> str:
    order = np.argsort(truth, kind="stable")
    parts = [part for part in np.array_split(order, PARTS) if len(part)]
    middles = [float(np.median(np.abs(errors[part]))) for part in parts]
    most = max(middles) or 1.0
    rows = []
    for part, middle in zip(parts, middles, strict=True):
        span = f"{number(float(truth[part].min()))} to {number(float(truth[part].max()))}"
        bar = f'<span class="bar" style="width:{middle / most * BAR:.0f}px"></span> {number(middle)}'
        large = float(np.quantile(np.abs(errors[part]), 0.9))
        rows.append((span, f"{len(part):,}", bar, number(large), number(float(errors[part].mean()))))
    heads = ("true value", "rows", "median error", "nine in ten below", "mean, with sign")
    return page.table(heads, rows, numeric=1)
