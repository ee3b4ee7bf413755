"""One rank of an engine test: `torchrun ... -m tests.support.engine_rank OUTPUT`; rank 0 writes what came out.

    straight-<way>.safetensors     weights and optimizer state after eight steps in one go
    resumed-<way>.safetensors      the same, but with a new engine from step 5 on, made from what step 5 left
    losses.json                    way -> the straight run's loss sums, one a step

<way> is "primed", or "unprimed": the engine is then told that its gradient buckets have settled already, which shows
what settling them is for.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from carryover.ground import dist
from carryover.train.engine import Engine
from tests.train.engines import CPU, copies, engine, global_batch, net

# After a stop the first step is a whole one: a sum of two numbers and a nothing has no order that could differ.
STEPS, STOP, MICRO = 8, 5, 4


def make(way: str, saved: dict[str, Tensor]) -> Engine:
    """Return an engine from what another one left, or a new one."""
    network = net(drop=0.2)
    if saved:
        network.load_state_dict({n.removeprefix("model/"): v for n, v in saved.items() if n.startswith("model/")})
    made = engine(network, optim_type="adam")
    made.load_optimizer({name: value for name, value in saved.items() if name.startswith("optim/")}, {})
    if way == "unprimed":
        made._primed = True
    return made


def steps(made: Engine, first: int, last: int) -> list[float]:
    """Do some steps; return the global loss sums."""
    losses = []
    for step in range(first, last):
        # The global batch at the epoch's end has 6 of 20 rows, in two pieces: a third rank has only a stand-in.
        batches = global_batch(step % 4 * 30, size=20, micro=MICRO, rank=dist.rank(), world=dist.world())
        result = made.step(batches, step=step, rate=0.02)
        losses.append(float(dist.sum_over_ranks(result.loss.reshape(1))))
    return losses


def main() -> None:
    """Train both ways."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    dist.start(CPU)
    losses = {}
    for way in ("primed", "unprimed"):
        straight = make(way, {})
        losses[way] = steps(straight, 0, STOP)
        saved = copies(straight)
        losses[way] += steps(straight, STOP, STEPS)
        resumed = make(way, saved)
        steps(resumed, STOP, STEPS)
        if dist.rank() == 0:
            save_file(copies(straight), folder / f"straight-{way}.safetensors")
            save_file(copies(resumed), folder / f"resumed-{way}.safetensors")
    if dist.rank() == 0:
        (folder / "losses.json").write_text(json.dumps(losses))
    dist.stop()


if __name__ == "__main__":
    main()
