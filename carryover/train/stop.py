"""Owns the wish to stop: set by a signal handler, read by the loop at a step boundary."""

from dataclasses import dataclass


@dataclass
class Stop:
    """Whether this rank was asked to stop."""

    wanted: bool = False

    def ask(self) -> None:
        """Ask to stop at the next step boundary."""
        self.wanted = True
