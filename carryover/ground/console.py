"""Owns the lines people and machines read while a step runs: on stderr, one event a line, fit for a pod's log.

CARRYOVER_LOG_FORMAT   auto   a bar where stderr is a terminal, plain lines elsewhere
                       text   plain lines
                       json   one JSON object a line: {"time": ISO 8601 in UTC, "level", "message", ... fields}
CARRYOVER_DEBUG        1      errors come with their traceback
CARRYOVER_BAR          1      the process above draws a bar from numbers: lines that only repeat those are left out

The first two cross to ranks and pods by the environment; `--log-format` and `--debug` of every command set them. A bar
lives in the process that a person started: while it is there, `shown_by` has every line printed above it.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

FORMAT_VARIABLE = "CARRYOVER_LOG_FORMAT"
BAR_VARIABLE = "CARRYOVER_BAR"
DEBUG_VARIABLE = "CARRYOVER_DEBUG"
FORMATS = ("auto", "text", "json")
_INFINITE = (float("inf"), float("-inf"))
LEVELS = ("debug", "info", "warning", "error")


class _Logged(logging.Handler):
    """What a library logs, as one of our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        text = record.getMessage().strip()
        put(text, text, level=level if level in LEVELS else "error", fields={"logger": record.name})


# Begins a line that stands for a panel; no text has it.
_PANEL = "\x1epanel "
_printers: list[Callable[[str], None]] = []


def say(text: str, **fields: Any) -> None:
    """Print one line of progress; the fields are for those who read JSON."""
    put(text, text, level="info", fields=fields)


def warn(text: str, **fields: Any) -> None:
    """Print one line about something that a person may want to change."""
    put(f"warning: {text}", text, level="warning", fields=fields)


def fail(text: str, **fields: Any) -> None:
    """Print one line about what ended a command or step."""
    put(f"error: {text}", text, level="error", fields=fields)


def put(line: str, message: str, *, level: str, fields: Mapping[str, Any]) -> None:
    """Print `line`, or as JSON the message with its level and fields."""
    _print(as_json(message, level=level, fields=fields) if is_json() else line)


def _print(line: str) -> None:
    if _printers:
        _printers[-1](line)
    else:
        # One write: `print` makes two where output is not buffered, and lines of two ranks would tear.
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def panel(title: str, rows: Mapping[str, str], **fields: Any) -> None:
    """Print some facts together: a frame on a terminal, a line each elsewhere, one object where lines are JSON."""
    if is_json():
        put("", title, level="info", fields={**rows, **fields})
    elif under_bar():
        put(_PANEL + json.dumps([title, rows]), title, level="info", fields=fields)
    elif is_live():
        from carryover.ground import bars

        bars.panel(title, rows)
    else:
        width = max(map(len, rows), default=0)
        for line in (title, *(f"  {name:<{width}}  {value}" for name, value in rows.items())):
            say(line)


def under_bar() -> bool:
    """Tell whether the process above shows a bar, and this one's lines above it."""
    return os.environ.get(BAR_VARIABLE, "") == "1"


def pass_on(line: str) -> None:
    """Print a line of a process below, as it is meant: a panel is drawn, and JSON is made of what is none."""
    if line.startswith(_PANEL):
        with contextlib.suppress(ValueError):
            title, rows = json.loads(line.removeprefix(_PANEL))
            return panel(title, rows)
    if is_json() and _is_event(line):
        return _print(line)
    return put(line, line, level="info", fields={"logger": "output"})


def _is_event(line: str) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and {"time", "level", "message"} <= set(found)


def as_json(message: str, *, level: str, fields: Mapping[str, Any]) -> str:
    """Return one event as the line of JSON that it is in that format."""
    when = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    finite = {name: None if value != value or value in _INFINITE else value for name, value in fields.items()}
    return json.dumps({"time": when, "level": level, "message": message, **finite}, default=str, ensure_ascii=False)


def libraries_too() -> None:
    """Have what libraries log, and Python's warnings, come as JSON too, where lines are JSON."""
    if is_json():
        logging.captureWarnings(True)
        logging.basicConfig(handlers=[_Logged()], level=logging.WARNING)


def is_json() -> bool:
    """Tell whether lines are JSON."""
    return os.environ.get(FORMAT_VARIABLE) == "json"


def is_debug() -> bool:
    """Tell whether a person asked for tracebacks."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0", "false")


def is_live() -> bool:
    """Tell whether a bar may be drawn: stderr is a terminal that can move its cursor, and nobody asked for lines."""
    if os.environ.get(FORMAT_VARIABLE, "auto") not in ("", "auto") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stderr.isatty()


def is_shown() -> bool:
    """Tell whether lines go somewhere else than to stderr: above a bar, into a notebook's cell."""
    return bool(_printers)


@contextlib.contextmanager
def shown_by(printer: Callable[[str], None]) -> Iterator[None]:
    """Have every line go to `printer` while the block runs: a bar prints it above itself."""
    _printers.append(printer)
    try:
        yield
    finally:
        _printers.remove(printer)
