"""The project's own arm of benchmarks/stall.py: `python -m benchmarks.stall_ours ours|ranks|bare FOLDER SAVES`.

ours     saves are measured, as those of the other programs      ranks    under torchrun, for its memory
bare     the same engine without a saver
"""

import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers.stall import Network, told
from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.policy import CheckpointConfig
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.writer import Writer
from carryover.data.loader import Batch, micros_of_step
from carryover.ground import dist
from carryover.ground.storage import open_store
from carryover.train.engine import Engine
from carryover.train.progress import Silent
from carryover.train.saver import CommitSaver
from carryover.train.sections import Optimization
from carryover.train.state import RunState

_MANY = 1 << 40


class Net(nn.Module):
    """Takes its features as a family's network does."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.network(features["pictures"])


class Loop:
    """An engine over one picture a step, and a saver where one is wanted."""

    def __init__(self, folder: str, *, saves: bool) -> None:
        device = torch.device("cpu")
        dist.start(device)
        config = Optimization(gradient_clip_val=0.0)
        self.engine = Engine(Net(), lambda outputs, _: outputs.sum(1), config, precision="32", device=device, seed=0)
        self.state, self.batch = RunState(), _batch()
        self.saver = _saver(folder, self.engine) if saves else None

    def step(self) -> None:
        """Do one step, and see whether a save is on its way."""
        self.engine.step([self.batch], step=self.state.step, rate=1e-4)
        self.state.advance(1, _MANY)

    def tensors(self) -> list[Tensor]:
        """Return the live state."""
        return list(self.engine.tensors().values())


class Ours:
    """The project's saver, in the words of peers/stall.py."""

    def __init__(self, loop: Loop) -> None:
        assert loop.saver is not None and loop.engine.before_update is not None
        self.loop, self.saver, self.before_update = loop, loop.saver, loop.engine.before_update

    def save(self, step: int) -> None:
        """Begin a save."""
        self.saver.commit(self.loop.state, self.loop.engine)

    def busy(self) -> bool:
        """Ask as the loop does after each step."""
        self.saver.due(self.loop.state)
        return not self.saver._behind.idle()

    def close(self) -> None:
        """End as a training does."""
        self.saver.flush()
        self.saver.end(self.loop.state, "")
        self.saver.close()

    def warm(self) -> None:
        """Save until all is as it is for the rest of a training: the writing process is the writer."""
        scribe, deadline = self.saver._scribe, time.monotonic() + 300
        while scribe is not None and not scribe._told and time.monotonic() < deadline:
            self.loop.step()
            if not self.busy():
                self.save(0)


def _saver(folder: str, engine: Engine) -> CommitSaver:
    writer = None
    if dist.rank() == 0:
        home = RunHome.open(open_store(folder), "run")
        home.start({})
        claimed = claim(home)
        assert claimed is not None
        writer = Writer.resume(home, claimed.handoff(), None)
    config, keep = CheckpointConfig(every_steps=1), Keep(last=1, best=0)
    return CommitSaver(
        writer, engine=engine, config=config, keep=keep, files={}, reporter=Silent(), samples=None, step=0
    )


def _batch() -> Batch:
    world = dist.world()
    (micro,) = micros_of_step(
        rows=1 << 20, epoch=0, position=0, batch_size=world, micro_size=1, rank=dist.rank(), world=world
    )
    return Batch(micro, {"pictures": torch.randn(1, 3, 96, 96)}, torch.zeros(1), np.zeros(1, dtype=np.int64))


def ours(folder: str, saves: int) -> None:
    """Measure saves."""
    loop = Loop(folder, saves=True)
    made = Ours(loop)
    made.warm()

    def hook(before_update: Callable[[], None]) -> None:
        loop.engine.before_update = before_update

    told(loop.step, made, hook, loop.tensors, saves)


def ranks(folder: str, saves: int, *, saving: bool = True) -> None:
    """Do as many steps on every rank, and save whenever none is on its way."""
    loop = Loop(folder, saves=saving)
    made = Ours(loop) if saving and dist.rank() == 0 else None
    for _ in range(saves * 20):
        loop.step()
        if made and not made.busy():
            made.save(0)
    if made:
        made.close()
    dist.stop()


def main() -> None:
    """Run one arm."""
    arm, folder, saves = sys.argv[1:]
    arms: dict[str, Callable[[str, int], None]] = {
        "ours": ours,
        "ranks": ranks,
        "bare": lambda folder, saves: ranks(folder, saves, saving=False),
    }
    arms[arm](folder, int(saves))


if __name__ == "__main__":
    main()
