"""Owns the paired bootstrap: how sure the difference of two Models' scores on the same rows is.

    counts float64[R, N]    how often each of N rows is drawn in R resamples; one draw serves both Models
    metric --resampled--> function of counts: its value on each resample, float64[R], NaN where it has none

Most metrics are sums over rows, so all resamples are computed at once; the others are called for each resample, and for
fewer of them. Those of boxes and masks are in bootstrap_dense.py.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from carryover.carry.bootstrap_dense import DENSE, looks
from carryover.tasks.metrics import Metric, Scored, value

RESAMPLES = 2000
# A metric that has to be called resample by resample costs milliseconds each time.
FEWER_RESAMPLES = 400
# Resamples times rows beyond which there are fewer resamples: with so many rows the interval is narrow anyway.
MOST_DRAWS = 100_000_000
_AT_ONCE = 2_000_000
Resampled = Callable[[np.ndarray], np.ndarray]


def differences(metric: Metric, first: Scored, second: Scored, *, seed: int = 0, resamples: int = 0) -> np.ndarray:
    """Return metric(first) - metric(second) on resampled rows, float64[R], NaN where one of them has no value.

    Args:
        first, second: what two Models said of the same rows, in the same order.
        resamples: R; 0 for as many as the metric and the number of rows allow.
    """
    rows = len(first.targets)
    of_first, of_second = resampled(metric, first), resampled(metric, second)
    rng = np.random.default_rng(seed)
    total = resamples or _affordable(metric, first)
    at_once = max(1, _AT_ONCE // rows)
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, total, at_once):
            counts = _draw(rng, min(at_once, total - start), rows)
            found.append(of_first(counts) - of_second(counts))
    values = np.concatenate(found)
    return np.where(np.isfinite(values), values, np.nan)


def resampled(metric: Metric, scored: Scored) -> Resampled:
    """Return the metric as a function of row counts float64[R, N] -> values float64[R]."""
    make = FAST.get(metric.name)
    return make(scored) if make else _one_by_one(metric, scored)


def _affordable(metric: Metric, scored: Scored) -> int:
    most = RESAMPLES if metric.name in FAST else FEWER_RESAMPLES
    # A metric of the order of probabilities looks at all rows once for each class.
    times = scored.classes if metric.name in BY_ORDER and scored.classes > 2 else looks(metric.name, scored)
    return int(np.clip(MOST_DRAWS // (len(scored.targets) * times), FEWER_RESAMPLES, most))


def _draw(rng: np.random.Generator, resamples: int, rows: int) -> np.ndarray:
    drawn = rng.integers(rows, size=(resamples, rows)) + rows * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * rows).reshape(resamples, rows).astype(np.float64)


def _one_by_one(metric: Metric, scored: Scored) -> Resampled:
    def values(counts: np.ndarray) -> np.ndarray:
        found = []
        for row in counts.astype(np.int64):
            drawn = np.repeat(np.arange(len(row)), row)
            part = replace(scored, targets=scored.targets[drawn], predictions=scored.predictions[drawn])
            found.append(value(metric, part))
        return np.array(found)

    return values


def _mean(of: Callable[[Scored], np.ndarray], then: Resampled = np.asarray) -> Callable[[Scored], Resampled]:
    """Return a metric that is a mean over rows, or a function of one."""

    def make(scored: Scored) -> Resampled:
        values = of(scored)
        return lambda counts: then(counts @ values / counts.sum(axis=1))

    return make


def _right(scored: Scored) -> np.ndarray:
    return (scored.chosen == scored.targets).astype(np.float64)


def _surprise(scored: Scored) -> np.ndarray:
    """Return each row's log loss, cut as scikit-learn cuts it."""
    known = scored.predictions[np.arange(len(scored.targets)), scored.targets]
    tiny = np.finfo(np.float64).eps
    return -np.log(np.clip(known, tiny, 1 - tiny))


def _squared(scored: Scored) -> np.ndarray:
    return np.square(scored.targets - scored.predictions)


