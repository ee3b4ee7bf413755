"""Owns what an error looks like at the end of a command or step: one line, where to read more, and no traceback for
what a person can mend.

    error: label column 'price' has only one value, 1; a label needs at least two
    more: carryover explain wrong-label

    error: internal: KeyError: 'x'                         a mistake of ours
    trace: /tmp/carryover-trace-4711.txt                   (in a pod, whose files go with it, the traceback itself)
    more: carryover explain internal

As JSON it is one line, with the fields trouble and, where there is one, trace or traceback. With --debug the traceback
comes first, whatever the error is; ranks and pods hear of it by the variable.
"""

import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path

from carryover.ground import console, failures, troubles
from carryover.ground.errors import CarryoverError

_MORE = "more: carryover explain "
_TOLD = re.compile(re.escape(_MORE) + r"([a-z-]+)\s*$")


def ours(error: BaseException) -> CarryoverError:
    """Return the error of ours that an error is or stands for; one that nobody has a name for is internal."""
    return failures.named(error) or failures.of_path(error) or internal(error)


def internal(error: BaseException) -> CarryoverError:
    """Return the error of ours for a mistake of ours."""
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return CarryoverError(f"internal: {said}", trouble=troubles.INTERNAL)


def speak(error: BaseException) -> int:
    """Print an error's last words; returns the exit code."""
    known = ours(error)
    # Of what a rank or another process said, the traceback is in its own words.
    unknown = known.trouble == troubles.INTERNAL and not isinstance(error, CarryoverError)
    show = console.is_debug() or (unknown and "KUBERNETES_SERVICE_HOST" in os.environ)
    kept = _keep(error) if unknown and not show else ""
    whole = "".join(traceback.format_exception(error)) if show or (unknown and not kept) else ""
    say_error(str(known), known.trouble, trace=kept, whole=whole)
    return known.exit_code


def say_error(message: str, trouble: str, *, trace: str = "", whole: str = "") -> None:
    """Print the lines of one error; `trace` is a file with its traceback, `whole` the traceback itself."""
    message = _printable(message)
    if console.is_json():
        fields = {"trouble": trouble, "trace": trace, "traceback": whole}
        console.fail(message, **{name: value for name, value in fields.items() if value})
        return
    if whole:
        console.say(whole.rstrip("\n"))
    console.fail(message)
    if trace:
        console.say(f"trace: {trace}")
    console.say(f"{_MORE}{trouble}")


def told(lines: Iterable[str]) -> str:
    """Return the trouble that the last words among another process's lines name, "" where none do."""
    found = ""
    for line in lines:
        if words := _TOLD.match(line):
            found = words[1]
        elif line.startswith("{") and '"trouble"' in line:
            try:
                found = str(json.loads(line)["trouble"])
            except (ValueError, KeyError, TypeError):
                continue
    return found


def _printable(text: str) -> str:
    """Return a text as a terminal may show it: what was read from a broken file must not command it."""
    return "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)


def _keep(error: BaseException) -> str:
    """Keep a traceback where a person finds it; returns the file, "" where none can be written."""
    path = Path(tempfile.gettempdir(), f"carryover-trace-{os.getpid()}.txt")
    try:
        # What lies there already may be somebody's link.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            print(" ".join(sys.argv[:2]), file=file)
            traceback.print_exception(error, file=file)
    except OSError:
        return ""
    return str(path)
