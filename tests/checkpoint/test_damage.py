"""Damaged checkpoints: always found, always reported, the next older good one is used, and never zero instead."""

import random
from collections.abc import Callable

import pytest

from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import LAST, Damaged, object_name, record_name
from carryover.checkpoint.log import Record
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.verify import verify
from carryover.ground.errors import CarryoverError
from tests.checkpoint.support import content, end, flip, own_pack, plain, save, spoil, start, tensors_of

Spoil = Callable[[RunHome, Record, Record], None]


def _spoil_pack(change: Callable[[bytes], bytes | None]) -> Spoil:
    return lambda home, newer, older: spoil(home, own_pack(home, newer, older), change)


def _spoil_table(change: Callable[[bytes], bytes | None]) -> Spoil:
    return lambda home, newer, older: spoil(home, object_name(newer.table.digest), change)


def _spoil_record(change: Callable[[bytes], bytes | None]) -> Spoil:
    return lambda home, newer, older: spoil(home, record_name(newer.number), change)


def _table_of_another_commit(home: RunHome, newer: Record, older: Record) -> None:
    home.store.write(object_name(newer.table.digest), home.objects.get(older.table))


def _pack_of_another_commit(home: RunHome, newer: Record, older: Record) -> None:
    home.store.write(own_pack(home, newer, older), home.store.read(own_pack(home, older, newer)))


def _file_gone(home: RunHome, newer: Record, older: Record) -> None:
    # Its file stands in older commits too; a commit that has another one is spoilt alone.
    spoil(home, object_name(newer.files["own.txt"].digest), lambda data: None)


DAMAGE: dict[str, Spoil] = {
    "pack: flipped bit": _spoil_pack(flip),
    "pack: truncated": _spoil_pack(lambda data: data[:-1]),
    "pack: a hole": _spoil_pack(lambda data: data[:16] + bytes(len(data) - 16)),
    "pack: empty": _spoil_pack(lambda data: b""),
    "pack: missing": _spoil_pack(lambda data: None),
    "pack: of another commit": _pack_of_another_commit,
    "table: flipped bit": _spoil_table(flip),
    "table: truncated": _spoil_table(lambda data: data[:-1]),
    "table: missing": _spoil_table(lambda data: None),
    "table: of another commit": _table_of_another_commit,
    "record: flipped bit": _spoil_record(flip),
    "record: truncated": _spoil_record(lambda data: data[:-1]),
    "record: empty": _spoil_record(lambda data: b""),
    "record: not JSON": _spoil_record(lambda data: b"\xff\x00"),
    "record: a JSON list": _spoil_record(lambda data: b"[1]"),
    "file: missing": _file_gone,
}


def _two_commits(home: RunHome) -> tuple[Record, Record]:
    writer = start(home)
    older = save(writer, 10)
    newer = writer.commit(step=20, epoch=2, tensors=tensors_of(20), state={}, files={"own.txt": b"of step 20"})
    assert content(home.load_newest()) == plain(tensors_of(20))
    return older, newer


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_newest_is_reported_and_the_older_one_is_used(home: RunHome, what: str) -> None:
    older, newer = _two_commits(home)
    DAMAGE[what](home, newer, older)
    reports: list[str] = []
    loaded = home.load_newest(reports.append)
    assert loaded and loaded.record == older
    assert content(loaded) == plain(tensors_of(10))
    assert len(reports) >= 1 and all(home.store.uri in report for report in reports)
    assert verify(home).problems


@pytest.mark.parametrize("what", DAMAGE)
def test_training_goes_on_from_the_older_one(local: RunHome, what: str) -> None:
    older, newer = _two_commits(local)
    DAMAGE[what](local, newer, older)
    claimed_again = start(local)
    assert claimed_again.resumed_from == older.number
    third = save(claimed_again, 20, keep=Keep(last=2))
    assert third.kept == (older.number, third.number), "what can't be loaded is not worth keeping"
    assert third.body["parent"] == older.number
    assert content(local.load_newest(pytest.fail)) == plain(tensors_of(20))
    wrong = [problem for problem in verify(local).problems if f"{newer.number:010d}" not in problem]
    assert [problem for problem in wrong if not problem.startswith("last.ckpt")] == []


def test_damaged_commit_under_an_intact_claim_is_found_before_anything_starts(local: RunHome) -> None:
    older, newer = _two_commits(local)
    spoil(local, own_pack(local, newer, older), lambda data: data[:-1])
    claimed = claim(local, owner="me")
    assert claimed and claimed.resumed_from == older.number