def _counted(
    score: Callable[[Scored, np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[Scored], Resampled]:
    """Return a metric of each class's counts: rows told right, rows that have it, rows told as it; float64[R, C]."""

    def make(scored: Scored) -> Resampled:
        from scipy.sparse import csr_array

        shape = (len(scored.targets), scored.classes)
        hit, rows = _right(scored), np.arange(len(scored.targets))
        ones = np.ones(len(rows))
        right, support, told = (
            csr_array((values, (rows, classes)), shape=shape)
            for values, classes in ((hit, scored.targets), (ones, scored.targets), (ones, scored.chosen))
        )
        return lambda counts: score(scored, counts @ right, counts @ support, counts @ told)

    return make


def _mean_where(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    return np.where(there, values, 0).sum(axis=1) / there.sum(axis=1)


def _balanced(scored: Scored, right: np.ndarray, support: np.ndarray, told: np.ndarray) -> np.ndarray:
    return _mean_where(right / support, support > 0)


def _f1(right: np.ndarray, support: np.ndarray, told: np.ndarray) -> np.ndarray:
    return 2 * right / np.maximum(support + told, 1)


def _mcc(scored: Scored, right: np.ndarray, support: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Return Gorodkin's R_K from counts; 0 where all rows are told alike, or are alike."""
    rows = support.sum(axis=1)
    together = right.sum(axis=1) * rows - (told * support).sum(axis=1)
    spread = (rows**2 - (told**2).sum(axis=1)) * (rows**2 - (support**2).sum(axis=1))
    alone = (support + told > 0).sum(axis=1) < 2
    return np.where(alone, np.nan, np.where(spread > 0, together / np.sqrt(np.maximum(spread, 1)), 0.0))


def _kappa(scored: Scored) -> Resampled:
    """Return Cohen's kappa with quadratic weights, which needs the classes' numbers' moments only."""
    truth, told = scored.targets.astype(np.float64), scored.chosen.astype(np.float64)

    def values(counts: np.ndarray) -> np.ndarray:
        rows = counts.sum(axis=1)
        chance = (counts @ (truth**2 + told**2) - 2 * (counts @ truth) * (counts @ told) / rows) / rows
        return 1 - counts @ (truth - told) ** 2 / rows / chance

    return values


def _ranked(score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Scored], Resampled]:
    """Return a metric of the order of probabilities: each class against the rest, their mean; two classes: once.

    `score` takes the positive and all rows of each group of equal probabilities, from the highest on, float64[R, G].
    """

    def make(scored: Scored) -> Resampled:
        wanted = [scored.positive] if scored.classes == 2 else scored.labels
        orders = [_groups(-scored.predictions[:, label]) for label in wanted]

        def values(counts: np.ndarray) -> np.ndarray:
            found = []
            for label, (order, starts, _) in zip(wanted, orders, strict=True):
                sorted_counts = counts[:, order]
                positive = np.add.reduceat(sorted_counts * (scored.targets[order] == label), starts, axis=1)
                found.append(score(positive, np.add.reduceat(sorted_counts, starts, axis=1)))
            return np.mean(found, axis=0)

        return values

    return make


def _groups(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of values, where each group of equal ones starts in it, and the group of every row."""
    order = np.argsort(values, kind="stable")
    _, starts, inverse = np.unique(values[order], return_index=True, return_inverse=True)
    group = np.empty(len(values), dtype=np.int64)
    group[order] = inverse
    return order, starts, group


def _area(positive: np.ndarray, rows: np.ndarray) -> np.ndarray:
    negative = rows - positive
    below = negative.sum(axis=1, keepdims=True) - negative.cumsum(axis=1)
    return (positive * (below + negative / 2)).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))


def _precision(positive: np.ndarray, rows: np.ndarray) -> np.ndarray:
    share = positive.cumsum(axis=1) / np.maximum(rows.cumsum(axis=1), 1)
    return (positive * share).sum(axis=1) / positive.sum(axis=1)


def _r2(scored: Scored) -> Resampled:
    truth, errors = scored.targets - scored.targets.mean(), _squared(scored)

    def values(counts: np.ndarray) -> np.ndarray:
        spread = counts @ truth**2 - (counts @ truth) ** 2 / counts.sum(axis=1)
        return 1 - counts @ errors / np.where(spread > 1e-12 * counts.sum(axis=1), spread, np.nan)

    return values


def _pearson(scored: Scored) -> Resampled:
    truth, told = (part - part.mean() for part in (scored.targets, scored.predictions))
    return lambda counts: _correlation(
        counts, np.broadcast_to(truth, counts.shape), np.broadcast_to(told, counts.shape)
    )


def _spearman(scored: Scored) -> Resampled:
    groups = [_groups(part) for part in (scored.targets, scored.predictions)]

    def ranks(counts: np.ndarray, order: np.ndarray, starts: np.ndarray, group: np.ndarray) -> np.ndarray:
        there = np.add.reduceat(counts[:, order], starts, axis=1)
        middle = there.cumsum(axis=1) - (there - 1) / 2 - counts.shape[1] / 2
        return middle[:, group]

    return lambda counts: _correlation(counts, *(ranks(counts, *one) for one in groups))


def _correlation(counts: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    rows = counts.sum(axis=1)

    def together(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        means = (counts * one).sum(axis=1) * (counts * other).sum(axis=1) / rows
        return (counts * one * other).sum(axis=1) - means

    return together(first, second) / np.sqrt(together(first, first) * together(second, second))


FAST: dict[str, Callable[[Scored], Resampled]] = {
    "accuracy": _mean(_right),
    "average_precision": _ranked(_precision),
    "balanced_accuracy": _counted(_balanced),
    "f1": _counted(lambda scored, *counts: _f1(*counts)[:, scored.positive]),
    "f1_macro": _counted(lambda _, right, support, told: _mean_where(_f1(right, support, told), support + told > 0)),
    "f1_micro": _mean(_right),
    "f1_weighted": _counted(
        lambda _, right, support, told: (_f1(right, support, told) * support).sum(axis=1) / support.sum(axis=1)
    ),
    "log_loss": _mean(_surprise),
    "mae": _mean(lambda scored: np.abs(scored.targets - scored.predictions)),
    "mcc": _counted(_mcc),
    "mse": _mean(_squared),
    "pearsonr": _pearson,
    "quadratic_kappa": _kappa,
    "r2": _r2,
    "rmse": _mean(_squared, np.sqrt),
    "roc_auc": _ranked(_area),
    "spearmanr": _spearman,
    **DENSE,
}
BY_ORDER = ("average_precision", "roc_auc")
