"""Owns how a writer goes on in another process of the same attempt, and comes back: one of the two writes at a time.

    rank 0    told(writer) ---- plain JSON ----> become(home, ...)     the writing process
              take_back(writer, ...) <---------- told(writer)

Nothing is read anew: what a writer knows of the run it has verified or written itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.log import Head
from carryover.checkpoint.pack import RawTensor
from carryover.checkpoint.record import Newest
from carryover.checkpoint.retention import Point
from carryover.checkpoint.store import Entry, Ref, Table
from carryover.checkpoint.writer import Writer


def told(writer: Writer) -> dict[str, Any]:
    """Return all that a writer knows, as plain JSON."""
    return {
        "head": asdict(writer._head),
        "attempt": writer.attempt,
        "resumed_from": writer.resumed_from,
        "resumed_time": writer.resumed_time,
        "parent": writer._parent,
        "points": [[point.number, point.score, sorted(point.objects)] for point in writer._points],
        "tables": [[number, _plain(table)] for number, table in writer._tables.items()],
        "files": [
            [number, {key: ref.to_json() for key, ref in files.items()}] for number, files in writer._files.items()
        ],
        "finished": None if writer._finished is None else sorted(writer._finished),
        "swept": writer._swept,
    }


def become(home: RunHome, values: Mapping[str, Any]) -> Writer:
    """Return the writer that `told` told of."""
    writer = Writer(home, head=Head(), attempt=values["attempt"], resumed_from=values["resumed_from"])
    take_back(writer, values)
    return writer


def take_back(writer: Writer, values: Mapping[str, Any]) -> None:
    """Let a writer go on from where the other process came to."""
    head = values["head"]
    unreadable = tuple(head["unreadable"])
    writer._head = Head(**{**head, "newest": Newest(**head["newest"]), "unreadable": unreadable})
    writer.resumed_time = values["resumed_time"]
    writer._parent = values["parent"]
    writer._points = [Point(number, score, frozenset(objects)) for number, score, objects in values["points"]]
    writer._tables = {number: _table(table) for number, table in values["tables"]}
    writer._files = {
        number: {key: Ref.from_json(ref) for key, ref in files.items()} for number, files in values["files"]
    }
    writer._finished = None if values["finished"] is None else frozenset(values["finished"])
    writer._swept = values["swept"]


def has_all(writer: Writer, tensors: Iterable[RawTensor]) -> bool:
    """Tell whether commits that are kept have all of these, so that their digests are enough (`pack.Kept`)."""
    known = {entry.digest for table in writer._tables.values() for entry in table.tensors.values()}
    return all(tensor.digest in known for tensor in tensors)


def _plain(table: Table) -> dict[str, Any]:
    return {
        "ref": table.ref.to_json(),
        "packs": [pack.to_json() for pack in table.packs],
        "tensors": {name: [one.dtype, one.shape, one.digest, one.pack] for name, one in table.tensors.items()},
        "base": _plain(table.base) if table.base else None,
    }


def _table(values: Mapping[str, Any]) -> Table:
    entries = {
        name: Entry(dtype, tuple(shape), digest, pack)
        for name, (dtype, shape, digest, pack) in values["tensors"].items()
    }
    base = _table(values["base"]) if values["base"] else None
    return Table(Ref.from_json(values["ref"]), tuple(Ref.from_json(pack) for pack in values["packs"]), entries, base)
