"""Owns how far told probabilities can be believed: bins of confidence, what was right in each, and the mean gap.

    confidence of each row --> 10 equal bins --> mean confidence | share that was right | rows --> ECE

Of a binary problem the confidence is the probability of the positive class and "right" is that a row is positive; of
more classes it is that of the most probable one, and "right" is that it is the true one (Guo, Pleiss, Sun and
Weinberger, On Calibration of Modern Neural Networks, 2017). The bins are those of scikit-learn's `calibration_curve`:
each has its upper edge, the first one 0 too.
"""

from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """What is known of each bin, arrays [BINS]; confidence and right are NaN in an empty one.

    Attributes:
        ece: expected calibration error: mean over rows of |right - confidence| of the row's bin, from 0 to 1.
    """

    confidence: np.ndarray
    right: np.ndarray
    rows: np.ndarray
    ece: float


def reliability(confidence: np.ndarray, right: np.ndarray) -> Reliability | None:
    """Return how confidence and truth go together, None where there is no row, or one whose confidence is no number.

    Args:
        confidence: float64[N], from 0 to 1.
        right: bool[N].
    """
    if not len(confidence) or not np.isfinite(confidence).all():
        return None
    edges = np.linspace(0.0, 1.0, BINS + 1)
    places = np.searchsorted(edges[1:-1], confidence)
    rows = np.bincount(places, minlength=BINS)
    there = np.maximum(rows, 1)
    means = [np.bincount(places, weights=each, minlength=BINS) / there for each in (confidence, right)]
    told, found = (np.where(rows > 0, mean, np.nan) for mean in means)
    return Reliability(told, found, rows, float(np.nansum(rows * np.abs(found - told)) / len(confidence)))
