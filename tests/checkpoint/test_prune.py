"""`carryover checkpoint prune`: fewer commits stay, nothing that is kept is harmed, a living attempt is left alone."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from carryover.checkpoint import prune as module
from carryover.checkpoint.claims import claim
from carryover.checkpoint.heartbeat import Beat, write_beat
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import OBJECTS, Damaged
from carryover.checkpoint.prune import plan, prune
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.verify import verify
from carryover.cli.main import main
from carryover.ground.errors import RunAgain, Superseded, WrongInput
from carryover.ground.storage import TEMPORARY
from tests.checkpoint.support import content, end, flip, own_pack, plain, save, spoil, start, tensors_of
from tests.train.attempts import Killed, Run, dataset

ROOT = Path(__file__).parents[2]
ALL = Keep(last=9, best=0)
ONE = Keep(last=1, best=0)


def _prune(home: RunHome, keep: Keep = ONE) -> None:
    prune(home, keep, patience=0.1, on_wait=lambda text: None)


def test_what_is_not_asked_for_goes_and_the_rest_is_whole(home: RunHome) -> None:
    writer = start(home)
    records = [save(writer, step, score=score, keep=ALL) for step, score in enumerate((0.1, 0.9, 0.2, 0.3), 1)]
    found = plan(home, Keep(last=1, best=1))
    assert found.kept == (records[1].number, records[3].number)
    assert found.dropped == (records[0].number, records[2].number) and found.bytes > 0
    _prune(home, Keep(last=1, best=1))
    again = home.commits()[-1]
    assert again.kept == (records[1].number, again.number)
    assert set(home.objects.names()) == {ref.digest for record in home.commits() for ref in record.objects}
    assert content(home.load_newest(pytest.fail)) == plain(tensors_of(4))
    assert content(home.load(records[1])) == plain(tensors_of(2))
    assert verify(home).problems == ()
    assert plan(home, Keep(last=1, best=1)).empty


def test_a_finish_and_what_was_resumed_from_stay(local: RunHome) -> None:
    source = save(start(local), 1)
    writer = start(local)
    for step in (2, 3, 4):
        save(writer, step, keep=ALL)
    finish = end(writer, 3)
    for _ in range(2):
        _prune(local)
        assert local.commits()[0] == source and local.commits()[-1].step == 4
    assert len(local.commits()) == 2
    assert local.read_tensors(finish) and local.finish_record() == finish
    assert verify(local).problems == ()


def test_what_saves_that_were_cut_short_left_goes(local: RunHome) -> None:
    save(start(local), 1)
    stray = local.objects.put(b"left by a save that was cut short")
    assert local.store.local
    (local.store.local / OBJECTS / f"{TEMPORARY}1").write_bytes(b"half")
    found = plan(local, ONE)
    assert (found.objects, found.unfinished) == ((stray.digest,), 1)
    _prune(local)
    assert plan(local, ONE).empty and stray.digest not in local.objects.names()


def test_its_owner_goes_on_and_a_zombie_can_not(local: RunHome) -> None:
    zombie = start(local, "job")
    save(zombie, 1)
    write_beat(local.store, attempt=zombie.attempt, count=3, step=7)
    _prune(local)
    with pytest.raises(Superseded):
        save(zombie, 2)
    again = claim(local, owner="job", on_wait=pytest.fail)
    last = local.latest_claim()
    assert again and last and last.body["heartbeat_step"] == 7, "it still learns how far the last attempt came"


def test_a_living_attempt_is_left_alone(local: RunHome) -> None:
    writer = start(local)
    for step in (1, 2, 3):
        save(writer, step)
    before = local.log.numbers()
    with (
        Beat(local.store, attempt=writer.attempt, step=lambda: 3, interval=0.1),
        pytest.raises(RunAgain, match="it prunes by itself") as refused,
    ):
        prune(local, ONE, patience=5, on_wait=lambda text: None)
    assert local.log.numbers() == before and refused.value.trouble == "busy"
    thread = threading.Timer(0.2, lambda: save(writer, 4))
    thread.start()
    with pytest.raises(RunAgain):
        prune(local, ONE, patience=5, on_wait=lambda text: None)
    thread.join()


def test_an_attempt_that_starts_meanwhile_wins(local: RunHome, monkeypatch: pytest.MonkeyPatch) -> None:
    save(start(local, "job"), 1)
    save(writer := start(local, "job"), 2, keep=ALL)
    real = module._claim

    def overtaken(home: RunHome, last: object, head: object) -> object:
        start(local, "job")
        return real(home, last, head)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(module, "_claim", overtaken)
    with pytest.raises(RunAgain, match="an attempt has started"):
        _prune(local)
    assert len(local.commits()) == 2 and verify(local).problems == ()
    with pytest.raises(Superseded):
        save(writer, 3)


def test_a_run_whose_newest_is_damaged_is_not_pruned(local: RunHome) -> None:
    writer = start(local)
    older, newer = save(writer, 1), save(writer, 2)
    spoil(local, own_pack(local, newer, older), flip)
    before = local.objects.names()
    with pytest.raises(Damaged, match="does not verify; nothing is removed"):
        _prune(local)
    assert local.objects.names() == before
    finish = end(start(local), 1)
    spoil(local, f"log/{finish.number:010d}.json", flip)
    with pytest.raises(Damaged):
        _prune(local)


def test_nothing_to_prune(local: RunHome) -> None:
    for look in (lambda: plan(local, ONE), lambda: _prune(local)):
        with pytest.raises(WrongInput, match="no checkpoint yet"):
            look()


def test_a_training_goes_on_from_a_pruned_run_with_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = dataset(tmp_path / "data")
    runs = [Run(card, str(tmp_path / name), {"checkpoint.keep_last": 5}, tmp_path) for name in ("straight", "pruned")]
    runs[0].go()
    with pytest.raises(Killed):
        runs[1].go(kill_after=14)
    home = runs[1].home
    # What the Model would be made of stays, whatever is asked for.
    commits = home.commits()
    top = {step for _, step in commits[-1].state["top"]}
    stay = tuple(record.number for record in commits if record.step in top or record is commits[-1])
    assert len(stay) < len(commits)
    main(["checkpoint", "prune", home.store.uri, "--keep-last", "1", "--keep-best", "0", "--dry-run"])
    assert f"keeps commits {', '.join(map(str, stay))}\n" in capsys.readouterr().out
    # Without it the Model would be made of other weights.
    assert plan(home, ONE).kept == stay
    _prune(home, ONE)
    runs[1].go()
    assert runs[1].tensors() == runs[0].tensors()
    assert runs[1].finish().body["model"] == runs[0].finish().body["model"]


PROGRAM = """
import sys
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.retention import Keep
from tests.checkpoint.support import save, start
writer = start(RunHome.at(sys.argv[1]), "killed")
for step in (1, 2, 3, 4):
    save(writer, step, score=1 / step, keep=Keep(last=9))
