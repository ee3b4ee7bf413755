"""Owns a run as a whole: opening it, claiming it, and finding the newest checkpoint that can be believed.

    parent (no torch)                                       rank 0
    home = RunHome.open(store, run_key)                     home = RunHome.open(store, run_key)
    home.start(run_json)
    home.finish_record()      done already?
    writer = claim(home, owner=...)  --- handoff() --->     loaded = home.load_newest()
                                                            writer = Writer.resume(home, handoff, loaded)
                                                            writer.commit(...) ... writer.finish(...)

Every read is verified by size and digest before it is believed. A checkpoint that does not verify is reported, and the
next older one that does is used; where commits exist but none verifies, it is an error: a run never starts from zero
by itself.

A commit that is no longer kept may still be whole: in a copy of the home, taken file by file while a writer worked on,
the log may be newer than the objects. So the next older one is looked for among all commits. What was newest when the
copying began is whole in the copy, in whatever order files were taken, if it was kept until the copying had ended.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from carryover.checkpoint.layout import LOG, RUN, RUNS, Damaged, run_folder, settled
from carryover.checkpoint.log import Head, Kind, Log, Record
from carryover.checkpoint.retention import Point
from carryover.checkpoint.store import Objects, RawTensor, Table
from carryover.ground import console, storage
from carryover.ground.digests import canonical, digest
from carryover.ground.errors import CarryoverError, RunAgain, WrongInput
from carryover.ground.storage import Store

Report = Callable[[str], None]
# So often a reader of a living run begins anew, because what it read was removed meanwhile.
_LOOKS = 50


@dataclass(frozen=True)
class Loaded:
    """A commit or finish that was read whole and verified; its tensors are in memory until it is dropped.

    Attributes:
        files: relative name -> content of all beside tensors.
    """

    record: Record
    table: Table
    files: Mapping[str, bytes] = field(repr=False)
    _tensors: Mapping[str, RawTensor] = field(repr=False)

    def tensors(self, prefix: str = "") -> dict[str, RawTensor]:
        """Return name -> tensor of the names that start with `prefix`."""
        return {name: tensor for name, tensor in self._tensors.items() if name.startswith(prefix)}


class RunHome:
    """One run in a store; see the module for who calls what."""

    def __init__(self, home: Store) -> None:
        self.store = home
        self.log = Log(home)
        self.objects = Objects(home)
        self._run_bytes: bytes | None = None

    @classmethod
    def open(cls, store: Store, run_key: str) -> "RunHome":
        """Return the run of this key, which need not exist yet.

        Raises:
            WrongInput: when the key can't name a folder.
        """
        return cls(store.sub(run_folder(run_key)))

    @classmethod
    def at(cls, uri: str) -> "RunHome":
        """Return the run whose home is at `uri`, which must exist.

        Raises:
            WrongInput: when there is no run.
        """
        home = cls(storage.open_store(uri))
        if not home.exists():
            keys = home.store.folders(RUNS)
            hint = f"; it is a store with runs {', '.join(keys[:5])}: name one by --run-key" if keys else ""
            raise WrongInput(f"{home.store.uri}: no run there (neither {RUN} nor {LOG}/){hint}")
        return home

    def exists(self) -> bool:
        """Tell whether anything of this run is there."""
        return self.store.exists(RUN) or bool(self.log.numbers())

    def start(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """Write run.json unless there is one; return the one that is there."""
        plain = json.loads(canonical(run))
        self.store.create(RUN, canonical({**plain, "check": digest(canonical(plain))}))
        return self.run()

    def run(self) -> dict[str, Any]:
        """Return run.json, without its own digest.

        Raises:
            Damaged: when it is missing or is not what was written, or not what the run was claimed with.
        """
        found = settled(self._run)
        claimed = self._claimed_run()
        if claimed and claimed != digest(self._read_run()):
            raise Damaged(f"{self.store.at(RUN)}: it was changed, record 0 names another one")
        return found

    def run_alone(self) -> dict[str, Any]:
        """Return run.json checked by its own digest only, which costs one read; raises as `run`."""
        return settled(self._run)

    def run_digest(self) -> str:
        """Return the digest of run.json for a claim to name, "" when there is none."""
        try:
            return digest(self._read_run())
        except FileNotFoundError:
            return ""

    def _claimed_run(self) -> str:
        """Return the digest of run.json that the first claim names, "" when that can't be read."""
        try:
            # Three records are all that the first one needs to be believed.
            return self.log.chain(2).read(0).body.get("run", "")
        except Damaged:
            return ""

    def _run(self) -> dict[str, Any]:
        try:
            data = self._read_run()
        except FileNotFoundError:
            raise Damaged(f"{self.store.at(RUN)}: missing") from None
        try:
            found = json.loads(data)
            if found.pop("check") == digest(canonical(found)):
                # Like a record of the log it is never changed, and read once where those are.
                self._run_bytes = data
                return found
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # Said below: whatever it is, it is not what was written.
        raise Damaged(
            f"{self.store.at(RUN)}: content has changed, it does not match its own digest", found=digest(data)
        )

    def _read_run(self) -> bytes:
        held = self._run_bytes if self.log.held is not None else None
        return self.store.read(RUN) if held is None else held

    def latest_claim(self, head: Head | None = None) -> Record | None:
        """Return the newest readable claim (as of `head`), None when nobody has claimed this run."""
        return self._newest_readable("claim", head)

    def finish_record(self) -> Record | None:
        """Return the newest readable finish, None when there is none; an unreadable one is reported."""
        return self._newest_readable("finish", None)

    def finish_records(self, head: Head | None = None) -> list[Record]:
        """Return all finishes (as of `head`), oldest first (a run that was continued has several).

        Raises:
            Damaged: when one of them can't be read.
        """
        head, found = head or self.log.head(), []
        chain, number = self.log.chain(head.number), head.newest.finish
        while number is not None:
            found.append(chain.read(number))
            number = chain.newest_before(number).finish
        return found[::-1]

    def commits(self) -> list[Record]:
        """Return the commits that are kept and readable, oldest first; their objects are not looked at."""
        return sorted(self._kept(self.log.head(), on_damage=lambda _: None), key=lambda record: record.number)

    def fruitless_attempts(self, owner: str) -> int:
        """Return how many attempts in a row, the last ones, were `owner`'s and brought no commit."""
        head, count = self.log.head(), 0
        chain, newest = self.log.chain(head.number), head.newest
        while newest.claim is not None and newest.claim > max(newest.commit or -1, newest.finish or -1):
            try:
                if chain.read(newest.claim).body["owner"] != owner:
                    break
            except Damaged:
                break  # Whose it was can't be said; it is not counted against anybody.
            count += 1
            newest = chain.newest_before(newest.claim)
        return count

    def load_newest(self, on_damage: Report = console.warn, *, head: Head | None = None) -> Loaded | None:
        """Return the newest checkpoint that verifies, None when there has never been one.

        The run may be alive: where a commit is gone because a newer one has come meanwhile, that one is read.

        Args:
            on_damage: told in one line about everything that does not verify.
            head: the end of the log where it was found already, for the first look.

        Raises:
            CarryoverError: when there are commits and none of them verifies.
            RunAgain: when checkpoints of a living run are removed faster than they can be read, time and again.
        """
        for _ in range(_LOOKS):
            head, problems = head or self.log.head(), list[str]()
            loaded = self._load_newest_of(head, problems.append)
            # Damage, or the retention of a living attempt? Only who has written a record since may have removed it.
            if not problems or not self.log.has_grown(head):
                break
            head = None
        else:
            raise RunAgain(
                f"{self.store.uri}: its checkpoints change faster than they can be read; try again later",
                trouble="busy",
            )
        for problem in (*head.unreadable, *problems):
            on_damage(f"{self.store.uri}: {problem}")
        if loaded is None:
            self._refuse_zero(head)
        return loaded

    def _load_newest_of(self, head: Head, on_damage: Report) -> Loaded | None:
        for record in self._commits(head, on_damage):
            try:
                return self.load(record, head)
            except Damaged as error:
                on_damage(f"commit {record.number} (step {record.step}) can't be used: {error}")
        return None

    def load(self, record: Record, head: Head | None = None) -> Loaded:
        """Read a commit or finish whole.

        Raises:
            Damaged: when anything of it is not what was written.
        """
        self.log.chain((head or self.log.head()).number).confirm(record)
        return self.load_confirmed(record)

    def load_confirmed(self, record: Record) -> Loaded:
        """Read a commit whole of which somebody else has seen that it belongs to this history; raises as `load`."""
        table = self.objects.load_table(record.table)
        _agrees(record, table)
        return Loaded(record, table, self.read_files(record), self.objects.read_tensors(table))

    def read_tensors(self, record: Record, prefix: str | tuple[str, ...] = "") -> dict[str, RawTensor]:
        """Return the tensors of a commit or finish whose names start with (one) `prefix`, verified; reads no others."""
        return self.objects.read_tensors(record.table, prefix)

    def read_files(self, record: Record) -> dict[str, bytes]:
        """Return relative name -> content of the files of a commit or finish, verified."""
        return {name: self.objects.get_file(ref) for name, ref in record.files.items()}

    def points(self, newest: Record, head: Head) -> list[Point]:
        """Return what retention goes on with after `newest` was loaded: the commits it kept that are still whole.

        Where newer commits did not verify, what they no longer kept is left out, be it `newest` itself: whoever wrote
        them may stand still in the middle of removing it, and go on with that at any time.
        """
        still = {record.number for record in self._kept(head, on_damage=lambda _: None)}
        chain = self.log.chain(head.number)
        if newest.number not in still:
            return []
        found = [Point.of(newest)]
        for number in sorted(still.intersection(newest.kept) - {newest.number}):
            try:
                record = chain.read(number)
                self.objects.check_sizes(record.objects)
            except Damaged:
                continue  # Gone or cut; whoever loads or verifies it says so. It can't count as kept any more.
            found.append(Point.of(record))
        return sorted(found, key=lambda point: point.number)

    def newest_whole(self, head: Head) -> int | None:
        """Return the number of the newest commit whose objects are all there by size; nothing is read or hashed.

        Raises:
            CarryoverError: when there are commits and none is whole.
        """
        for record in self._commits(head, on_damage=lambda _: None):
            try:
                self.objects.check_sizes(record.objects)
            except Damaged:
                continue  # load_newest, which verifies, reports it.
            return record.number
        self._refuse_zero(head)
        return None

    def _commits(self, head: Head, on_damage: Report) -> Iterator[Record]:
        """Yield the commits that may be whole, newest first: those that are kept, and others whose objects are there.

        Args:
            on_damage: told about records that can't be read, while it is not known that they are of no use any more.
        """
        number, kept, there = head.newest.commit, None, None
        chain = self.log.chain(head.number)
        while number is not None:
            try:
                record = chain.read(number)
            except Damaged as error:
                if kept is None or number in kept:
                    on_damage(str(error))
            else:
                kept = kept or record.kept
                if number in kept:
                    yield record
                else:
                    there = there or set(self.objects.names())
                    if there.issuperset(ref.digest for ref in record.objects):
                        yield record
            number = chain.newest_before(number).commit

    def _kept(self, head: Head, on_damage: Report) -> Iterator[Record]:
        """Yield the readable commits that are kept, newest first; the newest readable one says which these are."""
        newest, number, chain = None, head.newest.commit, self.log.chain(head.number)
        while newest is None and number is not None:
            try:
                newest = chain.read(number)
            except Damaged as error:
                on_damage(str(error))
                number = chain.newest_before(number).commit
        if newest is None:
            return
        yield newest
        for number in sorted(set(newest.kept) - {newest.number}, reverse=True):
            try:
                yield chain.read(number)
            except Damaged as error:
                on_damage(str(error))

    def _newest_readable(self, kind: Kind, head: Head | None) -> Record | None:
        head = head or self.log.head()
        chain, number = self.log.chain(head.number), getattr(head.newest, kind)
        while number is not None:
            try:
                return chain.read(number)
            except Damaged as error:
                console.warn(f"{self.store.uri}: {error}")
                number = getattr(chain.newest_before(number), kind)
        return None

    def _refuse_zero(self, head: Head) -> None:
        if head.newest.commit is not None or head.unreadable:
            raise CarryoverError(
                f"{self.store.uri}: has checkpoints, but none of them verifies; `carryover checkpoint verify` says "
                "what is wrong. Bring the files back, or start a new run with another recipe (e.g. another seed)",
                trouble="damaged",
            )


def _agrees(record: Record, table: Table) -> None:
    strangers = {*table.objects, *record.files.values()} - set(record.objects)
    if strangers:
        raise Damaged(f"record {record.number} does not name object {min(ref.digest for ref in strangers)}")
