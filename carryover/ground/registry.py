"""Owns lazy tables of plug-ins: a name stands for "module:attribute", imported on first use."""

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput


class Registry:
    """Names of one kind of thing, open to other packages through an entry point group.

    Args:
        kind: what the entries are, for messages ("model family").
        entries: name -> "module:attribute", or (that, what to install when the import fails).
        group: entry point group that other packages use to add names.
    """

    def __init__(self, kind: str, entries: Mapping[str, str | tuple[str, str]], group: str = "") -> None:
        self.kind = kind
        self.group = group
        self._entries = {name: entry if isinstance(entry, tuple) else (entry, "") for name, entry in entries.items()}

    def names(self) -> tuple[str, ...]:
        """Return every known name, sorted."""
        return tuple(sorted({**self._plugins(), **self._entries}))

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._plugins()

    def load(self, name: str) -> Any:
        """Import and return what `name` stands for.

        Raises:
            WrongInput: for an unknown name, or when a library it needs is not installed.
        """
        target, hint = {**self._plugins(), **self._entries}.get(name, ("", ""))
        if not target:
            near = nearest(name, self.names())
            meant = f"; did you mean '{near}'?" if near else "."
            raise WrongInput(f"unknown {self.kind} '{name}'{meant} Known: {', '.join(self.names())}")
        module, _, attribute = target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if not hint:
                raise
            raise WrongInput(
                f"{self.kind} '{name}' needs {error.name}, which is not installed: {hint}", trouble="missing-package"
            ) from error

    def _plugins(self) -> Mapping[str, tuple[str, str]]:
        return _points(self.group, tuple(sys.path)) if self.group else {}


@cache
def _points(group: str, path: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
    """Return name -> (target, "") of a group's entry points. It scans all packages on the path, so it is done once."""
    return {point.name: (point.value, "") for point in entry_points(group=group)}
