"""Owns what a process may know of another one: who dies with whom, and whether one is still there."""

import ctypes
import os
import signal
import sys
from pathlib import Path

# The pid of torchrun's process: a rank that finds another parent when it begins has lost it already.
AGENT_VARIABLE = "CARRYOVER_AGENT_PID"
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends, however that ends.

    Args:
        parent: the pid that started this process; when it is gone already, this process exits at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(75)


def boot_id() -> str:
    """Return what tells this boot of this machine from another; "" where the kernel does not say."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""
