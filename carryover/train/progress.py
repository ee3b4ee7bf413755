"""Owns what people see of a training while it runs: lines on the console, metrics.jsonl, the progress file.

metrics.jsonl      one line a logged step and one a validation, over all attempts; rewritten with each commit, before
                   the commit's record, so that it never knows less than the newest checkpoint
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carryover.ground.console import say
from carryover.ground.storage import Store
from carryover.train.loop import Limits
from carryover.train.state import RunState

METRICS = "metrics.jsonl"


class Silent:
    """The reporter of every rank but the first."""

    def step(
        self, state: RunState, *, loss: float, rate: float, norm: float | None, tracked: Mapping[str, float]
    ) -> None:
        """Say nothing."""

    def check(self, state: RunState, *, loss: float | None) -> None:
        """Say nothing."""

    def content(self) -> dict[str, bytes]:
        """Return nothing to write."""
        return {}


class Progress:
    """The reporter of rank 0.

    Args:
        home: the run's folder.
        progress: local file in which the newest step is kept for the launcher.
        first_step: local file that gets the wall-clock time of this attempt's first optimizer step; None for none.
    """

    def __init__(
        self,
        home: Store,
        state: RunState,
        *,
        limits: Limits,
        total: int,
        every: int,
        metric: str,
        attempt: int,
        progress: Path,
        first_step: Path | None = None,
    ) -> None:
        self._limits = limits
        self._total = total
        self._every = every
        self._metric = metric
        self._attempt = attempt
        self._first_step = first_step
        self._lines = _kept_lines(home, state.step)
        self._started = time.monotonic()
        self._from = state.samples
        # Kept open: one small write in place a step.
        self._file = os.open(progress, os.O_WRONLY | os.O_CREAT, 0o644)
        self._mark(state.step)

    def step(
        self, state: RunState, *, loss: float, rate: float, norm: float | None, tracked: Mapping[str, float]
    ) -> None:
        """Take in one optimizer step."""
        self._mark(state.step)
        if self._first_step:
            self._first_step.write_text(repr(time.time()))
            self._first_step = None
        if state.step % self._every and state.step != self._total:
            return
        speed = (state.samples - self._from) / max(1e-9, time.monotonic() - self._started)
        self._add(state, loss=loss, learning_rate=rate, gradient_norm=norm, rows_per_second=round(speed, 1), **tracked)
        left = self._left(state, speed)
        norms = "".join(f"{name} {value:.2e}  " for name, value in tracked.items())
        # An epoch's last step already counts as the start of the next.
        epoch = min(state.epoch + (1 if state.position else 0), self._limits.max_epochs)
        say(
            f"epoch {max(1, epoch)}/{self._limits.max_epochs}  step {state.step}/{self._total}  loss {loss:.4f}  "
            f"rate {rate:.2e}  {norms}{speed:.0f} rows/s  {left} left"
        )

    def check(self, state: RunState, *, loss: float | None) -> None:
        """Take in one validation; `loss` is the mean training loss on its rows, None where a task has none there."""
        self._add(state, **{f"val_{self._metric}": state.score}, val_loss=loss)
        shown = "undefined" if state.score is None else f"{state.score:.4f}"
        best = "best yet" if state.best_step == state.step else f"best {_shown(state.best_score)} at {state.best_step}"
        say(f"validation at step {state.step}: {self._metric} {shown} ({best})")

    def content(self) -> dict[str, bytes]:
        """Return metrics.jsonl as it is now: name -> content."""
        return {METRICS: "".join(json.dumps(line) + "\n" for line in self._lines).encode()}

    def _add(self, state: RunState, **values: Any) -> None:
        finite = {
            name: value if value == value and abs(value or 0) != float("inf") else None
            for name, value in values.items()
            if value is not None
        }
        self._lines.append({"step": state.step, "epoch": state.epoch, "attempt": self._attempt, **finite})

    def _mark(self, step: int) -> None:
        # Padded, so that an older, longer text never shows through.
        os.pwrite(self._file, f"{step:<20}".encode(), 0)

    def _left(self, state: RunState, speed: float) -> str:
        rows = self._limits.rows
        samples = max(0, (self._limits.max_epochs - state.epoch) * rows - state.position)
        if self._limits.max_steps >= 0:
            samples = min(samples, max(0, self._limits.max_steps - state.step) * self._limits.batch_size)
        return duration(samples / max(speed, 1e-9))


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _shown(score: float | None) -> str:
    return "none" if score is None else f"{score:.4f}"


def _kept_lines(home: Store, step: int) -> list[dict[str, Any]]:
    """Return the curve up to a step; what came after it was lost with its weights and will be done again."""
    try:
        text = home.read(METRICS).decode()
    except FileNotFoundError:
        return []
    lines = [json.loads(line) for line in text.splitlines() if line]
    return [line for line in lines if line["step"] <= step]
