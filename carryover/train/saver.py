"""Owns what a commit of a training is made of, and when there is one.

samples/<step>-<attempt>-0.json      with `data.record_samples`: the rows of every step since the commit before,
                                     {"from_step", "to_step", "epoch_rows": [[step, epoch, [row, ...]], ...]};
                                     written before the commit's record, so committed steps always have theirs
"""

import json
import time
from collections.abc import Mapping

import torch

from carryover.checkpoint.policy import Due
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.snapshot import snapshot
from carryover.checkpoint.writer import Writer
from carryover.data.loader import Batch
from carryover.ground import dist
from carryover.ground.console import say
from carryover.ground.storage import Store
from carryover.train.engine import Engine
from carryover.train.progress import Progress, Silent
from carryover.train.state import RunState

SAMPLES = "samples"


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
        due: Due,
        keep: Keep,
        files: Mapping[str, bytes],
        reporter: Progress | Silent,
        samples: "SampleRecord | None",
    ) -> None:
        self._writer = writer
        self._due = due
        self._keep = keep
        self._files = files
        self._reporter = reporter
        self._samples = samples

    def due(self, state: RunState) -> bool:
        """Tell whether it is time to save."""
        return self._due.due(step=state.step, now=time.monotonic())

    def seen(self, state: RunState, batches: list[Batch]) -> None:
        """Take in the micro-batches of the step that led to this state."""
        if self._samples:
            self._samples.add(state.step, batches)

    def commit(self, state: RunState, engine: Engine) -> None:
        """Save everything. Collective where samples are recorded."""
        if self._samples:
            self._samples.save(state.step)
        if not self._writer:
            return
        started = time.monotonic()
        self._reporter.save()
        state.scaler = engine.scaler_state()
        record = self._writer.commit(
            step=state.step,
            epoch=state.epoch,
            tensors=snapshot(engine.tensors()),
            files=self._files,
            state=state.as_json(),
            score=state.score if state.checked_step == state.step else None,
            keep=self._keep,
        )
        now = time.monotonic()
        self._due.saved(step=state.step, now=now, seconds=now - started)
        say(f"committed step {state.step} (record {record.number})")


class SampleRecord:
    """Keeps which rows were seen since the last commit, on every rank."""

    def __init__(self, home: Store, *, attempt: int, step: int, device: torch.device) -> None:
        self._home = home
        self._attempt = attempt
        self._from = step
        self._device = device
        self._seen: list[tuple[int, int, int]] = []

    def add(self, step: int, batches: list[Batch]) -> None:
        """Take in the rows of a step that counted."""
        self._seen += [
            (step, batch.micro.epoch, int(row)) for batch in batches if batch.micro.counts for row in batch.rows
        ]

    def save(self, step: int) -> None:
        """Write what all ranks saw. Collective."""
        mine = torch.tensor(self._seen, dtype=torch.long, device=self._device).reshape(-1, 3)
        seen = torch.cat(dist.gather_rows(mine)).tolist()
        if dist.rank() == 0:
            rows: dict[tuple[int, int], list[int]] = {}
            for at, epoch, row in seen:
                rows.setdefault((at, epoch), []).append(row)
            content = {
                "from_step": self._from,
                "to_step": step,
                "epoch_rows": [[at, epoch, found] for (at, epoch), found in sorted(rows.items())],
            }
            name = f"{SAMPLES}/{step:010d}-{self._attempt:010d}-0.json"
            self._home.write(name, json.dumps(content).encode())
        self._from, self._seen = step, []
