"""Owns the history of a run: numbered records, each made by put-if-absent, never changed and never deleted.

log/0000000000.json   claim    attempt 1 starts
log/0000000001.json   commit   step 100          every record names the digest of the one before it:
log/0000000002.json   commit   step 200              0 <- 1 <- 2 <- 3 <- 4
log/0000000003.json   claim    attempt 2 starts: attempt 1 can't get number 3 any more, so it is superseded
log/0000000004.json   finish   the final weights

See record.py for what a record says, chain.py for which ones are believed.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from carryover.checkpoint.chain import Chain
from carryover.checkpoint.layout import FORMAT, LAST, LOG, Damaged, record_name, record_number, settled
from carryover.checkpoint.record import HEADER, Kind, Newest, Record, decode
from carryover.ground.digests import canonical, digest
from carryover.ground.errors import Superseded
from carryover.ground.listing import names_after
from carryover.ground.storage import Store

# On a disk: so many numbers without a record in a row are taken for the end of the log, fewer for a hole in it.
_GAP = 32


@dataclass(frozen=True)
class Head:
    """The end of the log.

    Attributes:
        number: of the last record, -1 for an empty log.
        digest: blake3 of its bytes, "" for an empty log.
        newest: newest records by kind, as the last record says that is believed.
        attempt: of that record, 0 for an empty log.
        unreadable: what is wrong with each record after that one, newest first.
    """

    number: int = -1
    digest: str = ""
    newest: Newest = Newest()  # noqa: RUF009 - frozen
    attempt: int = 0
    unreadable: tuple[str, ...] = ()

    def after(self, record: Record) -> "Head":
        """Return the head once `record` has been appended."""
        return Head(record.number, record.digest, record.newest, record.attempt)


class Log:
    """The log of one run home.

    Attributes:
        held: number -> record that was read and is not read again, from `remember` on; None: all are read anew.
    """

    def __init__(self, home: Store) -> None:
        self.home = home
        self.held: dict[int, Record] | None = None

    def remember(self, texts: Mapping[str, str] = MappingProxyType({})) -> None:
        """Read no record twice from now on; for a start, which looks at the same few from all sides.

        A record is never changed, so it is as if all looks were one. Where the log ends is looked for each time.

        Args:
            texts: records that another process of this start has read, as `remembered` gives them.
        """
        self.held = {int(number): decode(int(number), text.encode()) for number, text in texts.items()}

    def forget(self) -> None:
        """Read all anew from now on: who goes on for days would hold every record."""
        self.held = None

    def remembered(self) -> dict[str, str]:
        """Return the records that were read since `remember`, for another process."""
        return {str(number): record.data.decode() for number, record in (self.held or {}).items()}

    def head(self) -> Head:
        """Find the end of the log: the record with the largest number, whatever is wrong with those before it.

        A listing of all of it would find that, and cost more with every record (S3 gives a thousand names at a time).
        So the end is sought from the newest commit on, which last.ckpt names:

            0 . . . . . . . . . N c c . . f    .    .    .
                                |<- sought ->|      last.ckpt, byte for byte, is record N

        Where the two agree, N is there, so the end is N or behind it, and whatever is missing or damaged before N
        does not count here, as it does not in a whole listing. On S3 a listing that starts behind N has every name
        that the whole one would have there. On a disk (whose listings of 100,000 names take long too) names are tried
        one by one, until `_GAP` in a row are not there: a hole in the log, of which each file was lost by itself, must
        not end it, or a record would be written into the hole. Others' records that come meanwhile are found by both,
        as after a whole listing: numbers are taken in order, and what comes behind the look is not waited for.

        Nothing is believed because last.ckpt says so. Where it is missing, spoilt, or not the copy of the record that
        stands under its number (whichever of the two was changed), all of the log is listed, as it must be for a
        run without a commit; so it is where a store has no listing that starts behind a name.
        """
        newest = self._newest_copied()
        if newest is None:
            listed = max(self.numbers(), default=-1)
            number = self._forward(max(listed, self._hint(listed)), gap=1)
        elif self.home.local:
            number = self._forward(newest.number, gap=_GAP)
        else:
            number = self._forward(max([newest.number, *self._numbers_behind(newest.number)]), gap=1)
        last, problems, chain = "", [], self.chain(number)
        if newest:
            chain.know(newest)
        for candidate in range(number, -1, -1):
            try:
                record = chain.read(candidate)
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
        if self.held is not None and number in self.held:
            return self.held[number]
        return self._hold(settled(lambda: decode(number, self._bytes(number))))

    def chain(self, last: int) -> Chain:
        """Return a look at the records up to number `last` that believes none which its neighbours contradict."""
        return Chain(self.read, self._copy, last=last)

    def scan(self) -> Iterator[Record | Damaged]:
        """Yield every record from number 0 on, or what is wrong with it."""
        last = self.head().number
        chain = self.chain(last)
        for number in range(last + 1):
            try:
                yield chain.read(number)
            except Damaged as error:
                yield error

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
                return self._hold(record)
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

    def _hold(self, record: Record) -> Record:
        if self.held is not None:
            self.held[record.number] = record
        return record

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

    def _copy(self) -> bytes:
        try:
            return self.home.read(LAST)
        except FileNotFoundError:
            return b""

    def _newest_copied(self) -> Record | None:
        """Return the record that last.ckpt is a copy of, None where it is not one of a record that is there."""
        data = self._copy()
        try:
            number = json.loads(data)["number"]
            if self.held and number in self.held:
                return self.held[number] if self.held[number].data == data else None
            return self._hold(decode(number, data)) if self.home.read(record_name(number)) == data else None
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return None  # (Damaged is a ValueError.)

    def _numbers_behind(self, number: int) -> list[int]:
        names = names_after(self.home, LOG, record_name(number).rpartition("/")[2])
        return [found for name in names if (found := record_number(name)) is not None]

    def _forward(self, number: int, *, gap: int) -> int:
        """Return the last number from `number` on behind which `gap` numbers have no record."""
        asked = number + 1
        while asked <= number + gap:
            if self.home.exists(record_name(asked)):
                number = asked
            asked += 1
        return number

    def _hint(self, listed: int) -> int:
        """Return the number in last.ckpt where it leads past the listing, else -1; it is believed no further."""
        try:
            number = json.loads(self._copy())["number"]
        except (ValueError, KeyError, TypeError):
            return -1
        return number if isinstance(number, int) and number > listed and self.home.exists(record_name(number)) else -1


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
    assert not set(body) & set(HEADER), f"{kind} says {sorted(set(body) & set(HEADER))}, which every record says"
    # As it will be read: numbers as keys become text now, so that the digest is of what a reader sees.
    plain = {**json.loads(canonical(body)), **header, "newest": asdict(newest), "format": FORMAT}
    data = canonical({**plain, "check": digest(canonical(plain))})
    # Read back from its own bytes: what is returned is exactly what another process will read.
    return decode(number, data)
