"""Owns the lines that tell people how far a long read has come."""

import time

from carryover.ground.console import say

SECONDS = 15.0


class Progress:
    """Says, at most every `SECONDS`, how many rows one pass has read; says nothing of a short one."""

    def __init__(self, what: str, *, files: int) -> None:
        self._what = what
        self._files = files
        self._file = 0
        self._rows = 0
        self._started = self._said = time.monotonic()

    def file(self) -> None:
        """Note that the next file begins."""
        self._file += 1

    def add(self, rows: int) -> None:
        """Note that so many more rows were read."""
        self._rows += rows
        now = time.monotonic()
        if now - self._said >= SECONDS:
            self._said = now
            rate = self._rows / (now - self._started)
            say(f"{self._what}: {self._rows:,} rows, file {self._file} of {self._files}, {rate:,.0f} rows a second")
