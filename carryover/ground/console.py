"""Owns the lines people read while a step runs: plain text on stderr, one event a line, fit for a pod's log."""

import sys


def say(text: str) -> None:
    """Print one line of progress."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print one line about something that a person may want to change."""
    say(f"warning: {text}")
