"""Owns what ranks print on its way to a terminal, a notebook or a log of JSON lines; elsewhere they print themselves.

    rank 0 .. N-1, torchrun --pipe--> a thread that only reads --queue--> a thread that prints above the bar
    scratch/progress.json  ---------------------------------------------> the bar

The pipe is always emptied, whatever the terminal does (Ctrl-S, a slow link), so that no rank waits for who looks at it;
of lines that nobody takes the oldest are dropped. When this process dies its ranks do, and with them the pipe.
"""

import contextlib
import fcntl
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carryover.ground import console
from carryover.ground.amounts import duration

PROGRESS = "progress.json"
_MOST_LINES = 20_000
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_CLOSE_SECONDS = 2.0


@contextlib.contextmanager
def shown(scratch: Path, *, leads: bool = True) -> Iterator[int | None]:
    """Show what the ranks of an attempt say and how far they are, while the block runs.

    Args:
        leads: whether rank 0 is among them, which tells how far the run is.

    Yields:
        Where they are to print to: the end of a pipe, None for wherever this process prints.
    """
    if not (console.is_live() or console.is_json() or console.is_shown()):
        yield None
        return
    with contextlib.ExitStack() as stack:
        if console.is_live():
            from carryover.ground.bars import on_screen

            stack.enter_context(on_screen(Training(scratch, leads=leads).row))
        relay = Relay()
        stack.callback(relay.close)
        yield relay.write_end


def environment() -> dict[str, str]:
    """Return what tells ranks that a bar says how far they are."""
    return {console.BAR_VARIABLE: "1"} if console.is_live() else {}


class Relay:
    """A pipe whose lines are printed here, each whole; `write_end` is for the processes that are started."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.write_end, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._lines: deque[bytes] = deque(maxlen=_MOST_LINES)
        self._more = threading.Semaphore(0)
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="ranks-output", daemon=True)
        self._printer = threading.Thread(target=self._print, name="ranks-lines", daemon=True)
        self._reader.start()
        self._printer.start()

    def close(self) -> None:
        """Print what has come; a process that outlives its rank and holds the pipe is not waited for."""
        os.close(self.write_end)
        self._reader.join(_CLOSE_SECONDS)
        self._ended = True
        self._more.release()
        self._printer.join(_CLOSE_SECONDS)

    def _read(self) -> None:
        rest = b""
        while data := os.read(self._read_end, 1 << 16):
            # A bar that a library draws for itself goes back to the line's start.
            *lines, rest = (rest + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            self._take(lines)
        self._take([rest])
        os.close(self._read_end)

    def _take(self, lines: list[bytes]) -> None:
        self._lines.extend(line for line in lines if line.strip())
        self._more.release()

    def _print(self) -> None:
        # Whoever read the terminal may be gone: the ranks go on.
        with contextlib.suppress(OSError):
            while not self._ended or self._lines:
                while self._lines:
                    console.pass_on(self._lines.popleft().decode(errors="replace"))
                if not self._ended:
                    self._more.acquire()


class Training:
    """The bar of an attempt, from what rank 0 writes down."""

    def __init__(self, scratch: Path, *, leads: bool) -> None:
        self._file = scratch / PROGRESS
        self._leads = leads
        self._started = time.monotonic()

    def row(self) -> tuple[str, float | None, float, str]:
        """Return title, total, done, and words; see `ground.bars`."""
        try:
            told = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            what = "starting" if self._leads else "training (node 0 tells how far)"
            return what, None, 0, duration(time.monotonic() - self._started)
        phase = "" if told["phase"] == "training" else f" ({told['phase']})"
        left = "" if told["eta_seconds"] is None else f"  {duration(told['eta_seconds'])} left"
        words = f"step {told['step']}/{told['total']}{left}\n{_details(told)}"
        return f"epoch {told['epoch']}/{told['max_epochs']}{phase}", told["total"], told["step"], words


def _details(told: dict[str, Any]) -> str:
    parts = [f"attempt {told['attempt']}"]
    if told["loss"] is not None:
        parts += [f"loss {told['loss']:.4f}", f"rate {told['learning_rate']:.2e}"]
        parts.append(f"{told['rows_per_second']:,.0f} rows/s")
    if told["commit_time"] is None:
        parts.append("nothing saved yet")
    else:
        parts.append(f"saved {duration(max(0.0, time.time() - told['commit_time']))} ago at step {told['commit_step']}")
    return "  ".join(parts)
