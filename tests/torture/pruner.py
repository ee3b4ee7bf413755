"""An attempt that saves a few steps, then keeps one of them, and stands still in the middle of removing the others.

It says, as a line each:   start STEP | saved STEP | ended CODE WORDS
"""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from carryover.checkpoint import retention
from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import record_name
from carryover.checkpoint.retention import Keep, Point
from carryover.checkpoint.writer import Writer
from carryover.ground.errors import CarryoverError
from carryover.ground.storage import Store
from tests.checkpoint.support import content, plain, save, tensors_of

OWNER = "job"
MANY = 3


@dataclass(frozen=True)
class Pruner:
    """What an attempt is told.

    Attributes:
        uri: the run home.
        said: path of the file that takes its lines.
        stop_at: it stops itself (SIGSTOP) before this call of the removal, or after the last one.
        honest: False for the control, which looks at the log before it lists.
        env: variables that lead to the store.
    """

    uri: str
    said: str
    stop_at: int
    honest: bool = True
    env: Mapping[str, str] = field(default_factory=dict)


class Stopping(Store):
    """The store; while it is armed it counts calls, and stops the process before one of them."""

    left: int | None = None

    def names(self, folder: str = "") -> list[str]:
        self.count()
        return super().names(folder)

    def exists(self, name: str) -> bool:
        self.count()
        return super().exists(name)

    def delete(self, name: str) -> None:
        self.count()
        super().delete(name)

    def count(self) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.stop()

    def stop(self) -> None:
        """Stand still, once, until somebody says SIGCONT."""
        if self.left is not None:
            self.left = None
            os.kill(os.getpid(), signal.SIGSTOP)


class LooksFirst(Writer):
    """The control: a removal that looks whether it is alone, and then lists what there is to remove."""

    def _prune(self, dropped: list[Point]) -> None:
        if self.home.store.exists(record_name(self._head.number + 1)):
            return
        needed = (self._finished or frozenset()).union(*(point.objects for point in self._points))
        retention.remove(self.home.objects, self.home.objects.names(), needed=needed)


def run(told: Pruner) -> None:
    """Be that attempt; ends the process with the exit code that a step would have."""
    os.environ.update(told.env)
    lines = os.open(told.said, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(*words: object) -> None:
        os.write(lines, f"{' '.join(map(str, words))}\n".encode())

    store = Stopping(told.uri)
    home = RunHome(store)
    try:
        claimed = claim(home, owner=OWNER)
        assert claimed
        loaded = home.load_newest()
        step = loaded.record.step if loaded else 0
        assert loaded is None or content(loaded) == plain(tensors_of(step)), "other tensors than were saved"
        writer = (Writer if told.honest else LooksFirst).resume(home, claimed.handoff(), loaded)
        say("start", step)
        for last in range(step + 1, step + MANY + 1):
            save(writer, last, keep=Keep(last=MANY + 1, best=0))
            say("saved", last)
        store.left = told.stop_at
        save(writer, step + MANY + 1, keep=Keep(last=1, best=0))
        store.stop()
        say("saved", step + MANY + 1)
        save(writer, step + MANY + 2, keep=Keep(last=1, best=0))
        say("saved", step + MANY + 2)
    except CarryoverError as error:
        say("ended", error.exit_code, error)
        sys.exit(error.exit_code)
