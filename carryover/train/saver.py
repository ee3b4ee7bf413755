"""Owns what a commit of a training is made of, and that the loop waits for next to nothing of it.

    loop                                                          thread behind it
    commit: buffers, counters ------------------------------+
    next forward and backward     beside them:              +---> copy weights and optimizer state into the arena
    before the update: all copied, and still the same? yes -----> curve, packs, table, record, last.ckpt   (scribe.py)
                                                       no  -----> this save is dropped, copies wait from now on
                                                                  at most one save on its way

What must not be lost is copied while the loop waits: the first save of an attempt, the state of a validation, the last
one. A save that fails is tried again while training goes on; nothing of it is visible until its record is. The attempt
ends when nothing could be saved for `checkpoint.give_up_seconds`.
"""

import threading
import time
from collections.abc import Mapping

from torch import Tensor

from carryover.checkpoint.pack import RawTensor
from carryover.checkpoint.policy import CheckpointConfig, Due
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.scribe import Request, Saved, Scribe
from carryover.checkpoint.snapshot import snapshot
from carryover.checkpoint.staging import Staging
from carryover.checkpoint.writer import Writer
from carryover.data.loader import Batch
from carryover.ground import failures
from carryover.ground.console import warn
from carryover.ground.storage import first_line
from carryover.train.behind import Behind
from carryover.train.engine import MODEL, Engine
from carryover.train.optim import PREFIX as OPTIMIZER
from carryover.train.progress import Progress, Silent
from carryover.train.samples import SampleRecord
from carryover.train.state import RunState


