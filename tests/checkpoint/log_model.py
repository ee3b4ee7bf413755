"""A model of one run under several writers: what may happen to them, and what must hold after every event.

Every writer is the real one, on a store of its own over the same memory. A `Fault` strikes it at the n-th call that
changes the store:

    before   the process dies, the call never arrived
    after    the process dies right after the call
    refused  the call never arrived, and the process is told so
    lost     the call arrived, its answer did not
    cut      as lost, and the store stays away until the action is over
    pause    the process stands still (SIGSTOP) while another attempt starts and commits, then goes on (SIGCONT)
    read     as pause, at the n-th call that only reads

What must hold is judged from the raw bytes of the store, not by the code under test: see `Run.check`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import Loaded, RunHome
from carryover.checkpoint.layout import HEARTBEAT, LAST, LOG, object_name, record_name
from carryover.checkpoint.log import Record
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.writer import Writer
from carryover.ground.digests import digest
from carryover.ground.errors import CarryoverError, Superseded
from carryover.ground.storage import Store
from tests.checkpoint.support import numbers, plain

How = Literal["before", "after", "lost", "cut", "refused", "pause", "read"]


class Died(BaseException):
    """The process was killed; nothing in it may catch this."""


class Unanswered(ConnectionError):
    """The store did not answer."""


@dataclass
class Fault:
    """What strikes at call number `at`, from 0."""

    at: int
    how: How
    meanwhile: Callable[[], object] = lambda: None
    cut: bool = False
    struck: bool = False


class FaultyStore(Store):
    """The store as one process sees it."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.fault: Fault | None = None
        self._changes = self._reads = 0

    def strike(self, fault: Fault | None) -> None:
        """Let a fault strike the next action."""
        self.fault, self._changes, self._reads = fault, 0, 0

    def write(self, name: str, data: bytes | bytearray | memoryview) -> None:
        self._change(lambda: super(FaultyStore, self).write(name, data))

    def create(self, name: str, data: bytes) -> bool:
        return self._change(lambda: super(FaultyStore, self).create(name, data))

    def delete(self, name: str) -> None:
        self._change(lambda: super(FaultyStore, self).delete(name))

    def read(self, name: str, *, large: bool = False) -> bytes:
        self._look()
        return super().read(name, large=large)

    def info(self, name: str) -> dict[str, Any]:
        self._look()
        return super().info(name)

    def names(self, folder: str = "") -> list[str]:
        self._look()
        return super().names(folder)

    def _look(self) -> None:
        fault = self.fault
        if fault and fault.cut:
            raise Unanswered("the store is away")
        if fault and fault.how == "read" and not fault.struck:
            self._reads += 1
            if self._reads > fault.at:
                fault.struck = True
                fault.meanwhile()

    def _change(self, call: Callable[[], Any]) -> Any:
        fault = self.fault
        if fault and fault.cut:
            raise Unanswered("the store is away")
        if fault is None or fault.how == "read" or fault.struck or self._changes < fault.at:
            self._changes += 1
            return call()
        fault.struck = True
        if fault.how == "before":
            raise Died
        if fault.how == "refused":
            raise Unanswered("refused")
        if fault.how == "pause":
            fault.meanwhile()
            return call()
        call()
        fault.cut = fault.how == "cut"
        raise Died if fault.how == "after" else Unanswered("the answer got lost")


@dataclass
class Process:
    """One process that has (or had) the run."""

    owner: str
    home: RunHome
    store: FaultyStore
    writer: Writer
    claim: int
    step: int


