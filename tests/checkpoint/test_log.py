"""The log: one writer a number, answers that got lost, links that must hold."""

import json
import random
from dataclasses import replace

import pytest

from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import LAST, Damaged, record_name
from carryover.checkpoint.log import Head, Log, decode
from carryover.ground.digests import canonical, digest
from carryover.ground.errors import Superseded
from carryover.ground.storage import Store
from tests.checkpoint.support import flip, save, spoil, start

BODY = {"owner": "me", "changes": {}}


def _fill(log: Log, count: int) -> Head:
    head = log.head()
    for attempt in range(1, count + 1):
        head = head.after(log.append(head, kind="claim", attempt=attempt, body=BODY))
    return head


def test_empty_log_has_a_head(store: Store) -> None:
    assert Log(store).head() == Head()


def test_records_come_back_linked(store: Store) -> None:
    log = Log(store)
    head = _fill(log, 3)
    assert log.head() == head
    records = log.records()
    assert [record.number for record in records] == [0, 1, 2]
    assert [record.previous for record in records] == ["", records[0].digest, records[1].digest]
    assert records[2].newest.claim == 2
    assert store.names("log") == ["0000000000.json", "0000000001.json", "0000000002.json"]
    plain = json.loads(store.read("log/0000000001.json"))
    assert plain["format"] == 1 and plain["previous"] == digest(store.read("log/0000000000.json"))


def test_head_is_found_past_what_the_hint_knows(home: RunHome) -> None:
    writer = start(home)
    first = save(writer, 1)
    second = save(writer, 2)
    home.store.write(LAST, first.data)
    assert home.log.head().number == second.number
    home.store.write(LAST, b"no record at all")
    assert home.log.head().number == second.number


class Listed(Log):
    """The slow way to the end of the log: all of it is listed, each time."""

    def _newest_copied(self) -> None:
        return None


@pytest.mark.parametrize("seed", range(12))
def test_head_is_what_a_listing_of_all_of_it_gives(home: RunHome, seed: int) -> None:
    """Whatever is lost or changed in the log, and whatever last.ckpt is a copy of."""
    chance, commits = random.Random(seed), []
    for step in range(4):
        writer = start(home)
        commits += [save(writer, 2 * step + 1), save(writer, 2 * step + 2)]
    for _ in range(chance.randrange(4)):
        claim(home, owner="me")
    last = home.log.numbers()[-1]
    assert home.log.head() == Listed(home.store).head() and home.log.head().number == last
    copies = [commit.data for commit in commits] + [b"", b"{}", flip(commits[-1].data)]
    for _ in range(6):
        name = record_name(chance.randrange(last + 1))
        if home.store.exists(name):
            spoil(home, name, chance.choice([flip, lambda _: None, lambda data: data[:-1]]))
        home.store.write(LAST, chance.choice(copies))
        assert home.log.head() == Listed(home.store).head()


def test_a_hole_behind_the_newest_commit_does_not_end_the_log(home: RunHome) -> None:
    save(start(home), 1)
    for _ in range(5):
        claim(home, owner="me")
    last = home.log.head()
    for number in (last.number - 1, last.number - 3, last.number - 2):
        home.store.delete(record_name(number))
        assert home.log.head().number == last.number
    # Or the next attempt would write into it.
    writer = claim(home, owner="me")
    assert writer and writer.handoff()["number"] == last.number + 1


def test_lost_race_is_superseded(store: Store) -> None:
    log = Log(store)
    head = _fill(log, 1)
    log.append(head, kind="claim", attempt=2, body={**BODY, "owner": "other"})
    with pytest.raises(Superseded, match="attempt 2 of owner other"):
        log.append(head, kind="commit", attempt=1, body={})
    assert len(log.records()) == 2


class LostAnswers(Store):
    """A store that does what it is asked, while the answer to `create` gets lost on the way."""

    def __init__(self, uri: str, answer: bool | Exception) -> None:
        super().__init__(uri)
        self.answer = answer

    def create(self, name: str, data: bytes) -> bool:
        super().create(name, data)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class ReadTimeoutError(Exception):
    """As object store clients have it: of no family that this project knows."""


LOST = {
    "timeout": TimeoutError("the answer did not come"),
    "the client's own kind": ReadTimeoutError("the answer did not come"),
    "refused by our own first try": False,
}


