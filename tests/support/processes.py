"""Processes of a test's own, found by a mark in their environment, so that a kill reaches all of them and nobody else.

A process group or a parent's list of children is not enough: torchrun starts its ranks in sessions of their own, and a
rank whose parent is gone belongs to init.
"""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MARK = "CARRYOVER_TEST_MARK"


@dataclass
class Tree:
    """A command and everything it started."""

    process: subprocess.Popen[str]
    mark: str
    said: Path
    started: float = field(default_factory=time.monotonic)

    def living(self) -> list[int]:
        """Process ids of the tree that still run (zombies do not)."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it ended while we looked, or is not ours to read
                continue
        return found

    def kill(self) -> None:
        """SIGKILLs the whole tree, until nothing of it is left: what is forked while we look is found the next time."""
        while pids := self.living():
            for pid in pids:
                self.kill_one(pid)
        self.process.wait()

    def kill_one(self, pid: int) -> None:
        """SIGKILLs one process; one that has just ended is fine."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def text(self) -> str:
        """What the tree has printed so far, both streams."""
        return self.said.read_text(errors="replace")

    def wait_until(self, happened: Callable[[], bool], *, timeout: float = 120) -> bool:
        """True when it happened, False when the command ended first; raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while not happened():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing in {timeout} s; it said:\n{self.text()[-3000:]}")
            time.sleep(0.005)
        return True


def start(command: Sequence[str], *, said: Path, cwd: Path, env: Mapping[str, str] | None = None) -> Tree:
    """Starts `command` as the head of a tree of its own; both its streams go to the file `said`."""
    mark = uuid.uuid4().hex
    with said.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {}), MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    return Tree(process, mark, said)
