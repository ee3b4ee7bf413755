"""Owns how the curve of a run is read: its lines, from its home or from the copy on a node's disk.

    Curve   series  name -> steps, values, times       loss  val_loss  val_<metric>  learning_rate  rows_per_second ...
            starts, saves, stops                       what attempts said of themselves

A value that was no finite number is NaN, and so is a time that older runs did not note. A line that is not whole, as
the last one of a file that is being written may be, is passed over, and so is what a later version may add.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from carryover.checkpoint.metrics import read_lines
from carryover.ground.storage import Store

LOSS, VAL_LOSS, RATE, SPEED = "loss", "val_loss", "learning_rate", "rows_per_second"
_PLACE = ("step", "epoch", "attempt", "time")
_EVENT = "event"


@dataclass(frozen=True)
class Series:
    """One value over the optimizer steps, in the order it was measured; all arrays have one length.

    Attributes:
        steps: int64, ascending.
        values: float64, NaN where there was no finite number.
        times: float64, Unix seconds; NaN where unknown.
        attempts: int64, which attempt measured it.
    """

    steps: np.ndarray
    values: np.ndarray
    times: np.ndarray
    attempts: np.ndarray

    def best(self, *, greatest: bool) -> int | None:
        """Return the index of the best value, the first of equal ones; None where there is none."""
        if np.isnan(self.values).all():
            return None
        return int(np.nanargmax(self.values) if greatest else np.nanargmin(self.values))


@dataclass(frozen=True)
class Start:
    """An attempt began; `lost_steps` are those of the attempt before it, None where nobody knows."""

    attempt: int
    step: int
    time: float
    lost_steps: int | None
    ranks: int
    nodes: int
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Save:
    """A commit: the number of its record, the loop's standstill and the time behind it in seconds, new bytes."""

    attempt: int
    step: int
    time: float
    number: int
    seconds: float
    write_seconds: float
    bytes: int


@dataclass(frozen=True)
class Stop:
    """An attempt ended in a way that it could say."""

    attempt: int
    step: int
    time: float
    reason: str


@dataclass(frozen=True)
class Curve:
    """All that is known of a run's course; `series` are in the order in which they first came."""

    series: Mapping[str, Series] = field(default_factory=dict)
    starts: tuple[Start, ...] = ()
    saves: tuple[Save, ...] = ()
    stops: tuple[Stop, ...] = ()
    # Attempt -> Unix seconds of its last line, where that is known.
    ends: Mapping[int, float] = field(default_factory=dict)

    @property
    def checks(self) -> tuple[str, ...]:
        """Names of the validation metrics, without the loss."""
        return tuple(name for name in self.series if name.startswith("val_") and name != VAL_LOSS)

    @property
    def last_step(self) -> int:
        """The newest step that anything is known of, 0 before the first."""
        steps = [int(series.steps[-1]) for series in self.series.values()]
        return max([*steps, *(save.step for save in self.saves)], default=0)


def read_curve(home: Store) -> Curve:
    """Return the curve of the run whose folder this is, an empty one where there is none yet; reads all of it."""
    return parse_curve(read_lines(home))


def read_copies(*files: Path) -> Curve:
    """Return the curve in local copies of its parts, oldest first, an empty one where there is none yet."""
    return parse_curve(line for file in files if file.exists() for line in file.read_bytes().splitlines())


def parse_curve(texts: Iterable[bytes | str]) -> Curve:
    """Return the curve that lines of JSON tell."""
    points: dict[str, list[tuple[int, float, float, int]]] = {}
    starts, saves, stops = [], [], []
    ends: dict[int, float] = {}
    for line in _lines(texts):
        step, attempt, time = line["step"], int(line.get("attempt") or 0), _real(line.get("time"))
        if not math.isnan(time):
            ends[attempt] = max(ends.get(attempt, time), time)
        match line.get(_EVENT):
            case "start":
                lost = line.get("lost_steps")
                counts = (_whole(line.get("ranks"), 1), _whole(line.get("nodes"), 1))
                known = None if lost is None else _whole(lost, 0)
                starts.append(Start(attempt, step, time, known, *counts, _mapping(line.get("changes"))))
            case "save":
                costs = (_real(line.get("seconds")), _real(line.get("write_seconds")))
                number, size = _whole(line.get("number"), -1), _whole(line.get("bytes"), 0)
                saves.append(Save(attempt, step, time, number, *costs, size))
            case "stop":
                stops.append(Stop(attempt, step, time, str(line.get("reason") or "")))
            case None:
                for name, value in line.items():
                    if name not in _PLACE and _is_number(value):
                        points.setdefault(name, []).append((step, _real(value), time, attempt))
            case _:
                pass
    return Curve(
        {name: _series(found) for name, found in points.items()}, tuple(starts), tuple(saves), tuple(stops), ends
    )


def thinned(steps: np.ndarray, values: np.ndarray, most: int) -> np.ndarray:
    """Return at most about `most` indices, ascending, that keep the line's looks.

    Both ends are kept, and of each stretch the least and the greatest value and one that is no number.
    """
    count = len(steps)
    if count <= most:
        return np.arange(count)
    keep = {0, count - 1}
    for part in np.array_split(np.arange(count), max(1, most // 2 - 1)):
        known = part[~np.isnan(values[part])]
        if len(known):
            keep |= {int(known[values[known].argmin()]), int(known[values[known].argmax()])}
        if len(known) < len(part):
            keep.add(int(part[np.isnan(values[part])][0]))
    return np.array(sorted(keep))


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the finite values among each and the `window - 1` before it; NaN where a value is."""
    known = np.isfinite(values)
    sums, counts = (np.concatenate([[0.0], np.cumsum(part)]) for part in (np.where(known, values, 0.0), known))
    first = np.maximum(0, np.arange(len(values)) + 1 - window)
    ends = np.arange(1, len(values) + 1)
    return np.where(known, (sums[ends] - sums[first]) / np.maximum(1, counts[ends] - counts[first]), np.nan)


def _lines(texts: Iterable[bytes | str]) -> Iterable[dict[str, Any]]:
    for line in texts:
        try:
            found = json.loads(line)
        except ValueError:
            continue  # Not whole yet.
        if isinstance(found, dict) and isinstance(found.get("step"), int):
            yield found


def _series(points: list[tuple[int, float, float, int]]) -> Series:
    steps, values, times, attempts = (np.array(column) for column in zip(*points, strict=True))
    return Series(steps.astype(np.int64), values.astype(float), times.astype(float), attempts.astype(np.int64))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _real(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