@pytest.mark.parametrize("answer", LOST.values(), ids=LOST)
def test_lost_acknowledgement_is_success(store: Store, answer: bool | Exception) -> None:
    log = Log(LostAnswers(store.uri, answer))
    head = _fill(log, 2)
    assert head.number == 1
    assert len(Log(store).records()) == 2


def test_failed_write_is_an_error_and_leaves_nothing(store: Store) -> None:
    class Failing(Store):
        def create(self, name: str, data: bytes) -> bool:
            raise TimeoutError("down")

    with pytest.raises(TimeoutError):
        _fill(Log(Failing(store.uri)), 1)
    assert Log(store).head() == Head()


def test_any_flipped_bit_of_the_newest_record_is_found(local: RunHome) -> None:
    record = save(start(local), 7, score=0.5)
    for bit in range(len(record.data) * 8):
        data = bytearray(record.data)
        data[bit // 8] ^= 1 << bit % 8
        try:
            found = decode(record.number, bytes(data))
        except Damaged:
            continue
        # A flip that JSON does not see (1e-05 for 1E-05) changes no value.
        assert replace(found, data=b"", digest="") == replace(record, data=b"", digest="")


def test_replaced_record_breaks_the_chain(home: RunHome) -> None:
    log = home.log
    _fill(log, 3)
    forged = json.loads(home.store.read(record_name(1)))
    del forged["check"]
    forged["owner"] = "somebody else"
    home.store.write(record_name(1), canonical({**forged, "check": digest(canonical(forged))}))
    assert log.read(1).body["owner"] == "somebody else"
    with pytest.raises(Damaged, match=r"0000000001\.json: the chain breaks"):
        log.records()


def test_record_of_another_history_is_out_of_place(home: RunHome) -> None:
    _fill(home.log, 3)
    other = Log(home.store.sub("other"))
    _fill(other, 3)
    for number in (1, 2):
        own = home.store.read(record_name(number))
        home.store.write(record_name(number), other.read(number).data)
        with pytest.raises(Damaged, match="of another history"):
            home.log.chain(2).read(number)
        # Who stands before it is not blamed for it, where that can be told.
        home.log.chain(2).read(0)
        home.store.write(record_name(number), own)


def test_gap_in_the_log_is_found(home: RunHome) -> None:
    _fill(home.log, 3)
    home.store.delete(record_name(1))
    assert home.log.head().number == 2
    problems = [str(found) for found in home.log.scan() if isinstance(found, Damaged)]
    assert problems[0] == "log/0000000001.json: missing"


def test_log_goes_on_behind_an_unreadable_record(home: RunHome) -> None:
    writer = start(home)
    good = save(writer, 1)
    bad = save(writer, 2)
    spoil(home, record_name(bad.number), flip)
    head = home.log.head()
    assert (head.number, head.newest.commit, len(head.unreadable)) == (bad.number, good.number, 1)
    again = start(home)
    assert save(again, 2).number == bad.number + 2


class Noted(Log):
    """Notes which records are read from the store."""

    def __init__(self, home: Store) -> None:
        super().__init__(home)
        self.read_there: list[int] = []

    def _bytes(self, number: int) -> bytes:
        self.read_there.append(number)
        return super()._bytes(number)


def test_a_start_reads_no_record_twice(store: Store) -> None:
    _fill(Log(store), 4)
    log, other = Noted(store), Noted(store)
    log.remember()
    for _ in range(3):
        assert log.records() == Log(store).records()
    assert sorted(log.read_there) == [0, 1, 2, 3]
    other.remember(log.remembered())
    assert [other.read(number) for number in range(4)] == log.records()
    assert other.read_there == [], "another process of this start reads none of them"


def test_what_is_remembered_is_checked_and_the_end_is_looked_for(store: Store) -> None:
    log = Log(store)
    head = _fill(log, 3)
    log.remember()
    log.records()
    Log(store).append(head, kind="claim", attempt=4, body=BODY)
    assert log.head().number == 3, "somebody else's record is seen"
    spoilt = {"1": log.remembered()["1"].replace('"me"', '"us"')}
    with pytest.raises(Damaged, match="content has changed"):
        Log(store).remember(spoilt)
    store.write(record_name(1), b"{}")
    assert log.read(1).number == 1
    log.forget()
    with pytest.raises(Damaged, match="not a log record"):
        log.read(1)
