"""Owns the kill: it waits for the middle of an epoch, then SIGKILLs every process of the training step."""

import math
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from carryover_kfp import processes
from examples.demo import history

# Steps after a commit, so that something is really lost.
AT_LEAST_LOST = 3


@dataclass(frozen=True)
class Kill:
    """What was killed, and when: processes, the optimizer step just done, the newest commit."""

    processes: int
    step: int
    commit: int


def wait_and_kill(run: "subprocess.Popen[str]", *, store: Path, progress: Path, batch: int) -> Kill | None:
    """Kill the training step of a pipeline in the middle of an epoch; None when the pipeline ended before.

    Args:
        run: the process `carryover run`; all processes below it are the step that runs now.
        store: where the run's home appears.
        progress: file in which the training keeps its newest optimizer step.
        batch: rows an optimizer step.
    """
    while run.poll() is None:
        time.sleep(0.01)
        home = history.home_in(store)
        if home and _in_the_middle(
            _step(progress), history.newest_commit(home), math.ceil(history.train_rows(store) / batch)
        ):
            return _kill(run.pid, home, progress)
    return None


def _in_the_middle(step: int, commit: int, epoch_steps: int) -> bool:
    middle = 0.35 <= (step % epoch_steps) / epoch_steps <= 0.65
    return middle and commit % epoch_steps > 0 and step - commit >= AT_LEAST_LOST


def _kill(run: int, home: Path, progress: Path) -> Kill:
    # Stopped first: nothing moves any more while the exact step is read.
    stopped = processes.stop(lambda: processes.below(run))
    kill = Kill(processes=len(stopped), step=_step(progress), commit=history.newest_commit(home))
    for pid in stopped:
        os.kill(pid, signal.SIGKILL)
    return kill


def _step(progress: Path) -> int:
    try:
        return int(progress.read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0
