"""Owns the lines of a run's curve, one JSON object each; `checkpoint.metrics` says where they lie.

every line       step (optimizer steps done), epoch, attempt, time (Unix seconds UTC)
a logged step    loss, learning_rate, gradient_norm, rows_per_second, and what else is tracked
a validation     val_<metric> (null where it has no value), val_loss
"event"          "start": from_step, lost_steps (null where unknown), ranks, nodes, changes {key: [old, new]}
                 "save":  number (of the commit's record), seconds (the loop stood still), write_seconds, bytes (new)
                 "stop":  reason

An attempt begins with its "start". Its lines are written with each commit, before the commit's record, so that the
curve never knows less than the newest checkpoint (but for that commit's own "save", which comes with the next). Lines
of older runs have no `time` and no events.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.metrics import read_lines, step_of
from carryover.ground.console import warn

# The attempt's lines on the node's disk, each as soon as it is known.
COPY = "metrics.jsonl"


class Lines:
    """The lines of one attempt that are not written yet. One thread may add while another one takes them.

    Args:
        copy: local file that gets each line at once; None for no copy.
    """

    def __init__(self, copy: Path | None = None) -> None:
        self._new: deque[bytes] = deque()
        self._added = self._taken = 0
        # Unbuffered: whoever reads it sees whole lines.
        self._copy = copy.open("wb", buffering=0) if copy else None

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line; numbers that JSON lacks become null."""
        plain = {name: None if _is_infinite(value) else value for name, value in line.items()}
        text = json.dumps(plain).encode() + b"\n"
        self._new.append(text)
        self._added += 1
        try:
            if self._copy:
                self._copy.write(text)
        except OSError as error:
            # Nobody's curve: the one of the run home goes on.
            self._copy = None
            warn(f"the local copy of the curve ends here: {error}")

    def new(self) -> Callable[[], list[bytes]]:
        """Return what gives the lines up to now that nobody has taken yet: to be called behind the loop."""
        upto = self._added

        def taken() -> list[bytes]:
            count = max(0, upto - self._taken)
            self._taken += count
            return [self._new.popleft() for _ in range(count)]

        return taken


def earlier_lines(home: RunHome, copy: Path) -> list[bytes]:
    """Return the lines of the attempts before the one whose lines `copy` has, as far as it goes on from them."""
    with copy.open("rb") as file:
        began = json.loads(file.readline())
    if began["attempt"] == 1:
        return []
    found = read_lines(home.store, before=began["attempt"], upto=began["step"])
    return [line for line in found if step_of(line) is not None]


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
