"""Owns the process between a step and torchrun: it lives no longer than the step, then becomes torchrun.

Run as `python -m carryover.launch.agent STEP_PID <torchrun's arguments>`.
"""

import os
import runpy
import sys
from pathlib import Path

from carryover.launch import ranks
from carryover.launch.processes import AGENT_VARIABLE, die_with_parent


def main() -> None:
    """Tie this process to the step's, and hand over to torchrun in the same process."""
    die_with_parent(int(sys.argv[1]))
    os.environ[AGENT_VARIABLE] = str(os.getpid())
    sys.argv = ["torchrun", *sys.argv[2:]]
    try:
        runpy.run_module("torch.distributed.run", run_name="__main__", alter_sys=True)
    except Exception as error:
        # torch.distributed's ChildFailedError; only here is known which signal ended a rank.
        failures = getattr(error, "failures", {})
        ranks.report_lost(Path(sys.argv[-1]).parent, {rank: one.exitcode for rank, one in failures.items()})
        raise


if __name__ == "__main__":
    # Ranks are started from here with this working folder on the path, as `python -m` does.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
