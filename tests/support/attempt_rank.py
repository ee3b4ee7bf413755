"""One rank of one whole attempt: `torchrun ... -m tests.support.attempt_rank PLAN`.

PLAN is JSON: {"spec": the Spec, "stop_after": n, "kill_after": n}. After so many steps the last rank wishes to stop, or
every rank dies by SIGKILL; -1 for never.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import torch

from carryover.ground import dist
from carryover.ground.errors import RunAgain
from carryover.train.run import attempt
from tests.train.attempts import Instant, Killed


class Sudden(Instant):
    """An instant at which this rank's process really dies."""

    @property
    def wanted(self) -> bool:
        try:
            return super().wanted
        except Killed:
            os.kill(os.getpid(), signal.SIGKILL)
            raise


def main() -> None:
    """Make the attempt."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    last = dist.rank() == dist.world() - 1
    instant = Sudden(plan["stop_after"] if last else -1, plan["kill_after"])
    with contextlib.suppress(RunAgain):
        attempt(plan["spec"], instant)  # pyright: ignore[reportArgumentType]
    sys.stderr.flush()
    # As a rank does: the end of the heavy libraries takes a second, and all is saved by now.
    os._exit(0)


if __name__ == "__main__":
    main()
