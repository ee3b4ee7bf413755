"""Owns a file of results: one JSON line a run, a new one of the same key in the place of the old."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Results:
    """A file of lines, sorted by the fields that name a run."""

    path: Path
    key: tuple[str, ...]

    def read(self) -> list[dict[str, Any]]:
        """Return all lines."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def put(self, row: dict[str, Any]) -> None:
        """Add a line, in the place of an older one of the same run."""
        rows = [old for old in self.read() if any(old[name] != row[name] for name in self.key)]
        rows = sorted([*rows, row], key=lambda one: tuple(one[name] for name in self.key))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
