"""Prints those entries of a lock that another one does not have: lock_rest.py ALL BASE."""

import re
import sys
from pathlib import Path


def entries(path: str) -> dict[str, str]:
    """Return requirement line -> the whole entry, its hashes included."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#")):
            name = re.sub(r" *\\$", "", line)
            found[name] = []
        if name:
            found[name].append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


if __name__ == "__main__":
    every, base = (entries(path) for path in sys.argv[1:3])
    print("\n".join(entry for name, entry in every.items() if name not in base))
