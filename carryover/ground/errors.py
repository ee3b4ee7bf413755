"""Owns the errors that end a step, each with the exit code that a workflow engine acts on and the trouble it is.

raise WrongInput("what, where, what would be right")          the trouble of its module, see ground/troubles.py
raise WrongInput("...", trouble="wrong-label")                this one
raise WrongInput(f"--init-from: {error}", trouble=error.trouble)    said again with more words: the same one
"""

from types import TracebackType

from carryover.ground import troubles


class CarryoverError(Exception):
    """Anything this project raises on purpose; the message is one line: what, where, what would be right.

    Args:
        trouble: name of its entry in the list of troubles; "" for that of the class or of the raising module.
    """

    exit_code = 1
    usual = ""

    def __init__(self, message: str = "", *, trouble: str = "") -> None:
        super().__init__(message)
        self._trouble = trouble

    @property
    def trouble(self) -> str:
        """Name of the entry that `carryover explain` shows."""
        return self._trouble or self.usual or troubles.of_module(_raised_in(self.__traceback__))


class WrongInput(CarryoverError, ValueError):
    """A person must change something first; running it again cannot help."""

    exit_code = 2


class NoProgress(CarryoverError):
    """Three attempts of one owner ended without a new commit."""

    exit_code = 3
    usual = "no-progress"


class RunAgain(CarryoverError):
    """Preempted and saved, a rank was lost, or the store was: the same command goes on from the newest commit."""

    exit_code = 75


class Superseded(CarryoverError):
    """Another attempt owns this run now; this one must not write again."""

    exit_code = 76
    usual = "superseded"


class StoreFailed(OSError):
    """What an object store, or nobody, answered; `code` is S3's name of it or the HTTP status, "" without an answer.

    A client's own kind, as those of other libraries: failures.py says what it means for a step.
    """

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def _raised_in(trace: TracebackType | None) -> str:
    """Return the name of the module that an error was raised in, "" for one that was only made."""
    name = ""
    while trace is not None:
        name, trace = str(trace.tb_frame.f_globals.get("__name__", "")), trace.tb_next
    return name
