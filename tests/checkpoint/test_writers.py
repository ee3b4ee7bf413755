"""Two who want one run: who gets it, who waits, who must stop."""

import os
import subprocess
import sys
import threading
import time

import pytest

from carryover.checkpoint import owners
from carryover.checkpoint.claims import claim
from carryover.checkpoint.heartbeat import Beat, Watch, read_beat, write_beat
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.verify import verify
from carryover.checkpoint.writer import Writer
from carryover.ground.errors import Superseded
from tests.checkpoint.support import content, end, plain, save, start, tensors_of


def test_same_owner_supersedes_its_older_attempt_at_once(home: RunHome) -> None:
    older = start(home, "job-1")
    save(older, 1)
    newer = start(home, "job-1")
    with pytest.raises(Superseded, match="attempt 2 of owner job-1"):
        save(older, 2)
    assert content(home.load_newest()) == plain(tensors_of(1))
    assert save(newer, 2).attempt == 2
    assert len(home.log.records()) == 4


def test_zombie_between_record_and_prune_leaves_its_successor_alone(local: RunHome) -> None:
    zombie = start(local, "job-1")
    save(zombie, 1)
    record = save(zombie, 2)
    successor = start(local, "job-1")
    assert successor.resumed_from == record.number
    with pytest.raises(Superseded):
        save(zombie, 3, keep=Keep(last=1, best=0))
    save(successor, 3)
    assert verify(local).problems == ()


def test_rank_that_starts_after_a_takeover_stops_before_it_writes(local: RunHome) -> None:
    claimed = claim(local, owner="a")
    assert claimed
    assert claim(local, owner="b", takeover=True)
    with pytest.raises(Superseded):
        Writer.resume(local, claimed.handoff(), local.load_newest())


def test_superseded_owner_never_reclaims_by_itself(local: RunHome) -> None:
    start(local, "a")
    start(local, "b", takeover=True)
    with pytest.raises(Superseded, match="owner b took this run over from a"):
        claim(local, owner="a")
    back = claim(local, owner="a", takeover=True)
    assert back and back.attempt == 3
    with pytest.raises(Superseded, match="owner a took this run over from b"):
        claim(local, owner="b")


def test_finish_ends_all_claims(local: RunHome) -> None:
    start(local, "a")
    end(start(local, "b", takeover=True), 1)
    assert start(local, "a").attempt == 3
    end(start(local, "a"), 2)
    assert start(local, "c").attempt == 5


def test_dead_process_of_this_machine_is_no_owner_any_more(local: RunHome) -> None:
    program = (
        "import sys; from carryover.checkpoint import RunHome; from carryover.checkpoint.claims import claim\n"
        "home = RunHome.at(sys.argv[1])\n"
        "assert claim(home); print(home.latest_claim().body['owner'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, local.store.uri], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.strip().startswith("local:")
    began = time.monotonic()
    assert claim(local, on_wait=pytest.fail)
    assert time.monotonic() - began < 5
    last = local.latest_claim()
    assert last and last.body["owner"] == owners.local_owner() and str(os.getpid()) in last.body["owner"]
    assert not owners.is_dead(last.body)


def _claim_from_elsewhere(home: RunHome, owner: str) -> Writer:
    """Claim as a process of another machine does, which can't be looked at from here."""
    claimed = claim(home, owner=owner)
    assert claimed
    record = home.latest_claim()
    assert record
    body = {**record.body, "host": "another-machine", "owner": owner}
    again = home.log.append(home.log.head(), kind="claim", attempt=record.attempt + 1, body=body)
    write_beat(home.store, attempt=again.attempt, count=0, step=None)
    return Writer(home, head=home.log.head().after(again), attempt=again.attempt, resumed_from=None)


def test_silent_owner_is_taken_over_after_patience(home: RunHome) -> None:
    silent = _claim_from_elsewhere(home, "other")
    write_beat(home.store, attempt=silent.attempt, count=9, step=77)
    said: list[str] = []
    began = time.monotonic()
    claimed = claim(home, owner="me", patience=0.6, on_wait=said.append)
    assert claimed and time.monotonic() - began >= 0.6
    assert len(said) == 1 and "another-machine" in said[0]
    last = home.latest_claim()
    assert last and last.body["heartbeat_step"] == 77 and last.body["superseded"] == ["other"]
    with pytest.raises(Superseded):
        silent.commit(step=1, epoch=0, tensors=tensors_of(1), state={})


def test_living_owner_is_waited_for_until_it_finishes(home: RunHome) -> None:
    living = _claim_from_elsewhere(home, "other")

    def work() -> None:
        with Beat(home.store, attempt=living.attempt, step=lambda: 5, interval=0.1):
            time.sleep(1.5)
            end(living, 5)

    worker = threading.Thread(target=work)
    worker.start()
    assert claim(home, owner="me", patience=1.0, on_wait=lambda text: None) is None
    worker.join()
    assert home.finish_record()
    assert claim(home, owner="me") is not None, "a finished run may be continued by anybody"


def test_commits_are_a_sign_of_life_too(local: RunHome) -> None:
    living = _claim_from_elsewhere(local, "other")

    def work() -> None:
        for step in range(1, 6):
            time.sleep(0.25)
            save(living, step)
        end(living, 5)

    worker = threading.Thread(target=work)
    worker.start()
    assert claim(local, owner="me", patience=1.0, on_wait=lambda text: None) is None
    worker.join()


def test_starts_at_once_make_one_history(home: RunHome) -> None:
    starts = 5 if home.store.scheme == "s3" else 16
    barrier = threading.Barrier(starts)
    writers: list[Writer] = []
    outcomes: list[str] = []

    def begin(number: int) -> None:
        barrier.wait()
        try:
            writer = claim(home, owner=f"job-{number}", takeover=True)
            assert writer
            writers.append(writer)
            time.sleep(0.5)
            save(Writer.resume(home, writer.handoff(), home.load_newest()), number)
            outcomes.append("saved")
        except Superseded:
            outcomes.append("superseded")

    threads = [threading.Thread(target=begin, args=(i,)) for i in range(starts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == starts
    assert outcomes.count("saved") >= 1
    records = home.log.records()
    assert sorted({record.attempt for record in records}) == list(range(1, len(writers) + 1))
    newest = home.load_newest(pytest.fail)
    assert newest and newest.record.number == max(record.number for record in records if record.kind == "commit")


def test_beat_moves_on_and_stops_when_superseded(local: RunHome) -> None:
    watch = Watch(local.store, attempt=1, patience=0.5)
    claim(local, owner="me")
    with Beat(local.store, attempt=1, step=lambda: 3, interval=0.05) as beat:
        time.sleep(0.7)
        assert watch.alive()
        assert read_beat(local.store)["step"] == 3
        # The second claim beats once by itself.
        claim(local, owner="me")
        deadline = time.monotonic() + 30
        while not beat.superseded and time.monotonic() < deadline:
            time.sleep(0.01)
        assert beat.superseded
    assert read_beat(local.store)["attempt"] == 2, "a superseded attempt leaves the heartbeat alone at its end too"
    time.sleep(0.5)
    assert not watch.alive(), "beats of another attempt are no sign of life of this one"


def test_last_beat_says_how_far_an_attempt_came(local: RunHome) -> None:
    claimed = claim(local, owner="me")
    assert claimed
    step = 0
    with Beat(local.store, attempt=claimed.attempt, step=lambda: step, interval=60):
        time.sleep(0.1)
        step = 41
    assert claim(local, owner="me")
    last = local.latest_claim()
    assert last and last.body["heartbeat_step"] == 41
