"""A run from its first start to its finish, on every kind of store."""

import json
import shutil
from pathlib import Path

import pytest

from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import LAST, Damaged, object_name
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.verify import verify
from carryover.checkpoint.writer import Writer
from carryover.ground.errors import CarryoverError, WrongInput
from carryover.ground.storage import Store, open_store
from tests.checkpoint.support import content, end, numbers, plain, save, start, stored_bytes, tensors_of


def test_first_start_finds_nothing(home: RunHome) -> None:
    assert home.load_newest() is None
    assert home.finish_record() is None
    assert home.latest_claim() is None
    assert home.commits() == []


def test_what_a_run_is_stays_as_first_said(home: RunHome) -> None:
    assert home.start({"recipe": {"seed": 2}}) == {"recipe": {"seed": 1}}


def test_commit_comes_back_in_another_process(home: RunHome, store: Store) -> None:
    record = save(start(home), 12, score=0.25)
    loaded = RunHome.open(store, "key").load_newest()
    assert content(loaded) == plain(tensors_of(12))
    assert loaded and loaded.record == record
    assert (record.step, record.epoch, record.score, record.state) == (12, 1, 0.25, {"step": 12, "position": 96})
    assert loaded.tensors("optim/").keys() == {"optim/head/exp_avg"}
    assert loaded.files == {"preprocessors/words.json": b'["a"]'}
    assert home.store.read(LAST) == record.data
    assert verify(home).problems == ()


def test_claim_says_what_it_goes_on_from(home: RunHome) -> None:
    claimed = claim(home, owner="me", changes={"optimization.learning_rate": 0.1})
    assert claimed and claimed.resumed_from is None
    writer = Writer.resume(home, json.loads(json.dumps(claimed.handoff())), None)
    commit = save(writer, 3)
    again = claim(home, owner="me", changes={"optimization.max_epochs": 4})
    assert again and again.attempt == 2 and again.resumed_from == commit.number
    last = home.latest_claim()
    assert last and last.body["changes"] == {"optimization.learning_rate": 0.1, "optimization.max_epochs": 4}
    resumed = Writer.resume(home, again.handoff(), home.load_newest())
    assert save(resumed, 4).body["parent"] == commit.number


def test_unchanged_tensors_are_not_written_again(home: RunHome) -> None:
    writer = start(home)
    keep = Keep(last=10)
    save(writer, 1, keep=keep)
    before = stored_bytes(home)
    save(writer, 2, keep=keep)
    added = stored_bytes(home) - before
    assert added < 2500 < 4000 < before, "the backbone has 4000 bytes and must not be among what was added"
    # Nor by an attempt that has loaded them.
    before = stored_bytes(home)
    save(start(home), 3, keep=keep)
    assert stored_bytes(home) - before < 2500


def test_best_and_last_of_one_step_share_all(home: RunHome) -> None:
    writer = start(home)
    one = save(writer, 1, score=0.9)
    two = save(writer, 1, score=0.9)
    assert set(two.objects) == set(one.objects)
    before = stored_bytes(home)
    finish = end(writer, 1)
    own = set(finish.objects) - set(two.objects)
    assert stored_bytes(home) - before == sum(ref.size for ref in own)
    assert {ref.digest for ref in own} == {finish.table.digest, finish.files["tokenizer/vocab.txt"].digest}


def test_nan_is_no_score(home: RunHome) -> None:
    assert save(start(home), 1, score=float("nan")).score is None


def test_finished_run_gives_everything_from_the_finish_record_alone(home: RunHome) -> None:
    writer = start(home)
    save(writer, 5)
    end(writer, 5)
    finish = home.finish_record()
    assert finish is not None
    needed = {object_name(ref.digest) for ref in finish.objects}
    for name in home.objects.names():
        if object_name(name) not in needed:
            home.objects.delete(name)
    weights = {name: raw for name, raw in tensors_of(5).items() if name.startswith("model/")}
    assert plain(home.read_tensors(finish)) == plain(weights)
    assert home.read_files(finish) == {"preprocessors/words.json": b'["a"]', "tokenizer/vocab.txt": b"a\nb\n"}
    assert finish.body["metrics"] == {"accuracy": 0.5}
    assert home.load(finish).record == finish


def test_continued_run_keeps_both_finishes(home: RunHome) -> None:
    first = start(home)
    save(first, 5)
    end(first, 5)
    second = start(home, owner="tomorrow")
    for step in (6, 7, 8, 9):
        save(second, step, keep=Keep(last=1, best=0))
    end(second, 9)
    assert [finish.step for finish in home.finish_records()] == [5, 9]
    assert all(home.read_files(finish) for finish in home.finish_records())
    assert verify(home).problems == ()


def test_run_copied_elsewhere_opens_and_goes_on(local: RunHome, tmp_path: Path) -> None:
    save(start(local), 4)
    assert local.store.local is not None
    shutil.copytree(local.store.local, tmp_path / "other" / "runs" / "renamed")
    shutil.rmtree(tmp_path / "store")
    moved = RunHome.open(open_store(str(tmp_path / "other")), "renamed")
    assert content(moved.load_newest()) == plain(tensors_of(4))
    assert save(start(moved), 5).step == 5
    assert verify(moved).problems == ()


def test_wrong_place_and_wrong_key_say_what_would_be_right(local: RunHome, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="runs key: name one by --run-key"):
        RunHome.at(str(tmp_path / "store"))
    with pytest.raises(WrongInput, match="no run there"):
        RunHome.at(str(tmp_path / "nothing"))
    with pytest.raises(WrongInput, match=r"run key '\.\./x'"):
        RunHome.open(open_store(str(tmp_path)), "../x")
    assert RunHome.at(local.store.uri).run() == {"recipe": {"seed": 1}}


def test_unreadable_run_json_is_said(local: RunHome) -> None:
    local.store.write("run.json", b"{")
    with pytest.raises(Damaged, match=r"run\.json"):
        local.start({})


def test_writer_does_not_start_from_zero_beside_commits(local: RunHome) -> None:
    save(start(local), 1)
    claimed = claim(local, owner="me")
    assert claimed
    with pytest.raises(CarryoverError, match="not from zero"):
        Writer.resume(local, claimed.handoff(), None)


def test_attempts_without_a_commit_are_counted(local: RunHome) -> None:
    assert local.fruitless_attempts("me") == 0
    start(local)
    start(local)
    assert local.fruitless_attempts("me") == 2
    assert local.fruitless_attempts("other") == 0
    save(start(local), 1)
    assert local.fruitless_attempts("me") == 0
    start(local)
    assert local.fruitless_attempts("me") == 1


def test_state_that_json_lacks_is_refused_before_anything_is_visible(local: RunHome) -> None:
    writer = start(local)
    with pytest.raises(ValueError, match="JSON"):
        writer.commit(step=1, epoch=0, tensors={"model/a": numbers(1)}, state={"loss": float("nan")})
    assert local.commits() == []
