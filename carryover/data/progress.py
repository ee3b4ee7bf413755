"""Owns how a pass over a source tells how far it has come: rows, the file it is at, the speed."""

import contextlib
from types import TracebackType

from carryover.ground.bars import ROWS, bar


class Progress:
    """How many rows one pass has read; see `ground.bars` for when that is shown. A context, as long as the pass.

    Args:
        what: the pass, in words.
        files: how many files it reads.
        rows: how many rows, where that is known.
    """

    def __init__(self, what: str, *, files: int, rows: int | None = None) -> None:
        self._files = files
        self._file = 0
        self._open = contextlib.ExitStack()
        self._bar = self._open.enter_context(bar(what, total=rows, unit=ROWS))

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def file(self) -> None:
        """Note that the next file begins."""
        self._file += 1

    def add(self, rows: int) -> None:
        """Note that so many more rows were read."""
        self._bar.to(self._bar.done + rows, note=f"file {self._file} of {self._files}")
