"""Owns what a commit of a training is made of, and that the loop waits only for a copy of it.

    loop                           copy the state into buffers of our own ---+
    the thread behind it           packs, table, record, last.ckpt <---------+   at most one save on its way

A save that fails is tried again while training goes on; nothing of it is visible until its record is. The attempt ends
when nothing could be saved for `checkpoint.give_up_seconds`.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from carryover.checkpoint.log import Record
from carryover.checkpoint.pack import RawTensor
from carryover.checkpoint.policy import CheckpointConfig, Due
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.snapshot import snapshot
from carryover.checkpoint.writer import Writer
from carryover.data.loader import Batch
from carryover.ground import failures
from carryover.ground.console import warn
from carryover.ground.errors import RunAgain, Superseded
from carryover.ground.storage import first_line
from carryover.train.engine import Engine
from carryover.train.progress import Progress, Silent
from carryover.train.samples import SampleRecord
from carryover.train.state import RunState

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class CommitSaver:
    """The loop's Saver. Rank 0 has a writer and writes; the others only help to count samples.

    Args:
        writer: on rank 0 the attempt's writer, elsewhere None.
        files: what inference needs beside weights; kept with every commit, so that any of them can become a Model.
        samples: records which rows each step saw, None when that is not wanted.
    """

    def __init__(
        self,
        writer: Writer | None,
        *,
        config: CheckpointConfig,
        keep: Keep,
        files: Mapping[str, bytes],
        reporter: Progress | Silent,
        samples: SampleRecord | None,
        step: int,
    ) -> None:
        self._writer = writer
        self._due = Due(config, step=step, now=time.monotonic())
        self._keep = keep
        self._files = files
        self._reporter = reporter
        self._samples = samples
        self._buffers = Buffers()
        # Copied off a GPU and hashed at the first save alone; on the CPU it is the network's own memory.
        self._frozen: dict[str, RawTensor] | None = None
        self._behind = Behind(give_up_seconds=config.give_up_seconds)

    def due(self, state: RunState) -> bool:
        """Tell whether it is time to save; never while a save is on its way.

        Raises:
            Superseded, RunAgain: when the save on its way ended this attempt.
        """
        return self._behind.idle() and self._due.due(step=state.step, now=time.monotonic())

    def seen(self, state: RunState, batches: list[Batch]) -> None:
        """Take in the micro-batches of the step that led to this state."""
        if self._samples:
            self._samples.add(state.step, batches)

    def commit(self, state: RunState, engine: Engine) -> None:
        """Copy what changes and let all be saved; waits for a save on its way. Collective where samples are recorded.

        Raises:
            Superseded, RunAgain: when a save ended this attempt.
        """
        seen = self._samples.gather(state.step) if self._samples else None
        if not self._writer:
            return
        writer, started = self._writer, time.monotonic()
        self._behind.wait()
        state.scaler = engine.scaler_state()
        tensors = self._tensors(engine)
        values, score = state.as_json(), state.score if state.checked_step == state.step else None
        curve = self._reporter.content()
        blocked = time.monotonic() - started
        self._due.taken(step=state.step, now=time.monotonic(), blocked=blocked)

        def save() -> Record:
            # What readers take a commit to have is there before its record.
            for name, data in (*curve().items(), *(seen or {}).items()):
                writer.home.store.write(name, data)
            return writer.commit(
                step=values["step"],
                epoch=values["epoch"],
                tensors=tensors,
                files=self._files,
                state=values,
                score=score,
                keep=self._keep,
            )

        before = writer.home.objects.bytes_written

        def written(record: Record, spent: float) -> None:
            self._due.written(seconds=spent)
            size = writer.home.objects.bytes_written - before
            told = {"step": record.step, "epoch": record.epoch, "number": record.number}
            self._reporter.saved(**told, seconds=blocked, write_seconds=spent, size=size)

        self._behind.start(save, written)

    def _tensors(self, engine: Engine) -> dict[str, RawTensor]:
        if self._frozen is None:
            self._frozen = snapshot(engine.frozen(), lasting=True)
        frozen = self._frozen
        changing = {name: value for name, value in engine.tensors().items() if name not in frozen}
        # The frozen ones first: of equal tensors the first is packed, and only its pack has to stay.
        return {**frozen, **snapshot(self._buffers.copy(changing))}

    def flush(self) -> None:
        """Wait until all is saved; raises as `commit`."""
        self._behind.wait()

    def end(self, state: RunState, reason: str) -> None:
        """Note why the loop ended; all is saved by then: a store that fails now costs the curve's last lines only."""
        if not self._writer:
            return
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
        self._behind.close()


class Buffers:
    """Memory of our own that the state is copied into: made at the first save, so that later ones only copy."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def copy(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies on the CPU; the ones returned before are overwritten."""
        copies: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            held = self._held.get(name)
            if held is None or held.shape != tensor.shape or held.dtype != tensor.dtype:
                held = torch.empty(tensor.shape, dtype=tensor.dtype)
            copies[name] = held.copy_(tensor.detach())
        self._held = copies
        return copies


class Behind:
    """One thread that runs one save at a time, trying again when it fails."""

    def __init__(self, *, give_up_seconds: float) -> None:
        self._give_up = give_up_seconds
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")
        self._save: Future[None] | None = None
        self._closing = threading.Event()

    def idle(self) -> bool:
        """Tell whether no save is on its way; raises what ended one."""
        if self._save is None:
            return True
        if not self._save.done():
            return False
        self.wait()
        return True

    def wait(self) -> None:
        """Wait for the save on its way; raises what ended it."""
        save, self._save = self._save, None
        if save is not None:
            save.result()

    def start(self, save: Callable[[], Record], written: Callable[[Record, float], None]) -> None:
        """Run `save` behind the caller, then `written` with its record and the seconds it took."""
        assert self._save is None, "one save at a time"
        self._save = self._pool.submit(self._run, save, written)

    def close(self) -> None:
        """End the thread, after the try that it is at."""
        self._closing.set()
        self._pool.shutdown(wait=True)

    def _run(self, save: Callable[[], Record], written: Callable[[Record, float], None]) -> None:
        started, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                record = save()
            except Superseded:
                raise
            except Exception as error:
                ours = failures.of_store(error)
                if ours is None:
                    raise
                spent = time.monotonic() - started
                if spent + pause > self._give_up or self._closing.is_set():
                    raise RunAgain(f"nothing could be saved for {spent:.0f} s: {ours}", trouble=ours.trouble) from error
                warn(f"a save failed and is tried again in {pause:g} s, training goes on: {first_line(error)}")
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return written(record, time.monotonic() - started)
