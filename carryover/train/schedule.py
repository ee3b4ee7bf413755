"""Owns the learning rate: a pure function of the step, and what becomes of it when a run's settings change.

rate
peak |      ____
     |    /      \\__              stretch    the same curve, drawn to the new end
     |  /           \\__           constant   the rate of this moment, to the end
     |/                \\___       rewarm     warm-up and decay anew, from here to the new end
     +--------------------------> step
    start  start+warmup     end
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from carryover.ground.digests import same
from carryover.train.sections import Optimization

# The step at which a run comes to an epoch (from 0).
AtEpoch = Callable[[int], int]


@dataclass(frozen=True)
class Curve:
    """One learning rate curve; it is part of the state that every commit carries.

    Attributes:
        start: the optimizer step (from 0) it begins with.
        end: the step after its last one.
        warmup: steps of linear warm-up.
        asked: the settings it was made for, so that a change is seen.
        epoch: the epoch it begins in, from which milestones count.
        drops: steps from which the rate is multiplied by `gamma` (again); multi_step only.
        power: of polynomial_decay.
    """

    start: int
    end: int
    warmup: int
    peak: float
    floor: float
    shape: str
    asked: dict[str, Any]
    epoch: int = 0
    drops: list[int] = field(default_factory=list)
    gamma: float = 1.0
    power: float = 1.0

    def rate(self, step: int) -> float:
        """Return the learning rate of optimizer step `step` (from 0)."""
        done = step - self.start
        if done < self.warmup:
            # The first step of a warm-up already learns something: 1/n and not 0.
            return self.peak * (done + 1) / self.warmup
        if self.shape == "constant":
            return self.peak
        if self.shape == "multi_step":
            return self.peak * self.gamma ** sum(drop <= step for drop in self.drops)
        span = max(1, self.end - self.start - self.warmup)
        progress = min(1.0, (done - self.warmup) / span)
        if self.shape == "cosine_decay":
            return self.peak * 0.5 * (1.0 + math.cos(math.pi * progress))
        if self.shape == "polynomial_decay":
            return self.floor + (self.peak - self.floor) * (1.0 - progress) ** self.power
        return self.peak * (1.0 - progress)

    def as_json(self) -> dict[str, Any]:
        """Return the curve as plain values; `Curve(**values)` is the way back."""
        return asdict(self)


def first_curve(config: Optimization, total: int, *, at_epoch: AtEpoch = int) -> Curve:
    """Return the curve of a run that starts at step 0 and has `total` optimizer steps."""
    return _fresh(config, 0, total, at_epoch, epoch=0)


def next_curve(
    curve: Curve,
    config: Optimization,
    *,
    step: int,
    total: int,
    on_change: str,
    epoch: int = 0,
    at_epoch: AtEpoch = int,
) -> Curve:
    """Return the curve from `step` on, after a start that may have changed settings.

    Args:
        curve: the one that the newest commit carried.
        total: the step after the last one, by the settings now asked for.
        on_change: `resume.schedule`.
        epoch: the epoch that `step` belongs to.
        at_epoch: gives the step at which an epoch begins, for milestones.
    """
    asked = _asked(config, total)
    if same(asked, curve.asked):
        return curve
    finished = step >= curve.end
    policy = ("rewarm" if finished else "stretch") if on_change == "auto" else on_change
    if policy == "rewarm":
        return _fresh(config, step, total, at_epoch, epoch=epoch)
    if policy == "constant":
        same_rate = config.learning_rate == curve.asked["learning_rate"]
        # At the end of a curve there is no next step; its last real one is what "this moment" means.
        now = curve.rate(min(step, max(curve.start, curve.end - 1)))
        peak = now if same_rate else config.learning_rate
        return Curve(step, total, 0, peak, peak, "constant", asked)
    return _fresh(config, curve.start, total, at_epoch, epoch=curve.epoch)


def _fresh(config: Optimization, start: int, total: int, at_epoch: AtEpoch, *, epoch: int) -> Curve:
    falls = config.lr_schedule == "multi_step"
    return Curve(
        start=start,
        end=total,
        warmup=_warmup(config, total - start),
        peak=config.learning_rate,
        floor=config.end_lr,
        shape=config.lr_schedule,
        asked=_asked(config, total),
        epoch=epoch,
        drops=[at_epoch(epoch + milestone) for milestone in config.lr_milestones] if falls else [],
        gamma=config.lr_gamma,
        power=config.lr_power,
    )


def _warmup(config: Optimization, steps: int) -> int:
    asked = config.warmup_steps
    return min(asked, steps) if isinstance(asked, int) else math.ceil(asked * steps)


def _asked(config: Optimization, total: int) -> dict[str, Any]:
    asked = {
        "total": total,
        "learning_rate": config.learning_rate,
        "end_lr": config.end_lr,
        "warmup_steps": config.warmup_steps,
        "lr_schedule": config.lr_schedule,
    }
    # Only what plays a part: another value of the rest is no change of the curve.
    if config.lr_schedule == "polynomial_decay":
        asked["lr_power"] = config.lr_power
    if config.lr_schedule == "multi_step":
        asked |= {"lr_milestones": list(config.lr_milestones), "lr_gamma": config.lr_gamma}
    return asked
