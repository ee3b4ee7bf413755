"""Owns what an error looks like at the end of a command or step: one line, where to read more, and never a traceback
for what a person can mend.

    error: label column 'price' has only one value, 1; a label needs at least two
    more: carryover explain wrong-label

    error: internal: KeyError: 'x'                         a mistake of ours
    trace: /tmp/carryover-trace-4711.txt                   (in a pod, whose files go with it, the traceback itself)
    more: carryover explain internal

With --debug (CARRYOVER_DEBUG=1) the traceback comes first, whatever the error is; ranks and pods hear of it by the
variable.
"""

import errno
import os
import sys
import tempfile
import traceback
from pathlib import Path

from carryover.ground import failures, troubles
from carryover.ground.console import fail, is_json, say
from carryover.ground.errors import CarryoverError, WrongInput

DEBUG_VARIABLE = "CARRYOVER_DEBUG"
# Each error number of a path that a person named, and what would be right.
_PATHS = {
    errno.ENOENT: ("not-there", "name what is there"),
    errno.EACCES: ("path-refused", "give this user the right to it, or name another place"),
    errno.EPERM: ("path-refused", "give this user the right to it, or name another place"),
    errno.EISDIR: ("path-refused", "name a file"),
    errno.ENOTDIR: ("path-refused", "a file lies where a folder must be; name another place"),
    errno.EEXIST: ("path-refused", "a file lies where a folder must be, or a folder where a file; name another place"),
    errno.ELOOP: ("path-refused", "its links lead in a circle; mend them, or name another place"),
    errno.ENAMETOOLONG: ("path-refused", "give a shorter name"),
}


def debugging() -> bool:
    """Tell whether tracebacks are wanted."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def ours(error: BaseException) -> CarryoverError:
    """Return the error of ours that an error is or stands for; one that nobody has a name for is internal."""
    return failures.named(error) or _of_path(error) or internal(error)


def internal(error: BaseException) -> CarryoverError:
    """Return the error of ours for a mistake of ours."""
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return CarryoverError(f"internal: {said}", trouble=troubles.INTERNAL)


def speak(error: BaseException) -> int:
    """Print an error's last words; returns the exit code."""
    known = ours(error)
    if debugging():
        traceback.print_exception(error)
    say_error(str(known), known.trouble, "" if isinstance(error, CarryoverError) else _trace(error, known))
    return known.exit_code


def say_error(message: str, trouble: str, trace: str = "") -> None:
    """Print the lines of one error."""
    more = f"carryover explain {trouble}"
    fail(message, trouble=trouble, more=more, **({"trace": trace} if trace else {}))
    if not is_json():
        if trace:
            say(f"trace: {trace}")
        say(f"more: {more}")


def _trace(error: BaseException, known: CarryoverError) -> str:
    """Keep the traceback of a mistake of ours where a person finds it; returns the file, "" where it was printed."""
    if debugging() or known.trouble != troubles.INTERNAL:
        return ""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        traceback.print_exception(error)
        return ""
    path = Path(tempfile.gettempdir(), f"carryover-trace-{os.getpid()}.txt")
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            print(" ".join(sys.argv[:2]), file=file)
            traceback.print_exception(error, file=file)
    except OSError:
        traceback.print_exception(error)
        return ""
    return str(path)


def _of_path(error: BaseException) -> CarryoverError | None:
    if not isinstance(error, OSError) or error.errno not in _PATHS or not error.filename:
        return None
    trouble, advice = _PATHS[error.errno]
    said = (error.strerror or type(error).__name__).lower()
    return WrongInput(f"{error.filename}: {said}; {advice}", trouble=trouble)
