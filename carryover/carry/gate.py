"""Owns the decision whether a Model may take another's place: its gain on new data, what it forgot of old, how sure.

    Answers of both --compare--> Compared: difference in the metric's units and its 95 % interval (paired bootstrap)
    first Dataset   gain       = model - baseline  >= min_gain
    every other     forgetting = baseline - model  <= max_forgetting         (turned so that more is better)
    Gate --decide--> Decision: accepted, and why

As measured decides; `confident` asks the interval's nearer bound to hold as well, so chance cannot have decided.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from carryover.carry.answers import Answers
from carryover.carry.bootstrap import differences
from carryover.ground.config import check
from carryover.ground.errors import WrongInput
from carryover.tasks.metrics import Metric, value

NO_BASELINE = "no baseline to compare with"
_BOUNDS = (2.5, 97.5)
# 0.9 - 0.8 is a little less than 0.1; nobody who asks for 0.1 means that.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Compared:
    """Two Models on one Dataset.

    Attributes:
        model, baseline: their scores as the metric has them, NaN where there is none.
        better: how much better the Model is: their difference, turned so that more is better.
        low, high: 95 % interval of `better`, NaN where resampled rows mostly have no score.
        resamples: how many resamples had a score.
    """

    name: str
    rows: int
    model: float
    baseline: float
    better: float
    low: float
    high: float
    resamples: int

    @property
    def missing(self) -> str:
        """Return whose score there is none of, "" where both are there."""
        return "the baseline" if math.isnan(self.baseline) else "the Model" if math.isnan(self.model) else ""


@dataclass(frozen=True)
class Decision:
    """What came of a gate.

    Attributes:
        gain: on the first Dataset; None without a baseline.
        forgetting: on every other; `better` is its opposite.
    """

    accepted: bool
    reason: str
    metric: str = ""
    gain: Compared | None = None
    forgetting: tuple[Compared, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values, NaN where there is none; forgetting turned so that more is worse."""
        return {
            "accepted": self.accepted,
            "reason": self.reason,
            "metric": self.metric,
            "gain": None if self.gain is None else _measure(self.gain, "gain", 1),
            "forgetting": [_measure(one, "forgetting", -1) for one in self.forgetting],
        }


@dataclass(frozen=True)
class Gate:
    """What a Model must reach; None: not asked.

    Attributes:
        min_gain: least gain on the first Dataset, in the metric's units.
        max_forgetting: most loss on any other.
        confident: whether the 95 % interval must hold it too.
    """

    min_gain: float | None = None
    max_forgetting: float | None = None
    confident: bool = False

    def __post_init__(self) -> None:
        for name, limit in (("--min-gain", self.min_gain), ("--max-forgetting", self.max_forgetting)):
            check(limit is None or math.isfinite(limit), name, limit, "a finite number, in the metric's units")
        if self.confident and self.min_gain is None and self.max_forgetting is None:
            raise WrongInput("--confident: says how --min-gain and --max-forgetting are held; give one of them")

    def check_datasets(self, count: int) -> None:
        """Check that there are Datasets to measure on.

        Raises:
            WrongInput: for a bound on forgetting without an old Dataset.
        """
        if self.max_forgetting is not None and count < 2:
            raise WrongInput(
                "--max-forgetting: there is no old Dataset to measure it on; the first --dataset is the new one, give "
                "old ones after it"
            )

    def decide(self, metric: Metric, answers: Sequence[Answers], *, model: str, baseline: str) -> Decision:
        """Compare two Models, by their digests, on the new Dataset (the first) and on old ones."""
        compared = [compare(metric, one, model=model, baseline=baseline) for one in answers]
        gain, old = compared[0], tuple(compared[1:])
        demands: list[tuple[bool, str]] = []
        if self.min_gain is not None:
            demands.append(self._gained(gain, self.min_gain))
        if self.max_forgetting is not None:
            demands += [self._kept(one, self.max_forgetting) for one in old]
        failed = [words for holds, words in demands if not holds]
        words = failed or [words for _, words in demands] or [f"nothing was asked of it; {_words(gain, 'gain', 1)}"]
        return Decision(not failed, f"{metric.name}: {'; '.join(words)}", metric.name, gain, old)

    def _gained(self, one: Compared, least: float) -> tuple[bool, str]:
        wanted = f"{_number(least)} or more"
        return self._met(one, lambda better: better >= least - _ROUNDING, _Asked("gain", wanted, "less", 1))

    def _kept(self, one: Compared, most: float) -> tuple[bool, str]:
        wanted = f"{_number(most)} or less"
        return self._met(one, lambda better: -better <= most + _ROUNDING, _Asked("forgetting", wanted, "more", -1))

    def _met(self, one: Compared, holds: Callable[[float], bool], asked: "_Asked") -> tuple[bool, str]:
        """Return whether a demand is met, and in words; `holds` tells whether a number would meet it."""
        if one.missing:
            words = f"no score of {one.missing} there, so {asked.what} of {asked.wanted} cannot be shown"
            return False, f"{one.name}: {words}"
        words = f"{_words(one, asked.what, asked.sign)}, "
        if not holds(one.better):
            doubt = ", though the interval does not rule it out" if holds(one.high) else ""
            return False, f"{words}not as asked ({asked.wanted}){doubt}"
        if holds(one.low):
            return True, f"{words}as asked ({asked.wanted})"
        doubt = "there is no interval" if math.isnan(one.low) else f"the interval does not exclude {asked.worse}"
        but = "but --confident was asked and" if self.confident else "though"
        return not self.confident, f"{words}as asked ({asked.wanted}), {but} {doubt}"


@dataclass(frozen=True)
class _Asked:
    """The words of a demand: what is measured, the limit, what would break it, and its sign against `better`."""

    what: str
    wanted: str
    worse: str
    sign: int


def compare(metric: Metric, answers: Answers, *, model: str, baseline: str, seed: int = 0) -> Compared:
    """Score two Models on the same rows, with the interval of their difference.

    Paired percentile bootstrap over rows (Efron and Tibshirani 1993): each resample draws rows, and both are scored on
    them; 2000 resamples, fewer for a metric that is slow to compute or for very many rows.
    """
    mine, theirs = answers.scored(model), answers.scored(baseline)
    sign = 1 if metric.greater_is_better else -1
    scores = value(metric, mine), value(metric, theirs)
    better = sign * (scores[0] - scores[1])
    low = high = math.nan
    drawn = np.empty(0)
    if math.isfinite(better):
        drawn = sign * differences(metric, mine, theirs, seed=seed)
        tried, drawn = len(drawn), drawn[np.isfinite(drawn)]
        if len(drawn) > tried / 2:
            low, high = (float(bound) for bound in np.percentile(drawn, _BOUNDS))
    return Compared(answers.name, len(answers.truth), *scores, better, low, high, len(drawn))


def _words(one: Compared, what: str, sign: int) -> str:
    low, high = sorted((sign * one.low, sign * one.high))
    interval = "no interval" if math.isnan(one.low) else f"{_number(low)} to {_number(high)}"
    return f"{what} {_number(sign * one.better)} [{interval}] on {one.name}"


def _number(number: float) -> str:
    return "no value" if math.isnan(number) else f"{number:+.4g}" if number else "0"


def _measure(one: Compared, what: str, sign: int) -> dict[str, Any]:
    values = asdict(one)
    bounds = sorted((sign * values.pop("low"), sign * values.pop("high")))
    return {**values, what: sign * values.pop("better"), "low": bounds[0], "high": bounds[1]}
