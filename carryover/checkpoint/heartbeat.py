"""Owns the sign of life of the attempt that holds a run, and how another process reads it.

    heartbeat    {"attempt": 3, "count": 17, "step": 1240,     written again every few seconds by the living attempt
                  "check": blake3 of the canonical JSON without this key}

A watcher compares what it saw before with what it sees now; clocks of two machines are never compared.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from carryover.checkpoint.layout import HEARTBEAT, Damaged
from carryover.checkpoint.log import Log
from carryover.ground.console import warn
from carryover.ground.digests import canonical, digest
from carryover.ground.storage import Store, first_line

INTERVAL = 5.0
PATIENCE = 30.0


def write_beat(home: Store, *, attempt: int, count: int, step: int | None) -> None:
    """Write the heartbeat."""
    beat = {"attempt": attempt, "count": count, "step": step}
    home.write(HEARTBEAT, canonical({**beat, "check": digest(canonical(beat))}))


def read_beat(home: Store) -> Mapping[str, Any]:
    """Return the heartbeat, {} when there is none or it is not what was written: it promises nothing."""
    try:
        return decode_beat(home.read(HEARTBEAT))
    except (FileNotFoundError, Damaged):
        return {}


def decode_beat(data: bytes) -> Mapping[str, Any]:
    """Read a heartbeat's bytes: "attempt", "count", and "step", which may be None.

    Raises:
        Damaged: unless they are, unchanged, what was written.
    """
    try:
        beat = json.loads(data)
        if beat.pop("check") == digest(canonical(beat)):
            return {"attempt": int(beat["attempt"]), "count": int(beat["count"]), "step": _step(beat["step"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # Said below: whatever it is, it is not what was written.
    raise Damaged(f"{HEARTBEAT}: content has changed, it does not match its own digest", found=digest(data))


def _step(value: Any) -> int | None:
    return None if value is None else int(value)


class Beat:
    """A thread that moves the heartbeat on while its block runs. One process of the attempt has it (rank 0).

    Start it before the heavy imports: a claim beats once by itself, then others wait `PATIENCE` seconds for the next.

    Args:
        home: the run home.
        attempt: number of our attempt, as the writer says.
        step: asked at each beat for the optimizer steps done, None before the first.
        interval: seconds between beats.
    """

    def __init__(
        self, home: Store, *, attempt: int, step: Callable[[], int | None], interval: float = INTERVAL
    ) -> None:
        self.home = home
        self.attempt = attempt
        self.step = step
        self.interval = interval
        self.superseded = False
        self._in_trouble = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Beat":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        count, stopped = 0, False
        while not self.superseded:
            count += 1
            self._beat(count)
            # One more at the end: the next attempt learns exactly how far this one came.
            if stopped:
                return
            stopped = self._stop.wait(self.interval)

    def _beat(self, count: int) -> None:
        try:
            # A newer beat alone could be anything; who beats has a claim in the log.
            if read_beat(self.home).get("attempt", 0) > self.attempt and Log(self.home).head().attempt > self.attempt:
                # A newer attempt owns the run; the next commit will find that out and end this one.
                self.superseded = True
                return
            write_beat(self.home, attempt=self.attempt, count=count, step=self.step())
            self._in_trouble = False
        except Exception as error:
            # The next beat tries again; training must not die of a heartbeat. (Object stores raise their own kinds.)
            if not self._in_trouble:
                warn(f"{self.home.at(HEARTBEAT)}: not written, others may take this run: {first_line(error)}")
            self._in_trouble = True


class Watch:
    """Tells whether an attempt of another owner is alive, from changes seen with our own clock only."""

    def __init__(self, home: Store, *, attempt: int, patience: float = PATIENCE) -> None:
        self.home = home
        self.attempt = attempt
        self.patience = patience
        self._seen: Mapping[str, Any] = self._look()
        self._since = time.monotonic()

    def alive(self) -> bool:
        """Look once; False when nothing has moved for `patience` seconds."""
        now = self._look()
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        return time.monotonic() - self._since < self.patience

    def moved(self) -> None:
        """Count something else that only a living attempt does (a record in the log) as a sign of life."""
        self._since = time.monotonic()

    def _look(self) -> Mapping[str, Any]:
        """Return this attempt's beat; one of a zombie says nothing about it."""
        beat = read_beat(self.home)
        return beat if beat.get("attempt") == self.attempt else getattr(self, "_seen", {})
