"""Owns metrics.jsonl: the curve of a run over all attempts, one JSON object a line.

every line       step (optimizer steps done), epoch, attempt, time (Unix seconds UTC)
a logged step    loss, learning_rate, gradient_norm, rows_per_second, and what else is tracked
a validation     val_<metric> (null where it has no value), val_loss
"event"          "start": from_step, lost_steps (null where unknown), ranks, nodes, changes {key: [old, new]}
                 "save":  number (of the commit's record), seconds (the loop stood still), write_seconds, bytes (new)
                 "stop":  reason

It is rewritten with each commit, before the commit's record, so that it never knows less than the newest checkpoint
(but for that commit's own "save", which comes with the next). An attempt drops the lines after the step that it goes on
from: what they tell was lost with its weights, and is done again. Lines of older runs have no `time` and no events.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from carryover.ground.console import warn
from carryover.ground.storage import Store

METRICS = "metrics.jsonl"


class Lines:
    """The lines of a run up to now, as text: a long run has many. One thread may add while another one reads.

    Attributes:
        kept: how many of them are of earlier attempts.

    Args:
        home: the run's folder, whose lines up to `step` are taken over.
        copy: local file that gets all of them, and then each new one at once; None for no copy.
    """

    def __init__(self, home: Store, step: int, copy: Path | None = None) -> None:
        self._text = _kept(home, step)
        self.kept = len(self._text)
        self._copy = None
        if copy:
            copy.write_bytes(b"".join(self._text))
            # Unbuffered: whoever reads it sees whole lines.
            self._copy = copy.open("ab", buffering=0)

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line; numbers that JSON lacks become null."""
        plain = {name: None if _is_infinite(value) else value for name, value in line.items()}
        text = _text(plain)
        self._text.append(text)
        try:
            if self._copy:
                self._copy.write(text)
        except OSError as error:
            # Nobody's curve: the one of the run home goes on.
            self._copy = None
            warn(f"the local copy of {METRICS} ends here: {error}")

    def content(self) -> Callable[[], list[bytes]]:
        """Return what gives the lines as they are now: to be called behind the loop."""
        count = len(self._text)
        return lambda: self._text[:count]


def _text(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _kept(home: Store, step: int) -> list[bytes]:
    try:
        data = home.read(METRICS)
    except FileNotFoundError:
        return []
    lines = [(line, _step(line)) for line in data.splitlines() if line]
    if strange := sum(at is None for _, at in lines):
        # A curve is for people: what is wrong with it is no reason to end a training.
        warn(f"{home.at(METRICS)}: {strange} lines are none of ours, and are left out")
    return [line + b"\n" for line, at in lines if at is not None and at <= step]


def _step(line: bytes) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