class CommitSaver:
    """The loop's Saver. Rank 0 has a writer and writes; the others only help to count samples.

    Args:
        writer: on rank 0 the attempt's writer, elsewhere None; nobody else uses it until `end`.
        engine: what is saved; it is told to wait for copies.
        files: what inference needs beside weights; kept with every commit, so that any of them can become a Model.
        samples: records which rows each step saw, None when that is not wanted.
    """

    def __init__(
        self,
        writer: Writer | None,
        *,
        engine: Engine,
        config: CheckpointConfig,
        keep: Keep,
        files: Mapping[str, bytes],
        reporter: Progress | Silent,
        samples: SampleRecord | None,
        step: int,
    ) -> None:
        self._writer = writer
        self._engine = engine
        apart = writer is not None and writer.home.store.local is None
        self._due = Due(config, step=step, now=time.monotonic(), over_network=apart)
        self._reporter = reporter
        self._samples = samples
        self._rows: dict[str, bytes] = {}
        self._behind = Behind(give_up_seconds=config.give_up_seconds)
        self._staging = Staging(engine.device)
        self._scribe = Scribe(writer, files=files, keep=keep) if writer else None
        # Copied off a GPU and hashed once; on the CPU it is the network's own memory.
        self._frozen: dict[str, RawTensor] | None = None
        self._still: frozenset[str] = frozenset()
        self._copy: _Copy | None = None
        # Whether copies are taken beside a step: not before the first one has shown that this is right.
        self._beside: bool | None = None if engine.device.type == "cpu" else False
        if writer:
            engine.before_update = self._settle

    def due(self, state: RunState) -> bool:
        """Tell whether it is time to save; never while a save is on its way. Asked once a step.

        Raises:
            Superseded, RunAgain: when the save on its way ended this attempt.
        """
        now = time.monotonic()
        self._due.stepped(now=now, checks=state.checks)
        if not self._behind.idle():
            return False
        if self._staging.arena is None:
            # All that changes is there after the first step: the first save finds its memory ready.
            self._fit(self._changing())
        return self._due.due(step=state.step, now=now)

    def seen(self, state: RunState, batches: list[Batch]) -> None:
        """Take in the micro-batches of the step that led to this state."""
        if self._samples:
            self._samples.add(state.step, batches)

    def commit(self, state: RunState, engine: Engine) -> None:
        """Take the state, and let it be saved; waits for a save on its way. Collective where samples are recorded.

        Raises:
            Superseded, RunAgain: when a save ended this attempt.
        """
        if self._samples:
            self._rows |= self._samples.gather(state.step)
        if not self._scribe:
            return
        started = time.monotonic()
        self.flush()
        state.scaler = engine.scaler_state()
        tensors = self._changing()
        self._fit(tensors)
        self._behind.wait()
        final = bool(state.done) or state.checked_step == state.step
        copy = _Copy(beside=bool(self._beside) and not final, rows=self._rows)
        self._staging.begin(tensors, self._still, beside=copy.beside)
        self._rows = {}
        self._due.taken(step=state.step, now=time.monotonic())
        self._start(copy, state)
        if copy.beside or self._beside is None:
            self._copy = copy
        self._blocked(copy, time.monotonic() - started)

    def flush(self) -> None:
        """Wait until all is saved; raises as `commit`."""
        self._forget()
        self._behind.wait()

    def end(self, state: RunState, reason: str) -> None:
        """Note why the loop ended; all is saved by then: a store that fails now costs the curve's last lines only.

        From now on the writer is the caller's.

        Raises:
            RunAgain: when the process that had it was lost.
        """
        if not self._writer or not self._scribe:
            return
        self._scribe.take_back()
        self._reporter.stop(state, reason)
        try:
            for name, data in self._reporter.content()().items():
                self._writer.home.store.write(name, data)
        except Exception as error:
            if failures.of_store(error) is None:
                raise
            warn(f"the last lines of the curve were not written: {first_line(error)}")

    def close(self) -> None:
        """Leave nothing running: a save on its way ends as it will, one that failed is not tried again."""
        self._engine.before_update = None
        self._forget()
        self._behind.close()
        if self._scribe:
            self._scribe.close()
        self._staging.close()

    def _changing(self) -> dict[str, Tensor]:
        if self._frozen is None:
            self._frozen = snapshot(self._engine.frozen(), lasting=True)
        frozen, tensors = self._frozen, self._engine.tensors()
        return {name: value for name, value in tensors.items() if name not in frozen} if frozen else tensors

    def _fit(self, tensors: Mapping[str, Tensor]) -> None:
        """Have an arena for these tensors, which is all but free where there is one, and a process that reads it."""
        if not self._staging.fit(tensors):
            return
        weights = {f"{MODEL}/{name}" for name, _ in self._engine.network.named_parameters()}
        self._still = frozenset(name for name in tensors if name in weights or name.startswith(f"{OPTIMIZER}/"))
        assert self._staging.arena is not None and self._scribe is not None
        self._behind.do(self._staging.arena.touch)

    def _start(self, copy: "_Copy", state: RunState) -> None:
        """Save behind the loop what is copied, when all is."""
        scribe, arena, frozen = self._scribe, self._staging.arena, self._frozen
        assert scribe is not None and arena is not None and frozen is not None
        values, score = state.as_json(), state.score if state.checked_step == state.step else None
        curve = self._reporter.content()
        # What a process needs to begin is dear; an attempt that ends before its first save is due goes without.
        scribe.start(arena)

        def written(saved: Saved, spent: float) -> None:
            self._due.written(seconds=spent, as_others=scribe.settled)
            told = {"step": saved.step, "epoch": saved.epoch, "number": saved.number}
            self._reporter.saved(**told, seconds=copy.blocked, write_seconds=spent, size=saved.size)

        def work() -> None:
            if not copy.finish(self._staging):
                return
            request = Request(
                step=values["step"],
                epoch=values["epoch"],
                state=values,
                score=score,
                arena=arena,
                lasting=frozen,
                beside={**curve(), **copy.rows},
            )
            self._behind.until_saved(lambda: scribe.commit(request), written)

        self._behind.do(work)

    def _settle(self) -> None:
        """Wait for a copy that is taken beside a step, and see that it is whole; right before anything is updated."""
        copy, self._copy = self._copy, None
        if copy is None:
            return
        started = time.monotonic()
        copy.copied.wait()
        # (The first copy was taken while the loop waited: it is right in any case, and shows whether others would be.)
        whole = self._beside = self._staging.whole(thorough=not copy.beside)
        if copy.beside:
            copy.settle(whole=whole)
            self._blocked(copy, time.monotonic() - started)
        if not whole:
            self._warn(copy)

    def _forget(self) -> None:
        """Wait for a copy where no update follows."""
        if self._copy and self._copy.beside:
            self._settle()
        self._copy = None

    def _blocked(self, copy: "_Copy", seconds: float) -> None:
        copy.blocked += seconds
        self._due.blocked(seconds)

    def _warn(self, copy: "_Copy") -> None:
        lost = ""
        if copy.beside:
            self._rows = copy.rows | self._rows
            self._due.dropped()
            lost = "; one save was dropped, and is made up for at once"
        warn(f"something writes parameters outside the optimizer's update: training waits while they are copied{lost}")


class _Copy:
    """One copy of the state on its way.

    Attributes:
        beside: taken beside a step, so that it must be settled whether it is whole.
        rows: the sample records that belong to its commit.
        blocked: seconds for which training stood still.
        copied: set when all is copied, or can't be.
    """

    def __init__(self, *, beside: bool, rows: dict[str, bytes]) -> None:
        self.beside = beside
        self.rows = rows
        self.blocked = 0.0
        self.copied = threading.Event()
        self._settled = threading.Event()
        self._whole = not beside
        if not beside:
            self.copied.set()
            self._settled.set()

    def settle(self, *, whole: bool) -> None:
        """Say whether it is whole."""
        self._whole = whole
        self._settled.set()

    def finish(self, staging: Staging) -> bool:
        """In the thread: copy what is left; tells whether the copy is whole, when that is settled."""
        try:
            staging.finish()
        finally:
            self.copied.set()
        self._settled.wait()
        return self._whole
