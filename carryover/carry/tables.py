"""Owns how a transfer is told: a table for people, a summary for result.json and the Model's card, and what is a gap.

part               loaded          resized  new            from
hf_text.encoder    22.6 M in 101   -        -              hf_text/
hf_text.head       -               -        385 in 2       -
ignored: 148 k in 2 (hf_text/pooler.dense.weight, hf_text/pooler.dense.bias)
"""

from collections.abc import Iterable, Sequence
from typing import Any

from carryover.carry.foreign import Source
from carryover.carry.match import KINDS, TAKEN, Fate, Match
from carryover.ground.errors import WrongInput

FILE = "transfer.json"
# A summary is for people; a transformer has hundreds of tensors.
MOST_NAMES = 20
_SHOWN = 4
_DETECTOR = "detector"


def summary(found: Match, source: Source, *, heads: Sequence[str]) -> dict[str, Any]:
    """Return plain JSON: counts of tensors and of their numbers, the first names of each kind, and the gaps."""
    kinds: dict[str, Any] = {}
    for kind in KINDS:
        fates: tuple[Fate, ...] = getattr(found, kind)
        shown = [_words(fate) for fate in fates[:MOST_NAMES]]
        kinds[kind] = {"tensors": len(fates), "parameters": sum(f.count for f in fates), "names": shown}
    said = {"source": source.uri, "form": source.form, "digest": source.digest}
    return {**said, **kinds, "gaps": gaps(found, heads=heads)}


def _words(fate: Fate) -> dict[str, str]:
    said = {"name": fate.name, "source": fate.source, "why": fate.why}
    return {key: value for key, value in said.items() if value}


def lines(found: Match) -> list[str]:
    """Return the table, a row for each part of the network; and what was ignored."""
    parts: dict[str, dict[str, list[Fate]]] = {}
    for kind in TAKEN:
        for fate in getattr(found, kind):
            parts.setdefault(_part(fate.name), {}).setdefault(kind, []).append(fate)
    rows: list[tuple[str, ...]] = [("part", *TAKEN, "from")]
    for part, kinds in parts.items():
        rows.append((part, *(_amount(kinds.get(kind, ())) for kind in TAKEN), _origin(kinds)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    told += [f"{fate.name}: {fate.why}" for fate in found.resized if not fate.why.startswith("fitted")]
    reasons = {fate.why: fate.name for fate in reversed(found.new) if fate.source}
    told += [f"new, e.g. {name}: {why}" for why, name in reasons.items()]
    if found.ignored:
        told.append(f"ignored: {_amount(found.ignored)} ({_names(found.ignored)})")
    return told


def refuse(uri: str, words: Sequence[str]) -> WrongInput:
    """Return the error for a strict transfer with these gaps."""
    return WrongInput(f"--strict: {uri} leaves gaps: {'; '.join(words)}")


def check(found: Match, source: Source, *, heads: Sequence[str], strict: bool) -> None:
    """Raise WrongInput where nothing was loaded; with `strict`, where there is any gap.

    Args:
        heads: starts of names of the network's heads, which a new task has new.
    """
    if not found.loaded and not found.resized:
        theirs = _names(found.ignored) or "none"
        mine = _names(f for f in found.new if not f.name.startswith(tuple(heads)))
        raise WrongInput(
            f"{source.uri}: nothing in it fits the new model: no tensor has the name and the shape of one. "
            f"It has {theirs}; the model has {mine}"
        )
    if strict and (words := gaps(found, heads=heads)):
        raise refuse(source.uri, words)


def gaps(found: Match, *, heads: Sequence[str]) -> list[str]:
    """Return what a strict transfer does not allow, one line a kind: all but heads, here and there."""
    theirs = {fate.source for fate in found.new if fate.name.startswith(tuple(heads))}
    new = tuple(fate for fate in found.new if not fate.name.startswith(tuple(heads)))
    ignored = tuple(fate for fate in found.ignored if fate.name not in theirs)
    kinds = {"new": new, "resized": found.resized, "ignored": ignored}
    return [f"{kind} {_amount(fates)} ({_names(fates)})" for kind, fates in kinds.items() if fates]


def _part(name: str) -> str:
    """Return the part of the network that a tensor is of: branch and first module."""
    branch, _, rest = name.partition(".")
    module, _, more = rest.partition(".")
    if module == _DETECTOR:
        # All of a detector stands below one name.
        module, _, more = rest.partition(".")[2].partition(".")
    return f"{branch}.{module}" if more else branch


def _origin(kinds: dict[str, list[Fate]]) -> str:
    """Return where a part came from: what its first tensor is called there, less what it is called here."""
    fate = next((f for kind in ("loaded", "resized") for f in kinds.get(kind, ())), None)
    if fate is None:
        return "-"
    folder, slash, name = fate.source.rpartition("/")
    there, here = name.split("."), fate.name.split(".")
    while there and here and there[-1] == here[-1]:
        del there[-1], here[-1]
    return folder + slash + ".".join(there) or "the same names"


def _amount(fates: Sequence[Fate]) -> str:
    return f"{_count(sum(fate.count for fate in fates))} in {len(fates)}" if fates else "-"


def _count(number: int) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _names(fates: Iterable[Fate]) -> str:
    names = [fate.name for fate in fates]
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
