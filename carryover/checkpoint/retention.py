"""Owns which commits stay, and the removal of objects that no staying record refers to.

The record that names the commits to keep is written first, then data goes. A process that dies in between leaves
objects that nobody refers to; the next attempt sweeps them after its first commit.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from carryover.checkpoint.log import Record
from carryover.checkpoint.store import Objects


@dataclass(frozen=True)
class Keep:
    """How many commits stay: the newest `last` (at least one) and the `best` with the best scores."""

    last: int = 2
    best: int = 1
    greater_is_better: bool = True

    def __post_init__(self) -> None:
        if self.last < 1 or self.best < 0:
            raise ValueError(f"keep last {self.last}, best {self.best}: must be at least 1 and 0")


@dataclass(frozen=True)
class Point:
    """What retention needs to know of a commit: number, score, and the digests of all its objects."""

    number: int
    score: float | None
    objects: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, record: Record) -> "Point":
        """Return the point of a commit record."""
        return cls(record.number, record.score, digests([record]))


def best(points: Sequence[Point], count: int, *, greater_is_better: bool) -> list[Point]:
    """Return the `count` best of the points that have a score, best first; the earlier of two equal ones wins."""
    sign = -1 if greater_is_better else 1
    scored = [(sign * point.score, point.number, point) for point in points if point.score is not None]
    return [point for _, _, point in sorted(scored, key=lambda item: item[:2])[:count]]


def what_to_keep(points: Sequence[Point], keep: Keep, *, protect: Collection[int] = ()) -> tuple[int, ...]:
    """Return the numbers to keep, ascending: the last, the best, and those in `protect`, as far as they are there."""
    ordered = sorted(points, key=lambda point: point.number)
    kept = [*ordered[-keep.last :], *best(ordered, keep.best, greater_is_better=keep.greater_is_better)]
    kept += [point for point in ordered if point.number in protect]
    return tuple(sorted({point.number for point in kept}))


def digests(records: Iterable[Record]) -> frozenset[str]:
    """Return the digests of all objects that these commits and finishes refer to."""
    return frozenset(ref.digest for record in records for ref in record.objects)


def remove(objects: Objects, candidates: Iterable[str], *, needed: Collection[str]) -> int:
    """Delete the candidate objects that are not needed; return how many."""
    doomed = sorted(set(candidates) - set(needed))
    for name in doomed:
        objects.delete(name)
    return len(doomed)
