"""Owns what rank 0 tells of a training while it runs, and the local files that the launcher reads.

<run home>/metrics/          the curve over all attempts, see `train.lines` and `checkpoint.metrics`
<run home>/tensorboard/      the same for TensorBoard, see `train.tensorboard`
<scratch>/metrics.jsonl      the lines of this attempt, each as soon as it is known
<scratch>/progress.json      the newest, replaced every half second: step, total, epoch, max_epochs, loss,
                             learning_rate, rows_per_second, eta_seconds, commit_step, commit_time (Unix seconds),
                             phase ("training", "validating", "ending"), attempt; what is not known is null
"""

import contextlib
import json
import mmap
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat

from carryover.checkpoint.metrics import Segments, segment
from carryover.ground.amounts import duration
from carryover.ground.console import say, under_bar
from carryover.ground.storage import Store
from carryover.train.limits import Limits
from carryover.train.lines import COPY, Lines
from carryover.train.state import RunState
from carryover.train.tensorboard import Events

PROGRESS = "progress.json"
TRAINING, ENDING = "training", "ending"
_TELL_EVERY_SECONDS = 0.5
# Bytes of the file that has the newest step.
_MARK = 20


class Silent:
    """The reporter of every rank but the first."""

    def step(
        self,
        state: RunState,
        *,
        loss: SupportsFloat,
        rate: float,
        norm: SupportsFloat | None,
        tracked: Mapping[str, SupportsFloat],
    ) -> None:
        """Say nothing."""

    def phase(self, name: str) -> None:
        """Say nothing."""

    def check(self, state: RunState, *, loss: float | None = None) -> None:
        """Say nothing."""

    def saved(self, *, step: int, epoch: int, number: int, seconds: float, write_seconds: float, size: int) -> None:
        """Say nothing."""

    def stop(self, state: RunState, reason: str) -> None:
        """Say nothing."""

    def content(self) -> Callable[[], dict[str, bytes]]:
        """Return nothing to write."""
        return dict


@dataclass(frozen=True)
class Start:
    """How an attempt begins.

    Attributes:
        attempt: its number.
        lost_steps: steps of the attempt before that are done again; None where nobody knows.
        commit_time: when the checkpoint it goes on from was made, Unix seconds; None for a start from zero.
        changes: recipe key -> [old, new], of those that differ from the attempt before.
    """

    attempt: int
    ranks: int = 1
    nodes: int = 1
    lost_steps: int | None = 0
    commit_time: float | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


