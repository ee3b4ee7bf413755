"""Owns the record of which rows were seen, for counting that each came once an epoch.

samples/<step>-<attempt>-0.json      with `data.record_samples`: the rows of every step since the commit before,
                                     {"from_step", "to_step", "epoch_rows": [[step, epoch, [row, ...]], ...]};
                                     written before the commit's record, so committed steps always have theirs
"""

import json

import torch

from carryover.data.loader import Batch
from carryover.ground import dist

SAMPLES = "samples"


class SampleRecord:
    """Keeps which rows were seen since the last commit, on every rank."""

    def __init__(self, *, attempt: int, step: int, device: torch.device) -> None:
        self._attempt = attempt
        self._from = step
        self._device = device
        self._seen: list[tuple[int, int, int]] = []

    def add(self, step: int, batches: list[Batch]) -> None:
        """Take in the rows of a step that counted."""
        self._seen += [
            (step, batch.micro.epoch, int(row)) for batch in batches if batch.micro.counts for row in batch.rows
        ]

    def gather(self, step: int) -> dict[str, bytes]:
        """Return the file of what all ranks saw since the last call: name -> content. Collective."""
        mine = torch.tensor(self._seen, dtype=torch.long, device=self._device).reshape(-1, 3)
        seen = torch.cat(dist.gather_rows(mine)).tolist()
        rows: dict[tuple[int, int], list[int]] = {}
        for at, epoch, row in seen:
            rows.setdefault((at, epoch), []).append(row)
        content = {
            "from_step": self._from,
            "to_step": step,
            "epoch_rows": [[at, epoch, found] for (at, epoch), found in sorted(rows.items())],
        }
        self._from, self._seen = step, []
        return {f"{SAMPLES}/{step:010d}-{self._attempt:010d}-0.json": json.dumps(content).encode()}
