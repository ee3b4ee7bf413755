"""Owns which tensor of a source becomes which tensor of a network: by name and shape, never by shape alone.

    source names     model.model.encoder.layer.0.…      model.head.weight    prefix -> root, the pair that agrees
    network's names  hf_text.encoder.encoder.layer.0.…  hf_text.head.weight  on most names and shapes; then the rest

Every tensor of the network is loaded, resized or left new, and every one of the source that nobody takes is ignored.
Needs shapes only; `put` alone touches tensors.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
# Layers that wrappers put into names, wherever they stand: torch.compile, FSDP, and peft around an adapted layer.
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer"})
# A prefix counts where this share of what stands below it agrees, on the smaller of the two sides, and this part of
# the network's side: two norms of another architecture are no agreement.
_LEAST_SHARE, _LEAST_PART = 0.5, 0.2
_DEEPEST = 8


@dataclass(frozen=True)
class Pair:
    """Names of the source that start with `source` are those of the network that start with `target`."""

    source: str
    target: str


@dataclass(frozen=True)
class Rows:
    """How the rows of a table are named, there and here: token (or category) -> row."""

    source: Mapping[str, int]
    target: Mapping[str, int]

    def common(self) -> list[tuple[int, int]]:
        """Return (row there, row here) of the names that both have."""
        return [(self.source[name], row) for name, row in self.target.items() if name in self.source]


@dataclass(frozen=True)
class Fate:
    """What became of one tensor.

    Attributes:
        name: in the network; of an ignored one, in the source.
        source: where it came from, "" where nowhere.
        count: of its numbers; of a resized one, those that were taken.
        why: of what is new, resized or ignored.
        rows: of a resized one, (row there, row here).
    """

    name: str
    count: int
    source: str = ""
    why: str = ""
    rows: tuple[tuple[int, int], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Match:
    """What became of every tensor, in the order of the network and of the source."""

    loaded: tuple[Fate, ...] = ()
    resized: tuple[Fate, ...] = ()
    new: tuple[Fate, ...] = ()
    ignored: tuple[Fate, ...] = ()

    def __add__(self, other: "Match") -> "Match":
        return Match(*(getattr(self, kind) + getattr(other, kind) for kind in KINDS))

    def within(self, folder: str) -> "Match":
        """Return the same with the source's names below a folder's name, for people to tell folders apart."""

        def below(fates: tuple[Fate, ...]) -> tuple[Fate, ...]:
            return tuple(replace(fate, source=f"{folder}/{fate.source}" if fate.source else "") for fate in fates)

        ignored = tuple(replace(fate, name=f"{folder}/{fate.name}") for fate in self.ignored)
        return Match(below(self.loaded), below(self.resized), below(self.new), ignored)


TAKEN = ("loaded", "resized", "new")
KINDS = (*TAKEN, "ignored")


def match(
    source: Shapes,
    target: Shapes,
    pairs: Sequence[Pair],
    *,
    tables: Mapping[str, Rows] | None = None,
    fresh: Mapping[str, str] | None = None,
) -> Match:
    """Say what becomes of each tensor.

    Args:
        source: name -> shape.
        target: the network's, by the names of its state_dict.
        pairs: whose names are those of whom; of two that name the same tensor, the first one holds.
        tables: name in the network -> how its rows are named there and here, where that is known.
        fresh: names (or, ending with a dot, starts of names) in the network that stay new -> why.
    """
    tables, named, used = tables or {}, _named(source, target, pairs), set[str]()
    fates: dict[str, list[Fate]] = {kind: [] for kind in KINDS}
    for name, shape in target.items():
        origin = named.get(name, "")
        kept = _kept(name, fresh or {})
        if kept or not origin:
            kind, fate = "new", Fate(name, _count(shape), origin, kept or "the source has no such name")
        else:
            kind, fate = _one(name, shape, origin, source[origin], tables.get(name))
        fates[kind].append(fate)
        if kind != "new":
            used.add(origin)
    refused = {fate.source: fate.why for fate in fates["new"] if fate.source}
    fates["ignored"] = [
        Fate(name, _count(shape), why=refused.get(name, "the network has no such name"))
        for name, shape in source.items()
        if name not in used
    ]
    return Match(*(tuple(fates[kind]) for kind in KINDS))


def _one(name: str, shape: Shape, origin: str, there: Shape, rows: Rows | None) -> tuple[str, Fate]:
    """Return what becomes of a tensor whose name the source has."""
    differ = rows is not None and (rows.source != rows.target or there != shape)
    if rows is not None and differ and len(shape) == 2 and there[1:] == shape[1:]:
        common = tuple((old, new) for old, new in rows.common() if old < there[0] and new < shape[0])
        why = f"{len(common)} of {len(rows.target)} rows by their names"
        return ("resized" if common else "new"), Fate(name, len(common) * shape[1], origin, why, common)
    if there == shape:
        return "loaded", Fate(name, _count(shape), origin)
    return "new", Fate(name, _count(shape), origin, f"shape {_words(there)} there, {_words(shape)} here")


def _kept(name: str, fresh: Mapping[str, str]) -> str:
    """Return why a tensor stays new whatever the source has, "" where nothing says so."""
    fits = (why for start, why in fresh.items() if name == start or (start[-1] == "." and name.startswith(start)))
    return next(fits, "")


def _named(source: Shapes, target: Shapes, pairs: Sequence[Pair]) -> dict[str, str]:
    """Return name in the network -> name in the source, shapes not looked at."""
    origins = {plain(name): name for name in source}
    found: dict[str, str] = {}
    taken: set[str] = set()
    for pair in pairs:
        for name in target:
            below = plain(name).startswith(pair.target)
            origin = origins.get(pair.source + plain(name).removeprefix(pair.target)) if below else None
            if origin is not None and name not in found and origin not in taken:
                found[name] = origin
                taken.add(origin)
    return found


def find_pairs(source: Shapes, target: Shapes, roots: Sequence[str]) -> list[Pair]:
    """Return which prefixes of the source stand for which of the network's roots, the best agreement first.

    Args:
        roots: starts of names in the network ("hf_text.encoder.", "hf_text.", ""): nothing else is tried, so that layer
            1 of the source never becomes layer 0 here.
    """
    there = {plain(name): shape for name, shape in source.items()}
    here = {plain(name): shape for name, shape in target.items()}
    found: list[Pair] = []
    while there and here:
        best = _best_pair(there, here, roots)
        if best is None:
            break
        found.append(best)
        named = [name for name in here if name.startswith(best.target)]
        for name in named:
            origin = best.source + name.removeprefix(best.target)
            if origin in there:
                del there[origin], here[name]
    return found


def _best_pair(there: Shapes, here: Shapes, roots: Sequence[str]) -> Pair | None:
    """Return the pair on whose names and shapes the two sides agree most; None where none agrees enough."""
    below = {root: {n.removeprefix(root): s for n, s in here.items() if n.startswith(root)} for root in roots}
    score, sizes = Counter[Pair](), Counter[str]()
    for name, shape in there.items():
        for prefix, rest in _cuts(name):
            sizes[prefix] += 1
            for root, wanted in below.items():
                if wanted.get(rest) == shape:
                    score[Pair(prefix, root)] += 1
    # Of equals the shortest prefix, then the first name: an order that does not change from start to start.
    ordered = sorted(score, key=lambda p: (-score[p], len(p.source), p.source, roots.index(p.target)))
    for pair in ordered:
        mine = len(below[pair.target])
        if score[pair] >= max(_LEAST_SHARE * min(mine, sizes[pair.source]), _LEAST_PART * mine):
            return pair
    return None


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """Yield (prefix, rest) for each dot of a name, the prefix with its dot."""
    yield "", name
    at = name.find(".")
    for _ in range(_DEEPEST):
        if at < 0:
            return
        yield name[: at + 1], name[at + 1 :]
        at = name.find(".", at + 1)


def plain(name: str) -> str:
    """Return a name without what wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def put(found: Match, source: "Mapping[str, Tensor]", network: "nn.Module") -> None:
    """Copy what is loaded or resized into a network, in the network's own precision; all else stays as it is."""
    import torch

    target = network.state_dict()
    with torch.no_grad():
        for fate in found.loaded:
            target[fate.name].copy_(source[fate.source])
        for fate in found.resized:
            old, new = (torch.tensor(side) for side in zip(*fate.rows, strict=True))
            values = source[fate.source][old].to(target[fate.name].dtype)
            target[fate.name].index_copy_(0, new, values)


def _count(shape: Shape) -> int:
    return math.prod(shape)


def _words(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "one number"