class Progress:
    """The reporter of rank 0.

    Args:
        home: the run's folder.
        progress: local file in which the newest step is kept for the launcher.
        first_step: local file that gets the wall-clock time of this attempt's first optimizer step; None for none.
        scratch: local folder for the copy of the lines and progress.json; None for neither.
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
        start: Start,
        progress: Path,
        first_step: Path | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._limits = limits
        self._total = total
        self._every = every
        self._metric = metric
        self._attempt = start.attempt
        self._first_step = first_step
        self._lines = Lines(scratch / COPY if scratch else None)
        self._curve = Segments(partial(segment, start.attempt))
        self._events = Events(home, step=state.step, attempt=start.attempt)
        self._pace = _Pace(state.samples)
        self._mark = _marker(progress)
        self._newest = _Newest(
            scratch / PROGRESS if scratch else None,
            step=state.step,
            total=total,
            epoch=state.epoch,
            max_epochs=limits.max_epochs,
            attempt=start.attempt,
            commit_step=state.step if start.commit_time is not None else None,
            commit_time=start.commit_time,
            phase=TRAINING,
        )
        self._mark(state.step)
        changes = {"changes": start.changes} if start.changes else {}
        told = {"from_step": state.step, "lost_steps": start.lost_steps, "ranks": start.ranks, "nodes": start.nodes}
        self._event("start", state.step, state.epoch, **told, **changes)

    def step(
        self,
        state: RunState,
        *,
        loss: SupportsFloat,
        rate: float,
        norm: SupportsFloat | None,
        tracked: Mapping[str, SupportsFloat],
    ) -> None:
        """Take in one optimizer step; its numbers are read only if they are told, as a device must be waited for."""
        self._mark(state.step)
        if self._first_step:
            self._first_step.write_text(repr(time.time()))
            self._first_step = None
        now = time.monotonic()
        if now >= self._newest.due_at:
            self._newest.tell(
                step=state.step,
                epoch=self._epoch(state),
                loss=_finite(float(loss)),
                learning_rate=rate,
                rows_per_second=round(self._pace.mean(state.samples, now), 1),
                eta_seconds=round(self._left(state, now), 1),
                phase=TRAINING,
            )
        if state.step % self._every and state.step != self._total:
            return
        loss = float(loss)
        known = {} if norm is None else {"gradient_norm": float(norm)}
        norms = {name: float(value) for name, value in tracked.items()}
        speed = self._pace.since_last(state.samples, now)
        values = {"loss": loss, "learning_rate": rate, **known, "rows_per_second": round(speed, 1), **norms}
        self._lines.add({**self._where(state.step, state.epoch), **values})
        if under_bar():
            return
        left = self._left(state, now)
        told = "".join(f"{name} {value:.2e}  " for name, value in norms.items())
        say(
            f"epoch {self._epoch(state)}/{self._limits.max_epochs}  step {state.step}/{self._total}  loss {loss:.4f}  "
            f"rate {rate:.2e}  {told}{speed:.0f} rows/s  {duration(left)} left  {self._newest.saved()}",
            step=state.step,
            epoch=state.epoch,
            total=self._total,
            eta_seconds=round(left, 1),
            **{name: _finite(value) for name, value in values.items()},
        )

    def phase(self, name: str) -> None:
        """Note what the loop does now."""
        self._newest.tell(phase=name)

    def check(self, state: RunState, *, loss: float | None = None) -> None:
        """Take in one validation; `loss` is the mean loss over the validation split, where it is known."""
        score = {f"val_{self._metric}": state.score} | ({} if loss is None else {"val_loss": loss})
        line = {**self._where(state.step, state.epoch), **score}
        self._lines.add(line)
        self._pace.rest()
        self._newest.tell(phase=TRAINING)
        shown = "undefined" if state.score is None else f"{state.score:.4f}"
        best = "best yet" if state.best_step == state.step else f"best {_shown(state.best_score)} at {state.best_step}"
        told = "" if loss is None else f"  loss {loss:.4f}"
        say(
            f"validation at step {state.step}: {self._metric} {shown} ({best}){told}",
            step=state.step,
            epoch=state.epoch,
            best=state.best_score,
            best_step=state.best_step,
            **score,
        )

    def saved(self, *, step: int, epoch: int, number: int, seconds: float, write_seconds: float, size: int) -> None:
        """Take in one commit; called by the thread that wrote it.

        Args:
            number: of its record.
            seconds: the loop stood still for it; `write_seconds` passed behind the loop.
            size: new bytes that it wrote.
        """
        self._curve.written()
        self._events.written()
        costs = {"seconds": round(seconds, 6), "write_seconds": round(write_seconds, 6), "bytes": size}
        self._event("save", step, epoch, number=number, **costs)
        self._newest.tell(commit_step=step, commit_time=round(time.time(), 3))
        say(f"committed step {step} (record {number})", step=step, epoch=epoch, number=number, **costs)

    def stop(self, state: RunState, reason: str) -> None:
        """Take in why the loop ended."""
        self._event("stop", state.step, state.epoch, reason=reason)
        self._newest.tell(step=state.step, phase=ENDING)

    def content(self) -> Callable[[], dict[str, bytes]]:
        """Return what gives the files of the run home to write now: name -> content; the same when asked again."""
        new = self._lines.new()

        def files() -> dict[str, bytes]:
            lines = new()
            self._curve.add(b"".join(lines))
            return {**self._curve.content(), **self._events.content(lines)}

        return files

    def _event(self, name: str, step: int, epoch: int, **values: Any) -> None:
        self._lines.add({**self._where(step, epoch), "event": name, **values})

    def _where(self, step: int, epoch: int) -> dict[str, Any]:
        return {"step": step, "epoch": epoch, "attempt": self._attempt, "time": round(time.time(), 3)}

    def _epoch(self, state: RunState) -> int:
        # An epoch's last step already counts as the start of the next.
        return max(1, min(state.epoch + (1 if state.position else 0), self._limits.max_epochs))

    def _left(self, state: RunState, now: float) -> float:
        rows = self._limits.rows
        samples = max(0, (self._limits.max_epochs - state.epoch) * rows - state.position)
        if self._limits.max_steps >= 0:
            samples = min(samples, max(0, self._limits.max_steps - state.step) * self._limits.batch_size)
        return samples / max(self._pace.mean(state.samples, now), 1e-9)


class _Pace:
    """How many samples a second: over the attempt, and since the last logged step without validations."""

    def __init__(self, samples: int) -> None:
        self._from, self._started = samples, time.monotonic()
        self._last, self._last_at = samples, self._started
        self._speed = 0.0

    def mean(self, samples: int, now: float) -> float:
        return (samples - self._from) / max(1e-9, now - self._started)

    def since_last(self, samples: int, now: float) -> float:
        if samples > self._last:
            self._speed = (samples - self._last) / max(1e-9, now - self._last_at)
        self._last, self._last_at = samples, now
        return self._speed

    def rest(self) -> None:
        """Count the next samples from now on."""
        self._last_at = time.monotonic()


class _Newest:
    """progress.json; `due_at` says when, on the monotonic clock, a step is next worth telling."""

    def __init__(self, path: Path | None, **values: Any) -> None:
        names = ("loss", "learning_rate", "rows_per_second", "eta_seconds")
        self._path = path
        self._values = {**dict.fromkeys(names), **values}
        self._lock = threading.Lock()
        self.tell()
        self.due_at = 0.0 if path else float("inf")

    def saved(self) -> str:
        """Return in words how long ago a commit was made."""
        made = self._values["commit_time"]
        return "nothing saved yet" if made is None else f"saved {duration(max(0.0, time.time() - made))} ago"

    def tell(self, **values: Any) -> None:
        if self._path is None:
            self._values |= values
            return
        with self._lock:
            self._values |= values
            temporary = self._path.with_name(f".{self._path.name}")
            self.due_at = time.monotonic() + _TELL_EVERY_SECONDS
            # A full disk costs the one who looks at it a look, and training nothing.
            with contextlib.suppress(OSError):
                temporary.write_text(json.dumps(self._values))
                temporary.replace(self._path)


def _marker(path: Path) -> Callable[[int], None]:
    """Return what notes a step in a file, in place: readers see it at once, and a kill does not take it away."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    # Padded, so that an older, longer text never shows through. Written once, so that there is a page to map.
    os.pwrite(file, b" " * _MARK, 0)
    memory = mmap.mmap(file, _MARK)
    os.close(file)

    def mark(step: int) -> None:
        memory[:] = b"%-*d" % (_MARK, step)

    return mark


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _shown(score: float | None) -> str:
    return "none" if score is None else f"{score:.4f}"
