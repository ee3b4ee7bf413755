"""Owns the errors that end a step, each with the exit code that a workflow engine acts on."""


class CarryoverError(Exception):
    """Anything this project raises on purpose; the message is one line: what, where, what would be right."""

    exit_code = 1


class WrongInput(CarryoverError, ValueError):
    """A person must change something first; running it again cannot help."""

    exit_code = 2


class NoProgress(CarryoverError):
    """Three attempts of one owner ended without a new commit."""

    exit_code = 3


class RunAgain(CarryoverError):
    """Preempted and saved, a rank was lost, or the store was: the same command goes on from the newest commit."""

    exit_code = 75


class Superseded(CarryoverError):
    """Another attempt owns this run now; this one must not write again."""

    exit_code = 76
