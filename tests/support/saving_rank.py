"""Commits that two ranks make beside their steps: `torchrun ... -m tests.support.saving_rank DIR`.

Rank 0 keeps a clone of the state of each, compares, and prints how many there were.
"""

import sys
from pathlib import Path

import torch

from carryover.ground import dist
from tests.train.engines import CPU, engine, same_bits
from tests.train.savers import Loop, Wide

COMMITS = 5


def main() -> None:
    """Be a rank: all do as many steps, whoever saves."""
    torch.manual_seed(0)
    dist.start(CPU)
    loop = Loop(Path(sys.argv[1]), engine(Wide()))
    enough = torch.zeros(())
    while not enough:
        loop.go(1, micro=4)
        enough.fill_(len(loop.twins) >= COMMITS)
        torch.distributed.broadcast(enough, 0)
    if dist.rank() == 0:
        assert loop.saver._beside is True, "copies are taken beside steps"
        held = loop.end()
        same = held.keys() == loop.twins.keys() and all(same_bits(held[step], loop.twins[step]) for step in held)
        print(len(held), "commits", "same" if same else "differ", flush=True)
    dist.barrier()
    dist.stop()


if __name__ == "__main__":
    main()
