"""A network of many kinds of layers, and a training that keeps a clone of the state of each of its commits."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.policy import CheckpointConfig
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.snapshot import restore
from carryover.ground import dist
from carryover.ground.storage import open_store
from carryover.train.engine import Engine
from carryover.train.progress import Silent
from carryover.train.saver import CommitSaver
from carryover.train.state import RunState
from tests.checkpoint.support import start
from tests.train.engines import WIDTH, copies, global_batch

# Wide, so that a copy takes longer than it takes the next forward pass to begin.
WIDE = 1200


class Wide(nn.Module):
    """Layers of every kind that a copy meets: large and small weights, a norm with buffers, a frozen one, a 4-d one."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Linear(WIDTH, WIDE)
        self.norm = nn.BatchNorm1d(WIDE)
        self.across = nn.Linear(WIDE, WIDE, bias=False)
        self.frozen = nn.Linear(WIDE, 16).requires_grad_(False)
        self.trained = nn.Linear(WIDE, 16)
        self.image = nn.Conv2d(1, 64, 33, padding=16)
        # Rows of it are not rows in memory.
        self.image.weight = nn.Parameter(self.image.weight.detach().transpose(2, 3))
        self.last = nn.Linear(16, 3)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        hidden = self.across(torch.relu(self.norm(self.inward(features["x"]))))
        small = self.frozen(hidden) + self.trained(hidden)
        spread = self.image(small.reshape(-1, 1, 4, 4)).mean(1).reshape(-1, 16)
        return self.last(small + spread) * self.scale


class Loop:
    """A training that commits at chosen steps, and keeps a clone of the state of each."""

    def __init__(self, folder: Path, made: Engine) -> None:
        self.home = RunHome.open(open_store(str(folder / "store")), "key")
        if dist.rank() == 0:
            self.home.start({"recipe": {}})
        self.engine = made
        self.state = RunState()
        self.twins: dict[int, dict[str, Tensor]] = {}
        self.saver = CommitSaver(
            start(self.home) if dist.rank() == 0 else None,
            engine=made,
            config=CheckpointConfig(every_steps=1),
            keep=Keep(last=1000),
            files={"words.json": b"[]"},
            reporter=Silent(),
            samples=None,
            step=0,
        )

    def go(self, steps: int, *, micro: int = 8) -> "Loop":
        for _ in range(steps):
            place = {"rank": dist.rank(), "world": dist.world()}
            batches = global_batch(16 * self.state.step % 80, size=16, micro=micro, **place)
            self.engine.step(batches, step=self.state.step, rate=0.01)
            self.state.advance(16, 96)
            if dist.rank() == 0 and self.saver.due(self.state):
                self.twins[self.state.step] = copies(self.engine)
                self.saver.commit(self.state, self.engine)
        return self

    def end(self) -> dict[int, dict[str, Tensor]]:
        """Return what the commits hold, by step."""
        self.saver.flush()
        self.saver.end(self.state, "")
        self.saver.close()
        return {record.step: restore(self.home.load(record).tensors()) for record in self.home.commits()}
