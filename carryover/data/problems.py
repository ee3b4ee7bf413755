"""Owns what is wrong with many rows alike: how often, and the first few of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from carryover.ground.errors import WrongInput

SHOWN = 3


def shown(examples: Sequence[object], count: int = 0) -> str:
    """Return the first examples, and how many more there are.

    Args:
        count: of all, where `examples` are only the first of them.
    """
    more = max(count, len(examples)) - SHOWN
    return ", ".join(map(str, examples[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")


@dataclass
class Problems:
    """Kinds of wrong rows, in the order in which they were met."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, example: str, count: int = 1) -> None:
        """Take in a wrong thing; `kind` are the words that stand behind their number."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        kept = self.examples.setdefault(kind, [])
        if len(kept) < SHOWN:
            kept.append(example)

    def words(self) -> list[str]:
        """Return one sentence a kind."""
        return [f"{count:,} {kind}: {shown(self.examples[kind], count)}" for kind, count in self.counts.items()]

    def __bool__(self) -> bool:
        return bool(self.counts)


def raise_all(where: str, words: Sequence[str], hint: str = "") -> None:
    """Raise WrongInput with everything that is wrong in one line; nothing where `words` is empty."""
    if not words:
        return
    listed = words[0] if len(words) == 1 else "; ".join(f"{n}) {text}" for n, text in enumerate(words, start=1))
    raise WrongInput(f"{where}: {listed}{f'; {hint}' if hint else ''}")


def counted(counts: Mapping[str, int], most: int = 10) -> str:
    """Return names with their numbers, the greatest first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(ranked) - most} more" if len(ranked) > most else ""
    return ", ".join(f"{name!r} ({count:,})" for name, count in ranked[:most]) + more
