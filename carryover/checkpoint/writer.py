"""Owns the order in which a checkpoint comes to be, and who may still write.

    commit    1 objects      packs of new tensors, the table          nobody refers to them yet
              2 log record   put-if-absent                            from here on the checkpoint exists
              3 last.ckpt    copy of the record                       for people, tools, and the reader's first look;
                                                                      its failing costs nobody the checkpoint
              4 prune        objects of commits that the record       a crash before or in it leaves only garbage
                             no longer keeps

A writer is made by a claim, in the process that starts the ranks. It goes to rank 0 as plain JSON (`handoff`), and is a
writer again there (`resume`). Nothing here is collective: one process writes.
"""

import contextlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from types import MappingProxyType
from typing import Any

from carryover.checkpoint import retention
from carryover.checkpoint.home import Loaded, RunHome
from carryover.checkpoint.layout import LAST, OBJECTS, Damaged, record_name
from carryover.checkpoint.log import Head, Kind, Newest, Record
from carryover.checkpoint.pack import Kept
from carryover.checkpoint.retention import Keep, Point
from carryover.checkpoint.store import RawTensor, Ref, Table
from carryover.ground.console import warn
from carryover.ground.digests import canonical, digest
from carryover.ground.disk import FULL
from carryover.ground.errors import CarryoverError, Superseded
from carryover.ground.storage import first_line
from carryover.ground.unfinished import Unfinished, abandon, unfinished


def head_of(handoff: Mapping[str, Any]) -> Head:
    """Return the end of the log as the claim left it, of what `Writer.handoff` gave."""
    return Head(handoff["number"], handoff["digest"], Newest(**handoff["newest"]), handoff["attempt"])


