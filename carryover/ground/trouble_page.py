"""Owns the entries of the list of troubles: one Markdown text that travels with the runtime, read by its headings.

## Data                                      a part
### wrong-label                              an entry; the name is also its anchor in docs/troubleshooting.md
The label can't be learned.                  its title
- **You see:** ...                           LABELS, each once, in this order
- **Exit code:** 2
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LABELS = ("You see", "Why", "Way out", "It never means", "Exit code", "Does a retry help")
TEXT = Path(__file__).with_name("troubles.md")


@dataclass(frozen=True)
class Entry:
    """One trouble. `parts` has a text for each of LABELS, `codes` the exit codes that it may end with."""

    name: str
    part: str
    title: str
    parts: Mapping[str, str]

    @property
    def codes(self) -> tuple[int, ...]:
        """Exit codes that a command or step with this trouble may end with."""
        words = re.findall(r"\d+", self.parts["Exit code"])
        return tuple(int(word) for word in words)


def page() -> str:
    """Return the whole text, which docs/troubleshooting.md is."""
    return TEXT.read_text(encoding="utf-8")


@cache
def entries() -> Mapping[str, Entry]:
    """Return name -> entry, in the order of the page."""
    found: dict[str, Entry] = {}
    part = ""
    for block in page().split("\n#")[1:]:
        head, _, body = block.partition("\n")
        if not head.startswith("## "):
            part = head.removeprefix("# ").strip()
            continue
        title, _, rest = body.strip().partition("\n")
        name = head.removeprefix("## ").strip()
        found[name] = Entry(name, part, title.strip(), _parts(rest))
    return found


def by_part() -> Mapping[str, list[Entry]]:
    """Return heading -> its entries."""
    found: dict[str, list[Entry]] = {}
    for entry in entries().values():
        found.setdefault(entry.part, []).append(entry)
    return found


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for item in f"\n{text}".split("\n- **")[1:]:
        label, _, words = item.partition(":**")
        parts[label] = " ".join(words.split())
    return parts
