"""Owns docs/quality.md: what each arm reached, how sure that is, and whether it is what was asked for.

Intervals are percentile bootstraps (scipy) over the test rows, 2,000 resamples: of the mean over seeds, and, to compare
two arms, of the difference on the same resampled rows. They say what another draw of test rows could have given, not
another draw of training rows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import bootstrap

from benchmarks.quality import picture_page, stream_page
from benchmarks.quality.cases import CASES, ROOT, SEEDS, Case

PAGE = ROOT / "docs" / "quality.md"
RESAMPLES = 2000
HEAD = """\
# Quality: what models reach on small real data

Written by `make quality` from the lines in `benchmarks/results/`. Each arm is trained with three seeds on a fixed split
and scored on test rows that nothing was chosen by; a tenth of the training rows chooses the best weights. *Spread* is
the range over seeds. *Interval*: 95 %, bootstrap over test rows of the mean over seeds. Small samples, small models,
few epochs: the numbers compare arms here, and do not compare with published ones. What is not reached is said so.
"""


class Arm(NamedTuple):
    """An arm's results: truth [N], predictions [S, N], and its metric for each seed."""

    name: str
    metric: str
    truth: np.ndarray
    predictions: np.ndarray
    values: list[float]
    seconds: float

    def over(self, rows: np.ndarray) -> float:
        """Return the mean over seeds of the metric on these rows."""
        return float(np.mean([_METRICS[self.metric](self.truth[rows], one[rows]) for one in self.predictions]))


def _r2(truth: np.ndarray, predictions: np.ndarray) -> float:
    return float(1 - ((truth - predictions) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def _pearson(truth: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.corrcoef(truth, predictions)[0, 1])


def _accuracy(truth: np.ndarray, predictions: np.ndarray) -> float:
    return float((truth == predictions).mean())


_METRICS = {"r2": _r2, "pearsonr": _pearson, "accuracy": _accuracy}


Lines = Sequence[dict[str, Any]]


def page(results: Lines, streams: Lines = (), pictures: Lines = ()) -> str:
    """Return the page for these results: of cases, of streams, of boxes and masks."""
    parts = [HEAD]
    for case in CASES:
        arms = [arm for name in case.arms if (arm := _arm(case, name, results))]
        if arms:
            parts.append(_section(case, arms))
    done = {(one["case"], one["arm"], one["seed"]) for one in results}
    runs = [(case.name, arm, seed) for case in CASES for arm in case.arms for seed in SEEDS]
    missing = [f"{case} ({arm}, seed {seed})" for case, arm, seed in runs if (case, arm, seed) not in done]
    if missing:
        parts.append(f"## Not run yet\n\n{len(missing)} of {len(runs)} runs: {', '.join(missing)}.\n")
    return "\n".join(part for part in [*parts, stream_page.sections(streams), picture_page.sections(pictures)] if part)


def _arm(case: Case, name: str, results: Sequence[dict[str, Any]]) -> Arm | None:
    mine = [one for one in results if (one["case"], one["arm"]) == (case.name, name)]
    if not mine:
        return None
    values = [one["value"] for one in mine]
    predictions = np.array([one["predictions"] for one in mine])
    return Arm(name, case.metric, np.array(mine[0]["truth"]), predictions, values, mine[0]["seconds"])


def _section(case: Case, arms: Sequence[Arm]) -> str:
    lines = [f"## {case.title}", "", *([case.note, ""] if case.note else [])]
    lines.append(f"| arm | {case.metric} | spread | interval | seeds | test rows | goal |")
    lines.append("| --- | ---: | --- | --- | ---: | ---: | --- |")
    for arm in arms:
        low, high = interval(arm)
        spread = f"{min(arm.values):.3f} to {max(arm.values):.3f}"
        cells = (arm.name, f"{np.mean(arm.values):.3f}", spread, f"{low:.3f} to {high:.3f}", len(arm.values))
        lines.append(f"| {' | '.join(map(str, cells))} | {len(arm.truth)} | {_goal(case, arm)} |")
    lines += _compared(case, arms)
    return "\n".join([*lines, "", f"`python -m benchmarks.quality.run --case {case.name}`", ""])


def _goal(case: Case, arm: Arm) -> str:
    if arm.name not in case.goals:
        return ""
    least, why = case.goals[arm.name]
    return f"{'reached' if np.mean(arm.values) >= least else 'NOT reached'}: {least:g} ({why})"


def _compared(case: Case, arms: Sequence[Arm]) -> list[str]:
    """Say how one arm stands to the best of the others."""
    if case.best_of is None:
        return []
    by_name = {arm.name: arm for arm in arms}
    mine, others = by_name.get(case.best_of[0]), [by_name[name] for name in case.best_of[1] if name in by_name]
    if mine is None or not others:
        return []
    best = max(others, key=lambda arm: float(np.mean(arm.values)))
    low, high = interval(mine, best)
    verdict = "better" if low > 0 else "WORSE" if high < 0 else "no significant difference"
    said = f"{mine.name} minus {best.name}: {low:+.3f} to {high:+.3f}: {verdict}."
    return ["", said]


def interval(arm: Arm, other: Arm | None = None) -> tuple[float, float]:
    """Return the 95 % interval of an arm's mean, or of its difference to another on the same rows."""

    def value(rows: np.ndarray) -> float:
        rows = rows.astype(int)
        return arm.over(rows) - (other.over(rows) if other else 0.0)

    found = bootstrap(
        (np.arange(len(arm.truth)),), value, vectorized=False, n_resamples=RESAMPLES, method="percentile", rng=0
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
