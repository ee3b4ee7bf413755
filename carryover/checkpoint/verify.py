"""Owns the whole inspection of a run: every record, every link between them, every object.

The run may be alive: what its attempt removes meanwhile, because newer commits no longer keep it, is no problem.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from carryover.checkpoint.heartbeat import decode_beat
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import HEARTBEAT, LAST, Damaged, object_name, settled
from carryover.checkpoint.log import Record
from carryover.checkpoint.store import Ref
from carryover.ground.digests import digest


@dataclass(frozen=True)
class Inspection:
    """What was looked at, what is wrong, one line each, and the newest commit in which nothing is."""

    records: int
    objects: int
    bytes: int
    problems: tuple[str, ...]
    newest_whole: Record | None


def verify(home: RunHome) -> Inspection:
    """Read and hash all of a run; nothing is changed."""
    scanned = list(home.log.scan())
    problems = [str(found) for found in scanned if isinstance(found, Damaged)]
    records = [found for found in scanned if not isinstance(found, Damaged)]
    try:
        home.run()
    except Damaged as error:
        problems.append(str(error))
    problems += _found(lambda: _compare_last(home)) + _found(lambda: _compare_beat(home))
    holders = _holders(home, records)
    names = home.objects.names()
    # Nobody refers to the others (a save that was cut short), but their names say what they must be.
    strays = [Ref(name, home.store.size(object_name(name)) or 0) for name in sorted({*names} - {*holders})]
    refs = [*sorted((ref for ref, _ in holders.values()), key=lambda ref: ref.digest), *strays]
    wrong = {ref.digest: said for ref in refs for said in _check_object(home, ref)}
    if wrong:
        # Looked at again, now that something is missing: the log says who needs it now.
        holders = _holders(home, [*records, *_since(home, len(scanned))])
        wrong = {name: said for name, said in wrong.items() if name in holders or home.store.exists(object_name(name))}
    for name, said in wrong.items():
        of = holders[name][1] if name in holders else None
        problems.append(f"{said} (of {of.kind} {of.number}, step {of.step})" if of else said)
    whole = _newest_whole(records, {*names} - {*wrong})
    return Inspection(len(scanned), len(refs), sum(ref.size for ref in refs), tuple(problems), whole)


def _holders(home: RunHome, records: Sequence[Record]) -> dict[str, tuple[Ref, Record]]:
    """Return digest -> object, and the newest that refers to it, of all kept commits and all finishes."""
    kept = home.commits()
    holders = [*kept, *(record for record in records if record.kind == "finish")]
    holders.sort(key=lambda record: record.number)
    return {ref.digest: (ref, record) for record in holders for ref in record.objects}


def _since(home: RunHome, number: int) -> list[Record]:
    """Return the readable records from this number on: what was written while we looked."""
    found: list[Record] = []
    for later in range(number, home.log.head().number + 1):
        try:
            found.append(home.log.read(later))
        except Damaged:
            continue  # The next inspection says so.
    return found


def _newest_whole(records: Sequence[Record], good: set[str]) -> Record | None:
    commits = (record for record in reversed(records) if record.kind == "commit")
    return next((record for record in commits if good.issuperset(ref.digest for ref in record.objects)), None)


def _check_object(home: RunHome, ref: Ref) -> list[str]:
    try:
        home.objects.check(ref)
    except Damaged as error:
        return [str(error)]
    return []


def _found(look: Callable[[], None]) -> list[str]:
    """Return what a look at one file finds wrong; one that need not be there may be missing."""
    try:
        settled(look)
    except FileNotFoundError:
        return []
    except Damaged as error:
        return [str(error)]
    return []


def _compare_beat(home: RunHome) -> None:
    data = home.store.read(HEARTBEAT)
    attempt = decode_beat(data)["attempt"]
    # Who beats has claimed before, so the log is looked at after the beat.
    if attempt > (known := home.log.head().attempt):
        raise Damaged(f"{HEARTBEAT}: of attempt {attempt}, and the log knows {known}", found=digest(data))


def _compare_last(home: RunHome) -> None:
    """last.ckpt may be older than the newest commit (a process died between the two), but never anything else."""
    data = home.store.read(LAST)
    try:
        number = json.loads(data)["number"]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{LAST}: not the copy of a commit record: {error}", found=digest(data)) from error
    try:
        record = home.log.read(number)
    except (Damaged, TypeError, ValueError) as error:
        said = f"{LAST}: a copy of record {number!r}, which can't be read: {error}"
        raise Damaged(said, found=digest(data)) from error
    if record.data != data:
        raise Damaged(f"{LAST}: differs from record {number}, of which it must be a copy", found=digest(data))