"""


def _command(*arguments: str) -> int:
    try:
        main(["checkpoint", "prune", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command(local: RunHome, capsys: pytest.CaptureFixture[str]) -> None:
    """Over a run whose attempt is dead, as this machine can see."""
    subprocess.run([sys.executable, "-c", PROGRAM, local.store.uri], cwd=ROOT, env=dict(os.environ), check=True)
    uri, before = local.store.uri, local.store.walk()
    assert _command(uri, "--keep-last", "2", "--keep-best", "0", "--dry-run") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == uri and said[1] == "keeps commits 3, 4"
    assert said[2].startswith("would remove commits 1, 2: 5 objects, ")
    assert local.store.walk() == before, "a dry run changes nothing"
    began = time.monotonic()
    assert _command(uri, "--keep-last", "2", "--keep-best", "0") == 0
    assert time.monotonic() - began < 10, "nobody waits for a process that is known to be dead"
    assert capsys.readouterr().out.splitlines()[3] == "record 6: commits 3, 6 are kept from now on"
    assert _command(uri, "--keep-last", "2", "--keep-best", "0") == 0
    assert capsys.readouterr().out.splitlines()[2] == "nothing to remove"
    assert _command(uri) == 2
    assert "its commits don't say which scores are better; give --keep-best 0" in capsys.readouterr().err
    assert _command(uri, "--keep-last", "0") == 2
