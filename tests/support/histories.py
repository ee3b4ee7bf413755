"""Runs with a long past: records by the log's own code, the newest of them a real commit, without years of training."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from carryover.checkpoint import log as logs
from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import record_name
from carryover.checkpoint.log import Record
from carryover.checkpoint.metrics import segment
from carryover.checkpoint.writer import Writer, head_of
from carryover.ground.storage import Store
from tests.checkpoint.support import end, save
from tests.support.counting import Tally

# Every so many records an attempt was killed and another one went on.
LIFE = 100
Phases = dict[str, Tally]


def planted(home: RunHome, records: int, *, put: Callable[[Store, Mapping[str, bytes]], None] | None = None) -> Record:
    """Give a run that has just started a past of so many records, and return the newest: a commit that can be loaded.

    Before it lie claims and commits that name the same objects, none of which is kept any more; each is linked to the
    one before it, as a reader demands. The curve has a full file for every `LIFE` records.

    Args:
        put: writes many small files, name -> content, in any order; None for the usual way.
    """
    put = put or _put
    first = claim(home, owner="me")
    assert first is not None and home.log.head().number == 0
    writer = Writer.resume(home, first.handoff(), None)
    newest = save(writer, 1)
    head = home.log.head()
    past = {}
    for record in _past(head, newest, records - 3):
        past[record_name(record.number)] = record.data
        head = head.after(record)
    put(home.store, past)
    lines = b'{"step": 1, "epoch": 0, "attempt": 1, "time": 1.0, "loss": 0.5}\n' * 256
    put(home.store, {segment(1, number): lines for number in range(records // LIFE)})
    last = logs._make(head, kind="claim", attempt=head.attempt + 1, body={**_claim(home), "resumed_from": 1})
    _put(home.store, {record_name(last.number): last.data})
    writer = Writer(home, head=head.after(last), attempt=last.attempt, resumed_from=newest.number)
    return save(writer, 2)


def lives(home: RunHome, tally: Tally, *, ranks: int) -> Phases:
    """Go on with a run as an attempt does: what each part of it asks of the store."""
    found: Phases = {}

    def counted(name: str, act: Callable[[], Any]) -> Any:
        with tally.during() as found[name]:
            return act()

    def start() -> Writer | None:
        home.log.remember()
        assert home.exists() and home.run() and home.latest_claim() and home.commits()
        assert home.finish_record() is None and home.fruitless_attempts("me") == 0
        return claim(home, owner="me")

    def load() -> Writer:
        assert claimed is not None
        first, *others = [RunHome(home.store) for _ in range(ranks)]
        first.log.remember(records)
        loaded = first.load_newest(_damage, head=head_of(claimed.handoff()))
        assert loaded is not None and loaded.record.step == 2
        for other in others:
            assert other.load_confirmed(loaded.record).record == loaded.record
        writer = Writer.resume(first, claimed.handoff(), loaded)
        first.log.forget()
        return writer

    claimed = counted("start", start)
    records = home.log.remembered()
    home.log.forget()
    writer = counted("restore", load)
    counted("first save", lambda: save(writer, 3))
    counted("save", lambda: save(writer, 4))
    counted("finish", lambda: end(writer, 4))
    counted("given again", home.finish_record)
    return found


def _damage(problem: str) -> None:
    raise AssertionError(problem)


def _past(head: Any, newest: Record, count: int) -> Iterator[Record]:
    body = {name: value for name, value in newest.body.items() if name not in ("kept", "parent")}
    for place in range(count):
        number, kind = head.number + 1, "commit" if place % LIFE else "claim"
        own = {**body, "kept": [number], "parent": None} if kind == "commit" else _CLAIM
        record = logs._make(head, kind=kind, attempt=head.attempt + (kind == "claim"), body=own)
        head = head.after(record)
        yield record


_CLAIM = {
    "owner": "me",
    "host": "elsewhere",
    "pid": 1,
    "boot": "",
    "takeover": False,
    "changes": {},
    "resumed_from": 1,
    "heartbeat_step": 1,
    "superseded": [],
}


def _claim(home: RunHome) -> dict[str, Any]:
    return {**_CLAIM, "run": home.run_digest()}


def _put(store: Store, files: Mapping[str, bytes]) -> None:
    """Write many small files: on a disk without waiting for each, on an object store many at once."""
    if store.local:
        for name, data in files.items():
            path = store.local / name
            os.makedirs(path.parent, exist_ok=True)
            path.write_bytes(data)
    elif files:
        store.fs.pipe({store.at(name): data for name, data in files.items()})
