"""Owns when training is over: the limits, how many steps they allow, and whether a finished run is still finished."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carryover.train.environment import Env
from carryover.train.sections import Optimization, Resume
from carryover.train.state import RunState

TIME_UP = "time_limit"


@dataclass(frozen=True)
class Limits:
    """When training is over.

    Attributes:
        rows: samples in the training split.
        check_every: steps between validations as a whole number, or a fraction of an epoch; 0 when nothing to check.
        seconds: training time, infinite when not limited.
        check_epochs: validate only in every so many-th epoch.
        final_check: whether training that ends between two checks is looked at once more.
        per_attempt: whether `seconds` is for each attempt by itself, or for all of them together.
        spent: with `per_attempt`, the training time of the attempts before.
    """

    rows: int
    batch_size: int
    max_epochs: int
    max_steps: int
    patience: int
    check_every: float | int
    seconds: float
    check_epochs: int = 1
    final_check: bool = True
    per_attempt: bool = False
    spent: float = 0.0

    @property
    def deadline(self) -> float:
        """Return the training time over all attempts at which this attempt ends."""
        return self.seconds + (self.spent if self.per_attempt else 0.0)

    def reached(self, state: RunState) -> str:
        """Return why training is over by the counters, "" while it is not."""
        if 0 <= self.max_steps <= state.step:
            return "max_steps"
        return "max_epochs" if state.epoch >= self.max_epochs else ""

    def total_steps(self, state: RunState) -> int:
        """Return the step after the last one, seen from where the state stands."""
        whole = math.ceil(self.rows / self.batch_size)
        this_epoch = math.ceil((self.rows - state.position) / self.batch_size)
        total = state.step + this_epoch + whole * max(0, self.max_epochs - state.epoch - 1)
        if state.epoch >= self.max_epochs:
            total = state.step
        return min(total, self.max_steps) if self.max_steps >= 0 else total

    def step_of_epoch(self, state: RunState, epoch: int) -> int:
        """Return the step at which an epoch (from 0) begins, seen from the state; exact for epochs to come."""
        whole = math.ceil(self.rows / self.batch_size)
        if epoch <= state.epoch:
            return max(0, state.step - math.ceil(state.position / self.batch_size) - whole * (state.epoch - epoch))
        this_epoch = math.ceil((self.rows - state.position) / self.batch_size)
        return state.step + this_epoch + whole * (epoch - state.epoch - 1)

    def check_due(self, state: RunState) -> bool:
        """Tell whether a validation is due after the step that led to this state."""
        # An epoch's last step already counts as the start of the next.
        epochs = state.epoch + (1 if state.position else 0)
        if not self.check_every or epochs % self.check_epochs:
            return False
        if isinstance(self.check_every, int):
            return state.step % self.check_every == 0
        whole = math.ceil(self.rows / self.batch_size)
        # A fraction of 0.5 over 5 steps checks after step 3 and 5: the first step at or past each mark.
        done = math.ceil(state.position / self.batch_size) if state.position else whole
        span = whole * self.check_every
        return done == whole or math.floor(done / span + 1e-9) > math.floor((done - 1) / span + 1e-9)

    def check_wanted(self, state: RunState) -> bool:
        """Tell whether to validate now: a check is due, or training has just ended."""
        return self.check_due(state) or (bool(state.done) and self.final_check)

    def asked(self) -> dict[str, Any]:
        """Return the limits as a finish record and the state keep them."""
        seconds = None if math.isinf(self.seconds) else self.seconds
        return {
            "max_epochs": self.max_epochs,
            "max_steps": self.max_steps,
            "patience": self.patience,
            "time_limit": seconds,
            "per_attempt": self.per_attempt,
        }

    def time_left(self, state: RunState) -> str:
        """Return in words how much training time this attempt has, "" when it is not limited."""
        if math.isinf(self.seconds):
            return ""
        if self.per_attempt:
            return f"time limit: {self.seconds:g} s for this attempt; {self.spent:.1f} s were used before it"
        left = max(0.0, self.deadline - state.seconds)
        return (
            f"time limit: {self.seconds:g} s over all attempts, {state.seconds:.1f} s used, {left:.1f} s left "
            "(resume.time_limit=attempt would count each by itself)"
        )

    def renew(self, state: RunState) -> None:
        """Hold a state that was just loaded against these limits: it may have more to do than when it was saved."""
        if state.limits and _raised(state.limits, self.asked()):
            state.bad_checks = 0
        state.limits = self.asked()
        stopped_early = state.bad_checks >= self.patience and bool(self.check_every)
        out_of_time = "time_limit" if state.seconds >= self.deadline else ""
        state.done = self.reached(state) or ("early_stopping" if stopped_early else out_of_time)


def limits_of(
    optimization: Optimization,
    env: Env,
    resume: Resume,
    *,
    rows: int,
    validates: bool,
    time_limit: float | None,
    spent: float = 0.0,
) -> Limits:
    """Return the limits that a recipe and a time limit set for a training split of `rows` samples.

    Args:
        spent: training time of the attempts before this one, in seconds.
    """
    bounds = [steps for steps in (optimization.max_steps, env.dev_steps or -1) if steps >= 0]
    return Limits(
        rows=rows,
        batch_size=env.batch_size,
        max_epochs=optimization.max_epochs,
        max_steps=min(bounds, default=-1),
        patience=optimization.patience,
        check_every=optimization.val_check_interval if validates else 0,
        seconds=math.inf if time_limit is None else time_limit,
        check_epochs=optimization.check_val_every_n_epoch,
        final_check=not optimization.skip_final_val,
        per_attempt=resume.time_limit == "attempt",
        spent=spent,
    )


def is_finished(finish: Mapping[str, Any], limits: Limits) -> bool:
    """Tell whether a run with this finish record has nothing left to do under the limits now asked for."""
    old, new, reason = finish["limits"], limits.asked(), finish["reason"]
    if reason == "time_limit" and (new["per_attempt"] or old["per_attempt"]):
        # Each attempt has time of its own; one that has none left ends at once.
        return False
    if reason == "time_limit":
        return new["time_limit"] is not None and new["time_limit"] <= old["time_limit"]
    if reason == "max_epochs":
        return new["max_epochs"] <= old["max_epochs"]
    if reason == "max_steps":
        return _steps(new) <= _steps(old)
    return not _raised(old, new) and new["patience"] <= old["patience"]


def _raised(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether the new limits allow more epochs or steps than the old ones."""
    return new["max_epochs"] > old["max_epochs"] or _steps(new) > _steps(old)


def _steps(limits: Mapping[str, Any]) -> float:
    return math.inf if limits["max_steps"] < 0 else limits["max_steps"]
