"""Owns who else hears of a training while it runs: MLflow, the TrainJob that the run is part of.

    rank 0 --> scratch/metrics.jsonl, progress.json <-- one thread a listener, in the step's process
    run home --> lines of the attempts before         <--

Ranks wait for none of them. A listener that fails costs one warning; what it did not hear it is told again. Nothing is
read, and nothing imported, before the first step of an attempt is done.
"""

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from carryover.checkpoint.home import RunHome
from carryover.ground.console import warn
from carryover.ground.errors import RunAgain
from carryover.ground.registry import Registry
from carryover.ground.storage import first_line
from carryover.train.lines import COPY, earlier_lines

LISTENERS = Registry(
    "listener",
    {
        "mlflow": "carryover.train.mlflow:listener",
        "trainjob": "carryover.train.trainjob_status:listener",
    },
)
# How long the end of an attempt waits for one; a preempted one has saved, and has little time.
_END_SECONDS, _PREEMPTED_SECONDS = 30.0, 1.0


class Listener(Protocol):
    """Hears of one attempt, in a thread of its own.

    Attributes:
        name: in words, for a warning.
        every: seconds between hearings.
    """

    name: str
    every: float

    def hear(self, lines: Sequence[Mapping[str, Any]], newest: Mapping[str, Any]) -> None:
        """Take in the lines of the curve that are new (first of all those of attempts before), and progress.json.

        After an error they come again.
        """
        ...

    def end(self, exit_code: int, home: RunHome) -> None:
        """Take in how the attempt ended, after its last lines."""
        ...


def listeners_of(home: RunHome, run_key: str, recipe: Mapping[str, Any]) -> list[Listener]:
    """Return those that this process's environment asks for."""
    found = (LISTENERS.load(name)(home, run_key, recipe) for name in LISTENERS.names())
    return [one for one in found if one is not None]


class Hearing:
    """What the listeners hear of one attempt; `exit_code` is set where the block that has it ends in good order."""

    def __init__(self) -> None:
        self.exit_code = RunAgain.exit_code


@contextlib.contextmanager
def heard(scratch: Path, home: RunHome, listeners: Sequence[Listener]) -> Iterator[Hearing]:
    """Let the listeners hear of an attempt while the block runs."""
    hearing = Hearing()
    ears = [_Ear(one, scratch, home, hearing) for one in listeners]
    try:
        yield hearing
    finally:
        limit = _PREEMPTED_SECONDS if hearing.exit_code == RunAgain.exit_code else _END_SECONDS
        for ear in ears:
            ear.close(limit)


class _Ear(threading.Thread):
    def __init__(self, listener: Listener, scratch: Path, home: RunHome, hearing: Hearing) -> None:
        super().__init__(name=f"tell-{listener.name}", daemon=True)
        self._listener = listener
        self._home = home
        self._hearing = hearing
        self._lines = scratch / COPY
        self._newest = scratch / "progress.json"
        self._offset = 0
        self._ended = threading.Event()
        self._warned = False
        self.start()

    def close(self, seconds: float) -> None:
        self._ended.set()
        self.join(seconds)
        if self.is_alive() and not self._warned:
            warn(f"{self._listener.name} did not take all in within {seconds:g} s; training lost nothing by it")

    def run(self) -> None:
        began = False
        while not self._ended.wait(self._listener.every if began else min(0.5, self._listener.every)):
            began = began or self._has_stepped()
            if began:
                self._try(self._hear)
        if began or self._has_stepped() or self._lines.exists():
            self._try(self._hear)
            self._try(lambda: self._listener.end(self._hearing.exit_code, self._home))

    def _try(self, act: Any) -> None:
        try:
            act()
        except Exception as error:
            if not self._warned:
                warn(f"{self._listener.name} could not be told how training goes: {first_line(error)}")
            self._warned = True

    def _hear(self) -> None:
        with self._lines.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        # What attempts before had no time to tell; nothing of it is read before a step is done.
        earlier = [] if self._offset else earlier_lines(self._home, self._lines)
        lines = [json.loads(line) for line in (*earlier, *whole.splitlines())]
        self._listener.hear(lines, self._told())
        self._offset += len(whole)

    def _has_stepped(self) -> bool:
        return self._told().get("loss") is not None

    def _told(self) -> Mapping[str, Any]:
        try:
            return json.loads(self._newest.read_bytes())
        except (OSError, ValueError):
            return {}
