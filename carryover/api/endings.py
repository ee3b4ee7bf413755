"""Owns how a verb ends other than well: an error of ours, as from the command line, and one line of it in a notebook.

store fails, memory is short   --> the error of ours that stands for it, with its exit_code
shown by IPython               --> one line, no traceback; CARRYOVER_DEBUG=1 shows all of it
RunAgain                       --> and how to go on: the same cell
"""

import contextlib
import os
from collections.abc import Iterator

from carryover.ground import failures
from carryover.ground.errors import CarryoverError, RunAgain

AGAIN = "Run this cell again: it goes on from the newest commit."


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Let errors of ours out as they are, and a store's or a machine's as the error of ours that stands for them.

    Raises:
        CarryoverError: with `exit_code`, and a message of one line; never SystemExit.
    """
    try:
        yield
    except Exception as error:
        ours = failures.named(error)
        if ours is None:
            raise
        if os.environ.get("CARRYOVER_DEBUG", "") in ("", "0"):
            # IPython asks an exception for this before it makes a traceback.
            ours._render_traceback_ = lambda: _lines(ours)  # pyright: ignore[reportAttributeAccessIssue]
        if ours is error:
            raise
        raise ours from error


def _lines(error: CarryoverError) -> list[str]:
    words = f"\x1b[1;31m{type(error).__name__}\x1b[0m: {error}"
    return [words, AGAIN] if isinstance(error, RunAgain) else [words]
