"""Owns process trees: who belongs to a step, and how all of it ends, so that no orphan goes on training.

A step is sh -> python -> torchrun -> ranks. torchrun gives each rank a session of its own, and who loses its parent
is adopted by init, so neither the process group nor the parents alone tell who belongs. A mark in the environment,
which every child inherits, does (on Linux; elsewhere the process group has to do).
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MARK = "CARRYOVER_STEP_MARK"
_PROC = Path("/proc")


def below(pid: int) -> set[int]:
    """Return all living descendants of a process, without itself."""
    children: dict[int, list[int]] = {}
    for child, row in _table().items():
        children.setdefault(row.parent, []).append(child)
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def members(mark: str, group: int) -> set[int]:
    """Return the living processes of a step: those that carry its mark, or are in its process group."""
    needle = f"{MARK}={mark}".encode()
    found = {pid for pid, row in _table().items() if row.group == group}
    for entry in _PROC.glob("[0-9]*/environ") if _PROC.is_dir() else ():
        # Other people's processes, and those that end while we look, can't be read.
        with contextlib.suppress(OSError):
            if needle in entry.read_bytes().split(b"\0"):
                found.add(int(entry.parent.name))
    return found - {os.getpid()}


def stop(find: Callable[[], set[int]]) -> set[int]:
    """SIGSTOP all processes that `find` names, until no new one appears; returns them, standing still."""
    stopped: set[int] = set()
    while fresh := find() - stopped:
        _signal(fresh, signal.SIGSTOP)
        stopped |= fresh
        # A signal is delivered a moment later; until then a process may still fork, or do its next step.
        while any(row.state not in "Tt" for pid, row in _table().items() if pid in fresh):
            time.sleep(0.001)
    return stopped


def kill(find: Callable[[], set[int]]) -> None:
    """SIGKILL all processes that `find` names, as if at one instant: they are stopped first."""
    _signal(stop(find), signal.SIGKILL)


def end(group: int, find: Callable[[], set[int]], *, grace: float) -> None:
    """Ask a process group to end (SIGTERM), as Argo does, and wait `grace` seconds at most; SIGKILL what is left.

    Who started processes in sessions of their own (torchrun its ranks) is in the group and passes the signal on. When
    the group is gone, what `find` still names has lost its launcher.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while any(row.group == group for row in _table().values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    kill(find)


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass(frozen=True)
class _Row:
    """What the system says of one living process; state is one letter, T for stopped."""

    parent: int
    group: int
    state: str


def _table() -> dict[int, _Row]:
    """Return all living processes by pid; zombies are dead."""
    if not _PROC.is_dir():
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split() for line in listing.splitlines()]
        found = {int(pid): _Row(int(parent), int(group), state[0]) for pid, parent, group, state in rows}
    else:
        found = {}
        for entry in _PROC.glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # The command may hold spaces and brackets; what follows its last bracket is state, parent, group.
                state, parent, group = entry.read_text(errors="replace").rpartition(")")[2].split()[:3]
                found[int(entry.parent.name)] = _Row(int(parent), int(group), state)
    return {pid: row for pid, row in found.items() if row.state not in "ZX"}
