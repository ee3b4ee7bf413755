"""A run on a real S3 server: the same promises where a folder is only a prefix and a create is a conditional PUT."""

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import object_name, record_name
from carryover.checkpoint.log import Log
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.verify import verify
from carryover.ground.errors import CarryoverError, Superseded
from tests.checkpoint.support import content, end, flip, own_pack, plain, save, spoil, start, stored_bytes, tensors_of
from tests.checkpoint.test_log import LOST, LostAnswers


def test_run_from_start_to_finish(s3_home: RunHome) -> None:
    writer = start(s3_home)
    records = [save(writer, step, score=1 / step, keep=Keep(last=1, best=1)) for step in (1, 2, 3)]
    assert records[-1].kept == (records[0].number, records[2].number)
    assert set(s3_home.objects.names()) == {ref.digest for record in s3_home.commits() for ref in record.objects}
    again = start(s3_home)
    assert again.resumed_from == records[2].number
    before = stored_bytes(s3_home)
    save(again, 4, keep=Keep(last=2, best=1))
    assert stored_bytes(s3_home) - before < 2500, "the backbone of 4000 bytes is there already"
    with pytest.raises(Superseded):
        save(writer, 4)
    end(again, 4)
    assert content(s3_home.load_newest(pytest.fail)) == plain(tensors_of(4))
    finish = s3_home.finish_record()
    assert finish and s3_home.read_files(finish)["tokenizer/vocab.txt"] == b"a\nb\n"
    assert verify(s3_home).problems == ()


def test_damage_falls_back_and_then_refuses(s3_home: RunHome) -> None:
    writer = start(s3_home)
    older, newer = save(writer, 1), save(writer, 2)
    spoil(s3_home, own_pack(s3_home, newer, older), flip)
    reports: list[str] = []
    loaded = s3_home.load_newest(reports.append)
    assert loaded and loaded.record == older and "content has changed" in reports[0]
    s3_home.store.delete(object_name(newer.table.digest))
    s3_home.store.write(record_name(newer.number), b"")
    loaded = s3_home.load_newest(reports.append)
    assert loaded and content(loaded) == plain(tensors_of(1)) and "not a log record" in reports[-1]
    s3_home.store.write(object_name(older.table.digest), s3_home.store.read(object_name(older.table.digest))[:-1])
    with pytest.raises(CarryoverError, match="none of them verifies"):
        s3_home.load_newest(reports.append)


@pytest.mark.parametrize("answer", LOST.values(), ids=LOST)
def test_lost_acknowledgement_is_success(s3_home: RunHome, answer: bool | Exception) -> None:
    log = Log(LostAnswers(s3_home.store.uri, answer))
    record = log.append(log.head(), kind="claim", attempt=1, body={"owner": "me"})
    assert s3_home.log.records() == [record]


def test_claim_of_another_process_wins_one_number_once(s3_home: RunHome) -> None:
    head = s3_home.log.head()
    won = s3_home.log.append(head, kind="claim", attempt=1, body={"owner": "first"})
    with pytest.raises(Superseded, match="attempt 1 of owner first"):
        s3_home.log.append(head, kind="claim", attempt=1, body={"owner": "second"})
    assert s3_home.log.records() == [won]