@dataclass
class Run:
    """The run: its processes, and what is known to have happened."""

    uri: str
    store_class: type[FaultyStore] = FaultyStore
    writer_class: type[Writer] = Writer
    claim: Callable[..., Writer | None] = claim
    processes: list[Process] = field(default_factory=list)
    claims: set[int] = field(default_factory=set)  # numbers of the claims that somebody believes to have
    seen: dict[int, bytes] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    harmed: set[str] = field(default_factory=set)  # names of files that we spoiled

    def __post_init__(self) -> None:
        self.raw = Store(self.uri)
        self.reader = RunHome(self.raw)

    def start(self, owner: str, *, takeover: bool, fault: Fault | None = None) -> Process | None:
        """Claim and load as the two processes of an attempt do; None when it died, gave up, or may not."""
        store = self.store_class(self.uri)
        store.strike(fault)
        home = RunHome(store)
        try:
            claimed = self.claim(home, owner=owner, takeover=takeover, patience=0.0, on_wait=lambda _: None)
            assert claimed is not None, "nobody finishes while a claim waits"
            number = claimed.handoff()["number"]
            loaded = home.load_newest(self._report)
            writer = self.writer_class.resume(home, claimed.handoff(), loaded)
        except (Died, Superseded, Unanswered):
            return None
        except CarryoverError:
            assert self.harmed, "a run whose files are whole can always be started"
            return None
        assert number not in self.claims, "two starts hold one claim"
        self.claims.add(number)
        process = Process(owner, home, store, writer, number, loaded.record.step if loaded else 0)
        self.processes.append(process)
        return process

    @property
    def holder(self) -> Process | None:
        """The process that claimed last, if it lives: nobody else may write any more."""
        newest = max(self._numbers("claim"), default=-1)
        return next((process for process in self.processes if process.claim == newest), None)

    def commit(self, process: Process, value: int, *, keep: Keep, score: float | None, fault: Fault | None) -> None:
        """Save a state that is `value` everywhere: values recur, so that content does."""
        process.store.strike(fault)
        superseded = process is not self.holder
        step = process.step + 1
        try:
            record = process.writer.commit(
                step=step,
                epoch=0,
                tensors=tensors(value),
                state={"value": value},
                files={"words.json": str(value).encode()},
                score=score,
                keep=keep,
            )
        except Died:
            self.processes.remove(process)
        except Superseded:
            assert process is not self.holder, "who holds the run was told that somebody else does"
        except Unanswered:
            pass
        else:
            assert not superseded, "a superseded attempt has committed"
            assert (record.step, record.state["value"]) == (step, value), "another save was acknowledged"
            process.step = step
            self.acknowledged.add(record.number)

    def finish(self, process: Process, value: int, *, fault: Fault | None) -> None:
        """Write the end of the run."""
        process.store.strike(fault)
        superseded = process is not self.holder
        try:
            process.writer.finish(
                step=process.step,
                reason="enough",
                tensors={name: raw for name, raw in tensors(value).items() if name.startswith("model/")},
                files={"words.json": str(value).encode(), "tokenizer.json": b"tokens"},
                metrics={"value": value},
                model="f" * 32,
                limits={},
            )
        except Died:
            self.processes.remove(process)
        except Superseded:
            assert process is not self.holder, "who holds the run was told that somebody else does"
        except Unanswered:
            pass
        else:
            assert not superseded, "a superseded attempt has finished"

    def read(self, fault: Fault | None) -> None:
        """Read as somebody who only looks, while others go on: never older than what stood when it began."""
        store = self.store_class(self.uri)
        before = max(self._numbers("commit"), default=-1)
        store.strike(fault)
        try:
            loaded = RunHome(store).load_newest(self._report)
        except CarryoverError:
            assert self.harmed, "a run whose files are whole can always be read"
            return
        if not self.harmed:
            assert (loaded.record.number if loaded else -1) >= before, "a reader was given an older commit"
        self._true(loaded)

    def spoil(self, name: str, change: Callable[[bytes], bytes | None]) -> None:
        """Damage one file as disks and people do."""
        changed = change(self.raw.read(name))
        self.harmed.add(name)
        if changed is None:
            self.raw.delete(name)
        else:
            self.raw.write(name, changed)

    def files(self) -> list[str]:
        """Names of the files there but records, in an order that does not hang on random names."""
        commits = self._numbers("commit")
        kept = self.reader.log.read(commits[-1]).kept if commits else ()
        refs = [ref for number in reversed(kept) for ref in self.reader.log.read(number).objects]
        names = dict.fromkeys([LAST, HEARTBEAT, *(object_name(ref.digest) for ref in refs)])
        return [name for name in names if self.raw.exists(name)]

    def check(self) -> None:
        """What must hold after every event."""
        records = self._history()
        commits = [record for record in records if record.kind == "commit"]
        assert self.acknowledged <= {record.number for record in commits}, "an acknowledged commit is not in the log"
        for record in records:
            if record.kind == "finish":
                assert not self._bad(record), "a finish refers to an object that is not there"
        if not commits:
            assert self.reader.load_newest(self._report) is None
            return
        kept = [record for record in commits if record.number in commits[-1].kept]
        bad = {record.number: self._bad(record) for record in kept}
        for record in kept:
            assert not bad[record.number] - self.harmed, "a kept commit refers to an object that is not there"
        # One that is no longer kept may still be whole: its objects are a kept one's too, or not removed yet.
        whole = [record for record in commits if not self._all_bad(record)]
        if not whole:
            return
        loaded = self.reader.load_newest(self._report)
        assert loaded is not None and loaded.record.number == whole[-1].number, "not the newest commit that is whole"
        self._true(loaded)

    def _history(self) -> list[Record]:
        """Read the log and see that it only grew, is linked, and that attempts take turns."""
        records: list[Record] = []
        names = self.raw.names(LOG)
        assert names == [record_name(number).removeprefix(f"{LOG}/") for number in range(len(names))], "a gap"
        for number in range(len(names)):
            data = self.raw.read(record_name(number))
            assert self.seen.setdefault(number, data) == data, "a record was changed"
            record = self.reader.log.read(number)
            before = records[-1] if records else None
            assert record.previous == (digest(before.data) if before else ""), "the chain is broken"
            claimed = before.attempt + 1 if before else 1
            if record.kind == "claim":
                assert record.attempt == claimed, "attempts are numbered in turn"
            else:
                assert before is not None and record.attempt == before.attempt, "two attempts mix"
            records.append(record)
        assert set(self.seen) == set(range(len(records))), "a record is gone"
        self._lineage(records)
        return records

    def _lineage(self, records: list[Record]) -> None:
        """Every commit goes on from the commit before it, while nothing was harmed."""
        before: Record | None = None
        for record in records:
            if record.kind == "commit" and not self.harmed:
                assert record.body["parent"] == (before.number if before else None), "a commit was passed over"
            before = record if record.kind == "commit" else before

    def _bad(self, record: Record) -> set[str]:
        """Objects of a record that are not what they must be, but for those that we spoiled."""
        return self._all_bad(record) - self.harmed

    def _all_bad(self, record: Record) -> set[str]:
        bad = set()
        for ref in record.objects:
            name = object_name(ref.digest)
            try:
                good = digest(self.raw.read(name)) == ref.digest
            except FileNotFoundError:
                good = False
            if not good:
                bad.add(name)
        return bad

    def _numbers(self, kind: str) -> list[int]:
        found = self.reader.log.numbers()
        return [number for number in found if json.loads(self.raw.read(record_name(number)))["kind"] == kind]

    def _true(self, loaded: Loaded | None) -> None:
        if loaded is None:
            return
        value = loaded.record.state["value"]
        assert plain(loaded.tensors()) == plain(tensors(value)), "other tensors than were saved"
        assert loaded.files == {"words.json": str(value).encode()}, "other files than were saved"

    def _report(self, problem: str) -> None:
        assert self.harmed, f"damage reported where nothing was harmed: {problem}"


def tensors(value: int) -> dict[str, Any]:
    """A state over a backbone that never changes; the second moment returns to where it was more often."""
    return {"model/backbone": numbers(7, 8, 9), "model/head": numbers(value), "optim/head": numbers(value % 2)}
