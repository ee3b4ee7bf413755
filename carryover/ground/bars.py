"""Owns how long work shows how far it is: a bar on a terminal, a line every 15 seconds elsewhere.

    with bar("uploading weights", total=size, unit=BYTES) as shown:
        shown.add(len(piece))

    on a terminal   uploading weights ━━━━━━━━╺━━━━━━━━━━━  41%  1.2 GiB of 2.9 GiB  88.1 MiB/s  19s left
    elsewhere       uploading weights: 1.2 GiB of 2.9 GiB, 88.1 MiB/s, 19s left

What is done within 15 seconds says nothing where lines are printed, and a bar is drawn for what takes longer than
half a second only. All bars of a process share one place at the lower end of the terminal; lines that are said
meanwhile, and what libraries print to stderr, stand above it.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from carryover.ground import console
from carryover.ground.amounts import duration, size

SECONDS = 15.0
ROWS, BYTES = "rows", "bytes"
_SETTLED_SECONDS = 1.0
_HIDDEN_SECONDS = 0.5
_screen_lock = threading.RLock()
_screen: "_Screen | None" = None


class Bar:
    """One piece of work; `done` of `total` (None: nobody knows how much it will be). May be moved on by any thread."""

    def __init__(self, what: str, *, total: float | None, unit: str, drawn: contextlib.ExitStack | None) -> None:
        self.what = what
        self.total = total
        self.done = 0.0
        self.note = ""
        self._unit = unit
        self._drawn = drawn
        self._is_drawn = False
        self._started = self._said = time.monotonic()

    def add(self, count: float) -> None:
        """Note that so much more is done."""
        self.to(self.done + count)

    def to(self, done: float, *, note: str = "") -> None:
        """Note how much is done by now; `note` stands beside it."""
        self.done, self.note = done, note or self.note
        now = time.monotonic()
        if self._drawn:
            if not self._is_drawn and now - self._started > _HIDDEN_SECONDS:
                self._is_drawn = True
                self._drawn.enter_context(on_screen(self.row))
            return
        if now - self._said >= SECONDS:
            self._said = now
            fields = {"done": self.done, "total": self.total, "unit": self._unit}
            console.say(f"{self.what}: {', '.join(self.words())}", **fields)

    def words(self) -> list[str]:
        """Return how far it is: the amount, a note, the speed, the time left."""
        spent = time.monotonic() - self._started
        speed = self.done / max(spent, 1e-9)
        of = "" if self.total is None else f" of {self._amount(self.total)}"
        found = [self._amount(self.done) + of + ("" if self._unit == BYTES else f" {self._unit}")]
        if self.note:
            found.append(self.note)
        if self.done and spent > _SETTLED_SECONDS:
            found.append(f"{size(speed)}/s" if self._unit == BYTES else f"{speed:,.0f} {self._unit}/s")
            if self.total and self.done <= self.total:
                found.append(f"{duration((self.total - self.done) / speed)} left")
        return found

    def _amount(self, value: float) -> str:
        return size(value) if self._unit == BYTES else f"{value:,.0f}"

    def row(self) -> tuple[str, float | None, float, str]:
        """Return what a terminal shows: title, total, done, words."""
        return self.what, self.total, self.done, "  ".join(self.words())


@contextlib.contextmanager
def bar(what: str, *, total: float | None = None, unit: str = ROWS) -> Iterator[Bar]:
    """Show how far the block is."""
    with contextlib.ExitStack() as drawn:
        yield Bar(what, total=total, unit=unit, drawn=drawn if console.is_live() else None)


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show that the block is at work, where nobody can say how far it is."""
    ended, started = threading.Event(), time.monotonic()

    def row() -> tuple[str, float | None, float, str]:
        return what, None, 0, duration(time.monotonic() - started)

    def tell() -> None:
        if console.is_live() and not ended.wait(_HIDDEN_SECONDS):
            with on_screen(row):
                ended.wait()
        while not ended.wait(SECONDS):
            console.say(f"{what}: {duration(time.monotonic() - started)}")

    teller = threading.Thread(target=tell, name="working", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


@contextlib.contextmanager
def on_screen(row: Callable[[], tuple[str, float | None, float, str]]) -> Iterator[None]:
    """Draw a row at the lower end of the terminal while the block runs; `row` is asked again for each drawing."""
    global _screen
    with _screen_lock:
        if _screen is None:
            _screen = _Screen()
        screen = _screen
        screen.rows.append(row)
        screen.begin()
    try:
        yield
    finally:
        with _screen_lock:
            screen.rows.remove(row)
            if not screen.rows:
                screen.end()
                _screen = None


class _Screen:
    """The rows of this process, drawn a few times a second by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.rows: list[Callable[[], tuple[str, float | None, float, str]]] = []
        self._console = Console(stderr=True, highlight=False)
        # stdout is the command's own: it may be a file.
        self._live = Live(
            console=self._console,
            get_renderable=self._drawn,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
        )
        self._lines = contextlib.ExitStack()
        self._began = False

    def begin(self) -> None:
        if self._began:
            return
        self._began = True
        self._live.start(refresh=True)
        # Whoever kills this process gets the cursor back.
        self._console.show_cursor(True)
        self._lines.enter_context(console.shown_by(self._print))

    def end(self) -> None:
        self._lines.close()
        self._live.stop()

    def _print(self, line: str) -> None:
        self._console.print(coloured(line), soft_wrap=True)

    def _drawn(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, min_width=8)
        table.add_column(no_wrap=True, justify="right")
        below: list[Text] = []
        for row in tuple(self.rows):
            what, total, done, words = row()
            drawn = ProgressBar(total, done, pulse=total is None, complete_style="cyan", pulse_style="cyan")
            first, _, more = words.partition("\n")
            table.add_row(Text(what, style="bold"), drawn, Text(first))
            below += [Text(line, style="dim", no_wrap=True) for line in more.splitlines()]
        from rich.console import Group

        return Group(table, *below)


def coloured(line: str) -> Any:
    """Return a line for a terminal: codes in it can't do more than colour it, warnings and errors stand out."""
    from rich.text import Text

    text = Text.from_ansi(line)
    for begin, style in (("warning:", "yellow"), ("error:", "bold red")):
        if line.startswith(begin):
            text.stylize(style, 0, len(begin))
    return text


def panel(title: str, rows: Mapping[str, str]) -> None:
    """Draw a frame with a title and named values on the terminal."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), Text.from_ansi(value, overflow="fold"))
    frame = Panel(table, title=Text(title, style="bold"), title_align="left", expand=False, padding=(0, 1))
    with _screen_lock:
        screen = _screen._console if _screen else Console(stderr=True, highlight=False)
        screen.print(frame)
