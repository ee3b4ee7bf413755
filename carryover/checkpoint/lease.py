"""Owns the sign that somebody still waits for a job, and what a job without one does.

    <run home>/lease/<name>            {"count": 17, "holder": ..}  moved on by who waits, ten times in a lease
    <run home>/lease/<name>.given-up   written by node 0, before its ranks save: final, so that a restart of its pods
                                       ends at once, and nodes that end together end alike

It lies in the run's home, the one place that both sides can reach: a pod of a job has no rights in the cluster.
Like the heartbeat it is a change that counts, seen by one's own clock; clocks of two machines are never compared. A
name is used by one job only.
"""

import threading
import time
import uuid
from collections.abc import Callable

from carryover.ground.console import warn
from carryover.ground.digests import canonical
from carryover.ground.storage import Store, first_line

LEASES = "lease"
_GIVEN_UP = ".given-up"
_MOST_SECONDS_BETWEEN = 60.0


def interval_of(seconds: float) -> float:
    """Return the seconds between two beats, or two looks, of a lease."""
    return min(_MOST_SECONDS_BETWEEN, seconds / 10)


def is_given_up(home: Store, name: str) -> bool:
    """Tell whether the job of this lease has ended for want of anybody who waits for it."""
    return home.exists(f"{LEASES}/{name}{_GIVEN_UP}")


def forget(home: Store, name: str) -> None:
    """Remove a lease whose job has ended."""
    for ending in ("", _GIVEN_UP):
        home.delete(f"{LEASES}/{name}{ending}")


class Hold:
    """A thread that moves a lease on while its block runs; it has moved once when the block begins."""

    def __init__(self, home: Store, name: str, seconds: float) -> None:
        self._home = home
        self._file = f"{LEASES}/{name}"
        self._interval = interval_of(seconds)
        # Who goes on with another's lease must not write what that one wrote last.
        self._holder = uuid.uuid4().hex
        self._count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> "Hold":
        self._move()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self._move()
            except Exception as error:
                # The next one tries again; object stores raise their own kinds.
                warn(f"{self._home.at(self._file)}: not written: {first_line(error)}")

    def _move(self) -> None:
        self._count += 1
        self._home.write(self._file, canonical({"count": self._count, "holder": self._holder}))


class Lapse:
    """A thread that watches a lease while its block runs, and gives the job up when the lease stands still.

    Attributes:
        lapsed: whether it did.
    """

    def __init__(self, home: Store, name: str, seconds: float, then: Callable[[], None]) -> None:
        self.lapsed = False
        self._home = home
        self._name = name
        self._seconds = seconds
        self._then = then
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> "Lapse":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        seen, since = b"", time.monotonic()
        while not self._stop.wait(interval_of(self._seconds)):
            try:
                now = self._home.read(f"{LEASES}/{self._name}")
            except FileNotFoundError:
                now = b""
            except Exception:
                # A store that does not answer says nothing of who waits.
                since = time.monotonic()
                continue
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > self._seconds and self._give_up():
                return

    def _give_up(self) -> bool:
        try:
            self._home.write(f"{LEASES}/{self._name}{_GIVEN_UP}", b"{}")
        except Exception as error:
            warn(f"{self._home.at(LEASES)}: not written: {first_line(error)}")
            return False
        self.lapsed = True
        self._then()
        return True
