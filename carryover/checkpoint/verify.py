"""Owns the whole inspection of a run: every record, every link between them, every object."""

import json
from dataclasses import dataclass

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import LAST, Damaged, object_name
from carryover.checkpoint.log import Record
from carryover.checkpoint.store import Ref


@dataclass(frozen=True)
class Inspection:
    """What was looked at, and what is wrong, one line each."""

    records: int
    objects: int
    bytes: int
    problems: tuple[str, ...]


def verify(home: RunHome) -> Inspection:
    """Read and hash all of a run; nothing is changed."""
    problems: list[str] = []
    records: list[Record] = []
    seen = 0
    for found in home.log.scan():
        seen += 1
        if isinstance(found, Damaged):
            problems.append(str(found))
        else:
            records.append(found)
    try:
        home.run()
    except Damaged as error:
        problems.append(str(error))
    problems += _check_last(home)
    needed = _needed(home, records)
    sizes = 0
    names = home.objects.names()
    for ref in needed:
        problems += _check_object(home, ref)
        sizes += ref.size
    for name in sorted(set(names) - {ref.digest for ref in needed}):
        # Nobody refers to it (a save that was cut short), but its name says what it must be.
        ref = Ref(name, home.store.size(object_name(name)) or 0)
        problems += _check_object(home, ref)
        sizes += ref.size
    return Inspection(seen, len({*names, *(ref.digest for ref in needed)}), sizes, tuple(problems))


def _needed(home: RunHome, records: list[Record]) -> list[Ref]:
    """Return the objects of all kept commits and all finishes."""
    kept = {record.number for record in home.commits()}
    holders = [r for r in records if r.kind == "finish" or (r.kind == "commit" and r.number in kept)]
    return sorted({ref for record in holders for ref in record.objects}, key=lambda ref: ref.digest)


def _check_object(home: RunHome, ref: Ref) -> list[str]:
    try:
        home.objects.check(ref)
    except Damaged as error:
        return [str(error)]
    return []


def _check_last(home: RunHome) -> list[str]:
    """last.ckpt may be older than the newest commit (a process died between the two), but never anything else."""
    try:
        data = home.store.read(LAST)
    except FileNotFoundError:
        return []
    try:
        record = home.log.read(json.loads(data)["number"])
    except (ValueError, KeyError, TypeError) as error:
        return [f"{LAST}: not the copy of a commit record: {error}"]
    return [] if record.data == data else [f"{LAST}: differs from record {record.number}, of which it must be a copy"]