@pytest.mark.parametrize("where", ["records", "packs", "tables"])
def test_no_good_one_left_refuses(home: RunHome, where: str) -> None:
    for record in _two_commits(home):
        names = {
            "records": [record_name(record.number)],
            "packs": [object_name(ref.digest) for ref in home.objects.load_table(record.table).packs],
            "tables": [object_name(record.table.digest)],
        }[where]
        for name in names:
            home.store.write(name, b"")
        # Each is made empty once, and a table is read no more after that.
        if where != "records":
            break
    if where != "records":
        newest = home.log.read(home.log.head().newest.commit or 0)
        home.store.write(object_name(newest.table.digest), b"")
    with pytest.raises(CarryoverError, match="none of them verifies") as refusal:
        home.load_newest(lambda report: None)
    assert home.store.uri in str(refusal.value)
    with pytest.raises(CarryoverError, match="none of them verifies"):
        claim(home, owner="me")


def test_history_that_cannot_be_read_at_all_refuses(local: RunHome) -> None:
    start(local)
    spoil(local, record_name(0), lambda data: b"")
    with pytest.raises(CarryoverError, match="none of them verifies"):
        local.load_newest(lambda report: None)


@pytest.mark.parametrize("followed", [False, True])
def test_record_of_another_history_is_not_believed(local: RunHome, followed: bool) -> None:
    older, newer = _two_commits(local)
    if followed:
        start(local)
    # Of a run with the same objects, so that only the links can tell.
    other = RunHome(local.store.sub("elsewhere"))
    save(start(other), 10)
    foreign = other.log.append(other.log.head(), kind="commit", attempt=1, body={**newer.body, "epoch": 9})
    assert (foreign.number, set(foreign.objects)) == (newer.number, set(newer.objects))
    local.store.write(record_name(newer.number), foreign.data)
    reports: list[str] = []
    loaded = local.load_newest(reports.append)
    assert loaded and loaded.record == older
    assert "chain breaks" in reports[0]


def test_damaged_finish_is_reported_and_the_run_can_finish_again(local: RunHome, capsys: pytest.CaptureFixture) -> None:
    writer = start(local)
    save(writer, 5)
    spoil(local, record_name(end(writer, 5).number), flip)
    assert local.finish_record() is None
    assert content(local.load_newest(lambda report: None)) == plain(tensors_of(5))
    end(start(local), 5)
    finish = local.finish_record()
    assert finish and local.read_files(finish)


def test_unreadable_finish_stops_all_removal(local: RunHome, capsys: pytest.CaptureFixture) -> None:
    writer = start(local)
    save(writer, 5)
    finish = end(writer, 5)
    second = start(local)
    save(second, 6)
    spoil(local, record_name(finish.number), flip)
    third = start(local)
    assert "finish is unreadable" in capsys.readouterr().err
    for step in (7, 8, 9):
        save(third, step, keep=Keep(last=1, best=0))
    assert {ref.digest for ref in finish.objects} <= set(local.objects.names())


def test_spoilt_last_ckpt_harms_nobody_but_is_found(local: RunHome) -> None:
    _, newer = _two_commits(local)
    for data in (b"", b"{}", b'{"number": 9999999}', flip(newer.data)):
        local.store.write(LAST, data)
        loaded = local.load_newest(pytest.fail)
        assert loaded and loaded.record == newer
        assert [problem for problem in verify(local).problems if problem.startswith(LAST)]


def test_older_last_ckpt_is_what_a_kill_leaves(local: RunHome) -> None:
    older, newer = _two_commits(local)
    local.store.write(LAST, older.data)
    assert verify(local).problems == ()
    loaded = local.load_newest(pytest.fail)
    assert loaded and loaded.record == newer


@pytest.mark.parametrize("times", [300, pytest.param(1_000, marks=pytest.mark.slow)])
def test_random_damage_is_never_loaded(local: RunHome, times: int) -> None:
    """Whatever is done to whatever file, what is loaded is exactly what some commit saved."""
    _two_commits(local)
    saved = [plain(tensors_of(10)), plain(tensors_of(20))]
    names = [name for name in local.store.walk() if name not in ("heartbeat", "run.json")]
    original = {name: local.store.read(name) for name in names}
    chance = random.Random(7)
    for _ in range(times):
        name = chance.choice(names)
        data = bytearray(original[name])
        at = chance.randrange(len(data))
        kind = chance.choice(["flip", "cut", "hole", "swap"])
        if kind == "flip":
            data[at] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del data[at:]
        elif kind == "hole":
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        else:
            data[:] = original[chance.choice(names)]
        assert local.store.local is not None
        (local.store.local / name).write_bytes(data)
        try:
            loaded = local.load_newest(lambda report: None)
        except CarryoverError:
            loaded = None
        else:
            assert content(loaded) in saved
            assert loaded and (loaded.record.step == 20) == (content(loaded) == saved[1])
        (local.store.local / name).write_bytes(original[name])
    assert verify(local).problems == ()


def test_object_that_nobody_refers_to_is_hashed_too(local: RunHome) -> None:
    save(start(local), 1)
    stray = local.objects.put(b"left by a save that was cut short")
    assert verify(local).problems == ()
    spoil(local, object_name(stray.digest), flip)
    with pytest.raises(Damaged):
        local.objects.check(stray)
    assert len(verify(local).problems) == 1
