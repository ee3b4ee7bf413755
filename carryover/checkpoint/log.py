"""Owns the history of a run: numbered records, each made by put-if-absent, never changed and never deleted.

log/0000000000.json   claim    attempt 1 starts
log/0000000001.json   commit   step 100          every record names the digest of the one before it:
log/0000000002.json   commit   step 200              0 <- 1 <- 2 <- 3 <- 4
log/0000000003.json   claim    attempt 2 starts: attempt 1 can't get number 3 any more, so it is superseded
log/0000000004.json   finish   the final weights

{"format": 1, "number": 3, "kind": "claim|commit|finish",
 "previous": blake3 of the bytes of record 2 ("" for record 0), "attempt": 2, "nonce": 32 hex,
 "time": ISO 8601 in UTC, for people only,
 "newest": {"claim": 3, "commit": 2, "finish": null},     numbers as of this record, itself included:
                                                          who reads the newest record knows the head of all kinds
 "check": blake3 of this record's canonical JSON without this key: a flipped bit in the newest record, which no
          later one vouches for, is found too
 ... what this kind says, beside the keys above:
 claim   owner, host, pid, boot, takeover, changes {recipe key: value}, resumed_from (commit number or null),
         heartbeat_step (last step seen of the attempt before, or null), superseded [owners that lost this run]
 commit  step, epoch, table {digest, size}, files {name: {digest, size}}, state {},
         objects [{digest, size}] (all it refers to, the table too),
         kept [numbers of the commits kept from now on, itself too], score or null,
         parent (number of the commit that its state came from, or null)
 finish  step, reason, table, files {name: {digest, size}}, objects [...], metrics {}, model (digest), limits {}}
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from carryover.checkpoint.layout import FORMAT, LAST, LOG, Damaged, record_name, record_number, settled
from carryover.checkpoint.store import Ref
from carryover.ground.digests import canonical, digest
from carryover.ground.errors import Superseded
from carryover.ground.storage import Store

Kind = Literal["claim", "commit", "finish"]
_KINDS = ("claim", "commit", "finish")
_HEADER = ("format", "number", "kind", "previous", "attempt", "nonce", "time", "newest", "check")


@dataclass(frozen=True)
class Newest:
    """The newest record of each kind by number, None where there is none yet."""

    claim: int | None = None
    commit: int | None = None
    finish: int | None = None


@dataclass(frozen=True)
class Record:
    """One record of the log; `body` holds what its kind says, `data` the very bytes, `digest` their blake3."""

    number: int
    kind: Kind
    previous: str
    attempt: int
    nonce: str
    time: str
    newest: Newest
    body: Mapping[str, Any]
    data: bytes = field(repr=False)
    digest: str

    @property
    def step(self) -> int:
        """Optimizer steps done (commit, finish)."""
        return self.body["step"]

    @property
    def epoch(self) -> int:
        """Epoch that the commit lies in."""
        return self.body["epoch"]

    @property
    def state(self) -> Mapping[str, Any]:
        """What the trainer needs beside tensors to go on from this commit."""
        return self.body["state"]

    @property
    def score(self) -> float | None:
        """Validation score of the commit, None when there is none."""
        return self.body["score"]

    @property
    def kept(self) -> tuple[int, ...]:
        """Numbers of the commits that were kept from this commit on, itself included."""
        return tuple(self.body["kept"])

    @property
    def table(self) -> Ref:
        """The tensor table (commit, finish)."""
        return Ref.from_json(self.body["table"])

    @property
    def files(self) -> dict[str, Ref]:
        """Relative name -> object of the files beside tensors (commit, finish)."""
        return {name: Ref.from_json(value) for name, value in self.body["files"].items()}

    @property
    def objects(self) -> tuple[Ref, ...]:
        """All objects that this record refers to (commit, finish)."""
        return tuple(Ref.from_json(value) for value in self.body["objects"])


@dataclass(frozen=True)
class Head:
    """The end of the log.

    Attributes:
        number: of the last record, -1 for an empty log.
        digest: blake3 of its bytes, "" for an empty log.
        newest: newest records by kind, as the last readable record says.
        attempt: of the last readable record, 0 for an empty log.
        unreadable: what is wrong with each record after the last readable one, newest first.
    """

    number: int = -1
    digest: str = ""
    newest: Newest = Newest()
    attempt: int = 0
    unreadable: tuple[str, ...] = ()

    def after(self, record: Record) -> "Head":
        """Return the head once `record` has been appended."""
        return Head(record.number, record.digest, record.newest, record.attempt)


class Log:
    """The log of one run home."""

    def __init__(self, home: Store) -> None:
        self.home = home

    def head(self) -> Head:
        """Find the end of the log: the largest of the listing and of last.ckpt's hint, then probing forward."""
        listed = max(self.numbers(), default=-1)
        number = max(listed, self._hint(listed))
        while self.home.exists(record_name(number + 1)):
            number += 1
        last, problems = "", []
        for candidate in range(number, -1, -1):
            try:
                record = self.read(candidate)
                return Head(number, last or record.digest, record.newest, record.attempt, tuple(problems))
            except Damaged as error:
                if error.found is None and not last:
                    # A listing named it, and nothing is there: a name may be spoilt on its way as well as a content.
                    number = candidate - 1
                    continue
                last = last or error.found or ""
                problems.append(str(error))
        return Head(number, last, unreadable=tuple(problems))

    def has_grown(self, head: Head) -> bool:
        """Tell whether somebody has written a record since `head` was the end."""
        return self.home.exists(record_name(head.number + 1))

    def numbers(self) -> list[int]:
        """Return the numbers of the records that the listing shows, ascending."""
        found = (record_number(name) for name in self.home.names(LOG))
        return [number for number in found if number is not None]

    def read(self, number: int) -> Record:
        """Return one record, checked by itself.

        Raises:
            Damaged: when it is missing or is not the record that was written.
            RunAgain: when every read gives something else.
        """
        return settled(lambda: decode(number, self._bytes(number)))

    def scan(self) -> Iterator[Record | Damaged]:
        """Yield every record from number 0 on, or what is wrong with it; a link to another predecessor is wrong too."""
        before: str | None = ""
        for number in range(self.head().number + 1):
            try:
                record = self.read(number)
                broken = Damaged(f"{record_name(number)}: the chain breaks here, it follows another record")
                yield record if record.previous == before else broken
                before = record.digest
            except Damaged as error:
                yield error
                before = error.found

    def records(self) -> list[Record]:
        """Return the whole history.

        Raises:
            Damaged: at the first record that is not what it must be.
        """
        found: list[Record] = []
        for record in self.scan():
            if isinstance(record, Damaged):
                raise record
            found.append(record)
        return found

    def confirm(self, record: Record, head: Head) -> None:
        """See that a record belongs to this history, by its links to the readable records beside it.

        One broken link may be the neighbour's fault; a record that no neighbour knows is out of place.

        Raises:
            Damaged: when there are neighbours and none of them knows this record.
        """
        # The first record has a start of its own instead of a neighbour before it.
        known = [record.previous == ""] if record.number == 0 else []
        for number in (record.number - 1, record.number + 1):
            if not 0 <= number <= head.number:
                continue
            try:
                other = self.read(number)
            except Damaged:
                continue  # It can't vouch for anybody; it is reported where the whole log is looked at.
            before, after = (other, record) if number < record.number else (record, other)
            known.append(after.previous == before.digest)
        if known and not any(known):
            raise Damaged(f"{record_name(record.number)}: the chain breaks here, it is of another history")

    def newest_before(self, number: int) -> Newest:
        """Return the newest records by kind as of the last readable record before `number`."""
        for candidate in range(number - 1, -1, -1):
            try:
                return self.read(candidate).newest
            except Damaged:
                continue
        return Newest()

    def append(self, head: Head, *, kind: Kind, attempt: int, body: Mapping[str, Any]) -> Record:
        """Write the next record after `head`; returns the one of an earlier try where that turns out to have arrived.

        That one may say something else (an older step): whoever asked must look before it counts this one as written.

        Raises:
            Superseded: when that number belongs to somebody else.
            OSError, or the store's own kind: when the store failed and the record is not there.
        """
        record = _make(head, kind=kind, attempt=attempt, body=body)
        name = record_name(record.number)
        try:
            if self.home.create(name, record.data):
                return record
        except Exception:
            # The store may have applied it and lost only the answer. (Object stores raise their own kinds.)
            if not self.home.exists(name):
                raise
        # Our own nonce there means that this try arrived, whatever the store answered. A record of our attempt behind
        # our own head is an earlier try of the same, whose answer was lost: an attempt has one writer.
        # (Read twice where need be: one answer may be spoilt on its way.)
        if any(self._bytes(record.number) == record.data for _ in range(2)):
            return record
        if earlier := self._earlier_try(record):
            return earlier
        raise Superseded(f"{self.home.at(name)}: {self._winner(record.number)}; this attempt ({attempt}) must stop")

    def _earlier_try(self, record: Record) -> Record | None:
        try:
            there = self.read(record.number)
        except Damaged:
            return None
        same = (there.attempt, there.previous) == (record.attempt, record.previous)
        return there if same and there.kind != "claim" else None

    def _winner(self, number: int) -> str:
        try:
            other = self.read(number)
        except Damaged:
            return "taken by another process"
        owner = f" of owner {other.body['owner']}" if other.kind == "claim" else ""
        return f"taken by attempt {other.attempt}{owner}"

    def _bytes(self, number: int) -> bytes:
        try:
            return self.home.read(record_name(number))
        except FileNotFoundError:
            raise Damaged(f"{record_name(number)}: missing") from None

    def _hint(self, listed: int) -> int:
        """Return the number in last.ckpt where it leads past the listing, else -1; it is believed no further."""
        try:
            number = json.loads(self.home.read(LAST))["number"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return -1
        return number if isinstance(number, int) and number > listed and self.home.exists(record_name(number)) else -1


def decode(number: int, data: bytes) -> Record:
    """Read a record's bytes.

    Raises:
        Damaged: unless they are, unchanged, what was written under this number.
    """
    try:
        return _decode(number, data)
    except Damaged as error:
        error.found = digest(data)
        raise


def _decode(number: int, data: bytes) -> Record:
    name = record_name(number)
    try:
        plain = json.loads(data)
        check = plain.pop("check")
        if digest(canonical(plain)) != check:
            raise Damaged(f"{name}: content has changed, it does not match its own digest")
        if plain["format"] != FORMAT:
            raise Damaged(f"{name}: format {plain['format']} is not one that this version reads")
        if plain["number"] != number or plain["kind"] not in _KINDS:
            raise Damaged(f"{name}: holds {plain['kind']} {plain['number']}")
        header = {key: plain.pop(key) for key in _HEADER if key != "check"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged(f"{name}: not a log record ({len(data)} bytes)") from error
    del header["format"]
    return Record(**{**header, "newest": Newest(**header["newest"])}, body=plain, data=data, digest=digest(data))


def _make(head: Head, *, kind: Kind, attempt: int, body: Mapping[str, Any]) -> Record:
    number = head.number + 1
    newest = replace(head.newest, **{kind: number})
    header: dict[str, Any] = {
        "number": number,
        "kind": kind,
        "previous": head.digest,
        "attempt": attempt,
        "nonce": secrets.token_hex(16),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    assert not set(body) & set(_HEADER), f"{kind} says {sorted(set(body) & set(_HEADER))}, which every record says"
    # As it will be read: numbers as keys become text now, so that the digest is of what a reader sees.
    plain = {**json.loads(canonical(body)), **header, "newest": asdict(newest), "format": FORMAT}
    data = canonical({**plain, "check": digest(canonical(plain))})
    # Read back from its own bytes: what is returned is exactly what another process will read.
    return decode(number, data)
