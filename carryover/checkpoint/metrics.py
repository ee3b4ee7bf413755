"""Owns where the curve of a run lies in its home, and which of its lines count.

metrics/0000000001-0000000000.jsonl    attempt 1: its first lines    full: never written again
metrics/0000000001-0000000001.jsonl    the next ones                 written again with each commit until it is full
metrics/0000000002-0000000000.jsonl    attempt 2, which goes on from step 40: what attempt 1 told of later steps was
                                       lost with its weights, and does not count
metrics.jsonl                          all lines of the attempts before these, as older versions kept them

So a save writes as much of the curve in a long run as in a short one, and a start reads none of it. An attempt writes
files of its own alone: one that was superseded and goes on later harms nobody's lines. From which step an attempt goes
on is said by the first of its lines.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from carryover.checkpoint.layout import padded
from carryover.ground.storage import Store

FOLDER, OLDER = "metrics", "metrics.jsonl"
# A file is full from here on. What a save writes beside what is new is at most that.
SEGMENT_BYTES = 16 << 10
_READERS = 16
_NAME = re.compile(r"(\d{10})-(\d{10})\.jsonl")


class Segments:
    """Content that only grows, as files of about `SEGMENT_BYTES`: with each save the newest one alone is written.

    Args:
        name: gives the name of a file from its number, from 0.
    """

    def __init__(self, name: Callable[[int], str]) -> None:
        self._name = name
        self._number = 0
        self._open = b""
        self._written = 0

    @property
    def full(self) -> bool:
        """Whether what is added next begins a file: the open one has its size, and all of it is where it must be."""
        return len(self._open) >= SEGMENT_BYTES and self._written == len(self._open)

    def add(self, data: bytes) -> None:
        """Take in what is new."""
        if data and self.full:
            self._number, self._open, self._written = self._number + 1, b"", 0
        self._open += data

    def content(self) -> dict[str, bytes]:
        """Return the file to write: name -> content."""
        return {self._name(self._number): self._open} if self._open else {}

    def written(self) -> None:
        """Take note that what `content` gave last has been written."""
        self._written = len(self._open)


def segment(attempt: int, number: int) -> str:
    """Return the name of a file of an attempt's lines inside the run home."""
    return f"{FOLDER}/{padded(attempt)}-{padded(number)}.jsonl"


def read_lines(home: Store, *, before: int | None = None, upto: int | None = None) -> list[bytes]:
    """Return the lines that count, oldest first, without their ends; what is none of ours is among them.

    Args:
        before: only those of attempts before this one.
        upto: only those up to this step, from which that one goes on.
    """
    names = [name for name in home.names(FOLDER) if (at := _attempt(name)) is not None and (not before or at < before)]
    with ThreadPoolExecutor(_READERS) as pool:
        contents = list(pool.map(lambda name: _read(home, f"{FOLDER}/{name}"), sorted(names)))
    attempts: dict[int, list[bytes]] = {0: _read(home, OLDER)}
    for name, lines in zip(sorted(names), contents, strict=True):
        attempts.setdefault(_attempt(name) or 0, []).extend(lines)
    kept: list[list[bytes]] = []
    for attempt, lines in sorted(attempts.items(), reverse=True):
        kept.append(list(_counting(lines, upto)))
        if attempt and (began := _began(lines)) is not None:
            upto = began if upto is None else min(upto, began)
    return [line for lines in reversed(kept) for line in lines]


def step_of(line: bytes) -> int | None:
    """Return the step that a line tells of, None where it is none of ours."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def _counting(lines: Iterable[bytes], upto: int | None) -> Iterator[bytes]:
    for line in lines:
        if upto is None or (step := step_of(line)) is None or step <= upto:
            yield line


def _began(lines: Iterable[bytes]) -> int | None:
    return next((step for line in lines if (step := step_of(line)) is not None), None)


def _attempt(name: str) -> int | None:
    match = _NAME.fullmatch(name)
    return int(match.group(1)) if match else None


def _read(home: Store, name: str) -> list[bytes]:
    try:
        return [line for line in home.read(name).splitlines() if line]
    except FileNotFoundError:
        return []
