"""Owns the state of a run: everything beside tensors that a commit carries, in one dataclass of plain values."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class RunState:
    """Where a run stands. A checkpoint is this and the tensors; nothing else is state.

    Attributes:
        step: optimizer steps done.
        epoch: the epoch (from 0) that the next sample belongs to.
        position: samples of this epoch already seen, by all ranks together.
        samples: samples seen since the first step.
        checks: validations done; `checked_step` is the step of the newest one, -1 before the first.
        score: of the newest validation; `best_score` and `best_step` are of the best one.
        top: (score, step) of the best checks, best first; from these the final weights are made.
        bad_checks: validations since the best one, or since patience was renewed.
        seconds: time spent training, over all attempts.
        precision: what was really used, so that `auto` cannot change it on other hardware.
        scaler: the loss scaler's own state (16-mixed), else empty.
        curve: the learning rate curve, as `schedule.Curve.as_json` gives it.
        limits: the limits the run was last started with; a raised one renews patience.
        lost_steps: optimizer steps that attempts did after their last commit, so that they were done again.
        done: why the run ended ("max_epochs", "max_steps", "early_stopping", "time_limit"), "" while it goes on.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    samples: int = 0
    checks: int = 0
    checked_step: int = -1
    score: float | None = None
    best_score: float | None = None
    best_step: int = -1
    top: list[tuple[float, int]] = field(default_factory=list)
    bad_checks: int = 0
    seconds: float = 0.0
    precision: str = ""
    scaler: dict[str, Any] = field(default_factory=dict)
    curve: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    lost_steps: int = 0
    done: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RunState":
        """Return the state that `as_json` gave; keys of a newer version are an error, not ignored."""
        return cls(**{**values, "top": [(score, step) for score, step in values.get("top", [])]})

    def advance(self, samples: int, rows: int) -> None:
        """Count one optimizer step of `samples` samples; `rows` is the size of the training split."""
        self.step += 1
        self.samples += samples
        self.position += samples
        if self.position >= rows:
            self.epoch += 1
            self.position = 0

    def record(self, score: float, *, greater_is_better: bool, keep: int = 1) -> bool:
        """Take in one validation's score and tell whether it is among the `keep` best so far; NaN never is."""
        self.checks += 1
        self.checked_step = self.step
        known = score == score
        self.score = score if known else None
        best = self.best_score
        better = known and (best is None or (score > best if greater_is_better else score < best))
        if better:
            self.best_score, self.best_step, self.bad_checks = score, self.step, 0
        else:
            self.bad_checks += 1
        before = self.top
        if known:
            sign = -1.0 if greater_is_better else 1.0
            self.top = sorted([*before, (score, self.step)], key=lambda found: (sign * found[0], found[1]))[:keep]
        return self.top != before

    def candidates(self, count: int) -> list[int]:
        """Return the steps of the `count` best checks, best first."""
        # A state of an older version knows the best one alone.
        known = [step for _, step in self.top] or [self.best_step]
        return [step for step in known if step >= 0][:count]
