"""Owns what a process may know of another one: who dies with whom, and whether one is still there."""

from pathlib import Path

from carryover.ground.parents import die_with_parent as die_with_parent

# The pid of torchrun's process: a rank that finds another parent when it begins has lost it already.
AGENT_VARIABLE = "CARRYOVER_AGENT_PID"


def boot_id() -> str:
    """Return what tells this boot of this machine from another; "" where the kernel does not say."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""
