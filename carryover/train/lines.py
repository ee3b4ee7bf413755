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
    """The lines of a run up to now, of which the first `kept` are of earlier attempts. One thread may add while
    another one reads.

    Args:
        home: the run's folder, whose lines up to `step` are taken over.
        copy: local file that gets all of them, and then each new one at once; None for no copy.
    """

    def __init__(self, home: Store, step: int, copy: Path | None = None) -> None:
        self.values = _kept(home, step)
        self.kept = len(self.values)
        self._text = [_text(line) for line in self.values]
        self._copy = None
        if copy:
            copy.write_bytes(b"".join(self._text))
            # Unbuffered: whoever reads it sees whole lines.
            self._copy = copy.open("ab", buffering=0)

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line; numbers that JSON lacks become null."""
        plain = {name: None if _is_infinite(value) else value for name, value in line.items()}
        text = _text(plain)
        # In this order: who counts texts finds as many values.
        self.values.append(plain)
        self._text.append(text)
        try:
            if self._copy:
                self._copy.write(text)
        except OSError as error:
            # Nobody's curve: the one of the run home goes on.
            self._copy = None
            warn(f"the local copy of {METRICS} ends here: {error}")

    def content(self) -> Callable[[], tuple[bytes, list[dict[str, Any]]]]:
        """Return what gives the file as it is now, and its lines: to be called behind the loop."""
        count = len(self._text)
        return lambda: (b"".join(self._text[:count]), self.values[:count])


def _text(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _kept(home: Store, step: int) -> list[dict[str, Any]]:
    try:
        text = home.read(METRICS).decode()
    except FileNotFoundError:
        return []
    lines = [json.loads(line) for line in text.splitlines() if line]
    return [line for line in lines if line["step"] <= step]
