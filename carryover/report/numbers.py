"""Owns what a report shows of predicted numbers: predictions over true values, and errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from carryover.report import charts, page


@dataclass(frozen=True)
class Measured:
    """See `evaluation.Shown`; `truth` and `predictions` are float64[N]."""

    truth: np.ndarray
    predictions: np.ndarray
    style: str = ""

    def cards(self) -> list[str]:
        """See `evaluation.Shown`."""
        finite = np.isfinite(self.predictions)
        truth, predictions = self.truth[finite], self.predictions[finite]
        if not len(truth):
            return [page.card("Predictions", "<p>The model gave no finite number.</p>")]
        errors = charts.histogram_chart(predictions - truth, x_title="Prediction minus true value", label="Errors")
        return [page.card("Predictions", charts.scatter_chart(truth, predictions)), page.card("Errors", errors)]

    def to_json(self) -> dict[str, Any]:
        """See `evaluation.Shown`."""
        return {}