class Writer:
    """The one process that may write to a run, until somebody else claims it.

    Attributes:
        attempt: number of our claim among all claims, from 1.
        resumed_from: number of the commit that this attempt goes on from, None when it starts from zero;
            `resumed_time` is when it was made, in Unix seconds, known once it is loaded.
    """

    def __init__(self, home: RunHome, *, head: Head, attempt: int, resumed_from: int | None) -> None:
        self.home = home
        self.attempt = attempt
        self.resumed_from = resumed_from
        self.resumed_time: float | None = None
        self._head = head
        self._parent: int | None = None
        self._points: list[Point] = []
        # What this process has verified or written of the commits that are kept: it needn't be written again.
        self._tables: dict[int, Table] = {}
        self._files: dict[int, dict[str, Ref]] = {}
        self._finished: frozenset[str] | None = frozenset()
        self._swept = False

    @property
    def head(self) -> Head:
        """The end of the log as this writer left it."""
        return self._head

    def handoff(self) -> dict[str, Any]:
        """Return what rank 0 needs to write on, as plain JSON."""
        return {
            "number": self._head.number,
            "digest": self._head.digest,
            "newest": asdict(self._head.newest),
            "attempt": self.attempt,
            "resumed_from": self.resumed_from,
        }

    @classmethod
    def resume(cls, home: RunHome, handoff: Mapping[str, Any], loaded: Loaded | None) -> "Writer":
        """Become the writer in rank 0.

        Args:
            home: the same run.
            handoff: what `handoff()` gave.
            loaded: what `home.load_newest()` returned here; its verified tensors are not written again.

        Raises:
            Superseded: when somebody else has claimed the run meanwhile.
        """
        head = head_of(handoff)
        if home.store.exists(record_name(head.number + 1)):
            raise Superseded(f"{home.store.uri}: claimed by somebody else before attempt {handoff['attempt']} started")
        if loaded is None and head.newest.commit is not None:
            raise CarryoverError(
                f"{home.store.uri}: has commits; an attempt must go on from one, not from zero", trouble="internal"
            )
        found = loaded.record.number if loaded else None
        writer = cls(home, head=head, attempt=handoff["attempt"], resumed_from=found)
        writer._finished = _objects_of_finishes(home, head)
        if loaded:
            writer.resumed_time = datetime.fromisoformat(loaded.record.time).timestamp()
            writer._parent = found
            writer._points = home.points(loaded.record, head)
            if _all_readable(home, loaded.record.number + 1, head.number):
                writer.know(loaded)
        return writer

    def know(self, loaded: Loaded) -> None:
        """Let the tensors of a commit that was loaded (so verified) and is kept count as written."""
        if any(point.number == loaded.record.number for point in self._points):
            self._tables[loaded.record.number] = loaded.table
            refs = loaded.record.files
            self._files[loaded.record.number] = {digest(data): refs[name] for name, data in loaded.files.items()}

    def commit(
        self,
        *,
        step: int,
        epoch: int,
        tensors: Mapping[str, RawTensor | Kept],
        state: Mapping[str, Any],
        files: Mapping[str, bytes] = MappingProxyType({}),
        score: float | None = None,
        keep: Keep = Keep(),  # noqa: B008 - frozen
    ) -> Record:
        """Save a checkpoint; it exists when this returns.

        Args:
            step: optimizer steps done.
            epoch: epoch that the next sample is of.
            tensors: all of the state that is tensors, by path ("model/...", "optim/...").
            state: all else, plain JSON without NaN.
            files: relative name -> content of what should be there beside weights; unchanged ones are stored once.
            score: of the last validation; NaN and None mean that there is none, and are never best.
            keep: which commits stay from now on.

        Raises:
            Superseded: when another attempt owns the run; nothing of ours is visible then.
            OSError, or the store's own kind: when the store failed; the commit does not exist.
        """
        table, stored, objects = self._put(tensors, files)
        score = score if score is not None and math.isfinite(score) else None
        body = {
            "step": step,
            "epoch": epoch,
            "table": table.ref.to_json(),
            "files": {name: ref.to_json() for name, ref in stored.items()},
            "objects": [ref.to_json() for ref in objects],
            "state": state,
            "score": score,
        }
        digests = frozenset(ref.digest for ref in objects)
        record, points = self._append_commit(body, digests, keep)
        self._tables[record.number] = table
        self._files[record.number] = {digest(data): stored[name] for name, data in files.items()}
        self._written(record, points)
        return record

    def commit_again(self, record: Record, keep: Keep, *, protect: Collection[int] = ()) -> Record:
        """Commit the content of the commit that was loaded once more, in its place, with another choice of what stays.

        Args:
            protect: numbers of commits that stay whatever `keep` says.

        Raises:
            Superseded, and what the store raises: as `commit`.
        """
        self._points = [point for point in self._points if point.number != record.number]
        told = {name: value for name, value in record.body.items() if name not in ("kept", "parent")}
        again, points = self._append_commit(told, retention.digests([record]), keep, protect=protect)
        self._written(again, points)
        return again

    def finish(
        self,
        *,
        step: int,
        reason: str,
        tensors: Mapping[str, RawTensor],
        files: Mapping[str, bytes],
        metrics: Mapping[str, Any],
        model: str,
        limits: Mapping[str, Any],
    ) -> Record:
        """Write the end of the run: from this record alone its Model can be made again, at any time.

        Args:
            step: the step that the final weights are of.
            reason: why it ended, for people.
            tensors: final weights, names "model/...".
            files: relative name -> content of all that a Model needs beside weights.
            metrics: plain JSON without NaN.
            model: the Model's digest.
            limits: the limits that were reached (max_epochs and such), to judge later whether more is asked.

        Raises:
            Superseded, and what the store raises: as `commit`.
        """
        table, stored, objects = self._put(tensors, files)
        body = {
            "step": step,
            "reason": reason,
            "table": table.ref.to_json(),
            "files": {name: ref.to_json() for name, ref in stored.items()},
            "objects": [ref.to_json() for ref in objects],
            "metrics": metrics,
            "model": model,
            "limits": limits,
        }
        while True:
            record, ours = self._append("finish", body)
            if ours:
                return record

    def _put(
        self, tensors: Mapping[str, RawTensor | Kept], files: Mapping[str, bytes]
    ) -> tuple[Table, dict[str, Ref], list[Ref]]:
        """Write all that is new; return the table, the files, and all objects that the two refer to."""
        known = {key: ref for refs in self._files.values() for key, ref in refs.items()}
        try:
            with self._failure_swept(), self.home.objects.taken_back_on_error():
                table = self.home.objects.put_tensors(tensors, self._tables.values())
                stored = self.home.objects.put_files(files, known)
        except FileNotFoundError as error:
            # A successor sweeps the files that we had not ended, be it under our hands.
            if self.home.log.head().attempt <= self.attempt:
                raise
            raise Superseded(
                f"{self.home.store.uri}: taken by another attempt, which removed what this one ({self.attempt}) was "
                "writing; this attempt must stop"
            ) from error
        return table, stored, list(dict.fromkeys([*table.objects, *stored.values()]))

    def _append_commit(
        self, body: Mapping[str, Any], digests: frozenset[str], keep: Keep, *, protect: Collection[int] = ()
    ) -> tuple[Record, list[Point]]:
        """Write a commit's record; return it with the points of all that was kept until then, its own last."""
        if self.resumed_from is not None:
            protect = {*protect, self.resumed_from}
        while True:
            points = [*self._points, Point(self._head.number + 1, body["score"], digests)]
            kept = retention.what_to_keep(points, keep, protect=protect)
            record, ours = self._append("commit", {**body, "kept": kept, "parent": self._parent})
            if ours:
                return record, points

    def _append(self, kind: Kind, body: Mapping[str, Any]) -> tuple[Record, bool]:
        """Write the next record; or take in one of ours there that was given up, as no answer came: then False."""
        with self._failure_swept(), self._room_given_back():
            record = self.home.log.append(self._head, kind=kind, attempt=self.attempt, body=body)
        self._head = self._head.after(record)
        ours = record.kind == kind and record.body == json.loads(canonical(body))
        if ours:
            self.home.objects.referred_to()
        if record.kind == "finish" and self._finished is not None:
            self._finished |= retention.digests([record])
        if record.kind == "commit" and not ours:
            self._points = [point for point in [*self._points, Point.of(record)] if point.number in record.kept]
            self._parent = record.number
            self._swept = False
        return record, ours

    @contextlib.contextmanager
    def _failure_swept(self) -> Iterator[None]:
        """Let what a save leaves that fails in the block be removed after the next save that does not."""
        try:
            yield
        except Exception:
            self._swept = False
            raise

    @contextlib.contextmanager
    def _room_given_back(self) -> Iterator[None]:
        """Let a disk with no room for a record have that of its objects back: the next try needs it.

        Such a record has not arrived. Of any other failure that can't be said, and its objects stay until a sweep.
        """
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                self.home.objects.take_back()
            raise

    def _written(self, record: Record, points: list[Point]) -> None:
        """Go on from the commit just written: the copy for readers, what is known, and what is no longer needed."""
        kept = record.kept
        self._parent = record.number
        self._points = [point for point in points if point.number in kept]
        self._tables = {number: known for number, known in self._tables.items() if number in kept}
        self._files = {number: known for number, known in self._files.items() if number in kept}
        self._last(record)
        self._prune([point for point in points if point.number not in kept])

    def _last(self, record: Record) -> None:
        try:
            self.home.store.write(LAST, record.data)
        except Exception as error:
            # The commit is safe; readers look on from an older copy, or from the listing alone.
            warn(f"{self.home.store.at(LAST)}: not written: {first_line(error)}")

    def _prune(self, dropped: list[Point]) -> None:
        """Delete what the record just written no longer keeps; the first time, what dead attempts left behind too.

        Why no age is asked for: whoever writes objects has claimed the run before, by a record. The log is looked at
        after the listing, and where it ends with our own record, nothing that was listed is of a successor: it is ours
        (and we do nothing else now), or of attempts that can never write a record again. As no name comes twice, that
        stays true however long we stand still before we delete. Who looked first and listed then would not be safe.
        """
        objects = self.home.objects
        if self._finished is None:
            return
        try:
            candidates = objects.names() if not self._swept else [name for point in dropped for name in point.objects]
            left = self._unfinished() if not self._swept else []
            if not (candidates or left) or self.home.store.exists(record_name(self._head.number + 1)):
                return
            needed = self._finished.union(*(point.objects for point in self._points))
            retention.remove(objects, candidates, needed=needed)
            for write in left:
                abandon(self.home.store, write)
            self._swept = True
        except Exception as error:
            # The commit is safe and garbage hurts nobody: go on, and sweep all of it after the next commit.
            self._swept = False
            warn(f"{self.home.store.uri}: old checkpoints not removed yet: {first_line(error)}")

    def _unfinished(self) -> list[Unfinished]:
        try:
            return unfinished(self.home.store, OBJECTS)
        except Exception as error:
            # That takes a right of its own (s3:ListBucketMultipartUploads); objects are removed without it.
            warn(f"{self.home.store.uri}: what saves that were cut short hold is not known: {first_line(error)}")
            return []


def _all_readable(home: RunHome, first: int, last: int) -> bool:
    """Tell whether all records of a range can be read.

    A commit among those that can't may have dropped what an older one kept, and a process that stands still in the
    middle of removing that would go on with it later.
    """
    chain = home.log.chain(last)
    try:
        for number in range(first, last + 1):
            chain.read(number)
    except Damaged:
        return False
    return True


def _objects_of_finishes(home: RunHome, head: Head) -> frozenset[str] | None:
    """Return the digests that finishes refer to; None when one can't be read, so that nothing may be deleted."""
    try:
        return retention.digests(home.finish_records(head))
    except Damaged as error:
        warn(f"{home.store.uri}: no old checkpoint will be removed, because a finish is unreadable: {error}")
        return None
