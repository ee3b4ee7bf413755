"""Owns which records of the log are believed: those that the records beside them do not contradict.

    n-1 <-- previous -- n <-- previous -- n+1                  last.ckpt: a copy of the newest commit

A record's own digest shows what changed by accident; over content that was put there it may be computed anew. What
stands for a record is the digest that its successor names. Where that is another one, either of the two is wrong:

    the record       its successor is itself stood for by the next one
    the successor    the next one, or last.ckpt, knows another record in its place: it counts for nothing
    not known        neither is believed, but for the one that last.ckpt is a copy of

The last record has no successor: it must name its predecessor's digest, and go on from its numbers.
"""

from collections.abc import Callable
from dataclasses import replace

from carryover.checkpoint.layout import Damaged, record_name
from carryover.checkpoint.record import Newest, Record, decode


class Chain:
    """One look at the records of a log; what was read once is not read again.

    Args:
        read: gives a record by its number, checked by itself, or raises Damaged.
        copy: gives the bytes of last.ckpt, b"" where there is none.
        last: number of the last record.
    """

    def __init__(self, read: Callable[[int], Record], copy: Callable[[], bytes], *, last: int) -> None:
        self._read = read
        self._copy = copy
        self._last = last
        self._seen: dict[int, Record | Damaged] = {}

    def read(self, number: int) -> Record:
        """Return one record that is believed.

        Raises:
            Damaged: when it is missing, is not the record that was written, or is out of place.
            RunAgain: when every read gives something else.
        """
        found = self._look(number)
        if isinstance(found, Damaged):
            raise found
        self.confirm(found)
        return found

    def know(self, record: Record) -> None:
        """Take a record that was just read and checked by itself, so that it need not be read again."""
        self._seen[record.number] = record

    def confirm(self, record: Record) -> None:
        """See that a record belongs to this history.

        Raises:
            Damaged: when it does not.
        """
        self._seen[record.number] = record
        if self._contradicted(record):
            raise Damaged(
                f"{record_name(record.number)}: the chain breaks here, it was changed or is of another history",
                found=record.digest,
            )

    def newest_before(self, number: int) -> Newest:
        """Return the newest records by kind as of the last record before `number` that is believed."""
        for candidate in range(number - 1, -1, -1):
            try:
                return self.read(candidate).newest
            except Damaged:
                continue
        return Newest()

    def _contradicted(self, record: Record) -> bool:
        after = self._find(record.number + 1)
        if after and after.previous == record.digest:
            # Who goes on behind a record that is not believed names its digest, but does not count it.
            return after.kind != record.kind and getattr(after.newest, record.kind) != record.number
        if after:
            beyond = self._find(after.number + 1)
            if beyond and beyond.previous == after.digest:
                return True
            if not beyond and not self._replaced(after):
                return self._copy() != record.data
        return not self._follows(record) and self._copy() != record.data

    def _replaced(self, record: Record) -> bool:
        """Tell whether last.ckpt is another record of this number."""
        copy = self._copy()
        try:
            decode(record.number, copy)
        except Damaged:
            return False
        return copy != record.data

    def _follows(self, record: Record) -> bool:
        """Tell whether a record names its predecessor and goes on from its numbers; True where that is not known."""
        if record.number == 0:
            return record.previous == ""
        before = self._find(record.number - 1)
        if before is None:
            return True
        if record.previous != before.digest:
            return False
        # Behind a record that is not believed, numbers go on from the one before it.
        return _counts_on(before, record) or not self._follows(before)

    def _find(self, number: int) -> Record | None:
        found = self._look(number) if 0 <= number <= self._last else None
        return None if isinstance(found, Damaged) else found

    def _look(self, number: int) -> Record | Damaged:
        if number not in self._seen:
            try:
                self._seen[number] = self._read(number)
            except Damaged as error:
                self._seen[number] = error
        return self._seen[number]


def _counts_on(before: Record, record: Record) -> bool:
    attempts = record.attempt > before.attempt if record.kind == "claim" else record.attempt == before.attempt
    return attempts and record.newest == replace(before.newest, **{record.kind: record.number})
