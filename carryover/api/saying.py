"""Owns what a verb says in a notebook: its lines in the cell, and an end other than well as one line.

say(), warn()                  --> the cell's output, as plain lines (a terminal has them on stderr, or as a bar)
store fails, memory is short   --> the error of ours that stands for it, with its exit_code
shown by IPython               --> one line, no traceback; CARRYOVER_DEBUG=1 shows all of it
RunAgain                       --> and how to go on: the same cell
"""

import contextlib
import sys
import warnings
from collections.abc import Iterator

from carryover.ground import console, failures
from carryover.ground.errors import CarryoverError, RunAgain

AGAIN = "Run this cell again: it goes on from the newest commit."


@contextlib.contextmanager
def spoken() -> Iterator[None]:
    """Let errors of ours out as they are, and a store's or a machine's as the error of ours that stands for them.

    Raises:
        CarryoverError: with `exit_code`, and a message of one line; never SystemExit.
    """
    try:
        with _cell() if _in_notebook() else contextlib.nullcontext():
            yield
    except Exception as error:
        ours = failures.named(error)
        if ours is None:
            raise
        if not console.is_debug():
            # IPython asks an exception for this before it makes a traceback.
            ours._render_traceback_ = lambda: _lines(ours)  # pyright: ignore[reportAttributeAccessIssue]
        if ours is error:
            raise
        raise ours from error


@contextlib.contextmanager
def _cell() -> Iterator[None]:
    """Print lines as the cell's own output: a kernel's stderr would be a red box around each of them."""
    with console.shown_by(print), warnings.catch_warnings():
        # (tqdm's word to those who lack ipywidgets; none of our lines need them.)
        warnings.filterwarnings("ignore", message="IProgress not found")
        yield


def _in_notebook() -> bool:
    """Tell whether a kernel runs us."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _lines(error: CarryoverError) -> list[str]:
    words = f"\x1b[1;31m{type(error).__name__}\x1b[0m: {error}"
    again = [AGAIN] if isinstance(error, RunAgain) else []
    return [words, *again, f"more: !carryover explain {error.trouble}"]
