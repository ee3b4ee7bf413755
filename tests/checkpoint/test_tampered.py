"""Records with changed content, whole JSON and all: verify names the file, and no start believes it.

Their own digest is left as it was, or computed anew over the changed content: then their neighbours show it.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carryover.checkpoint.claims import claim
from carryover.checkpoint.heartbeat import Beat, read_beat, write_beat
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import HEARTBEAT, LAST, RUN, Damaged, record_name
from carryover.checkpoint.log import Record
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.verify import verify
from carryover.cli.main import main
from carryover.ground.digests import canonical, digest
from carryover.ground.storage import open_store
from tests.checkpoint.support import content, end, plain, save, start, tensors_of

Change = Callable[[dict[str, Any]], dict[str, Any]]
# claim 0, commit 1 and 2, finish 3, then a second attempt: claim 4, commit 5 and 6, finish 7, claim 8.
CLAIMS, COMMITS, FINISHES = (0, 4, 8), (1, 2, 5, 6), (3, 7)
KEEP = Keep(last=4, best=0)


def _setting(**values: Any) -> Change:
    return lambda record: {**record, **values}


def _newest(**values: int | None) -> Change:
    return lambda record: {**record, "newest": {**record["newest"], **values}}


def _table(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "table": {**record["table"], "digest": record["objects"][-1]["digest"]}}


# Every one is possible JSON for its record; in the newest record, too, they show by the numbers they go on from.
CHANGES: dict[str, tuple[tuple[int, ...], Change]] = {
    "claim: number": (CLAIMS, _setting(number=77)),
    "claim: attempt": (CLAIMS[1:], _setting(attempt=1)),
    "claim: newest": (CLAIMS[1:], _newest(commit=1)),
    "claim: newest commit gone": (CLAIMS[1:], _newest(commit=None)),
    "claim: kind": (CLAIMS[1:], _setting(kind="commit")),
    "claim: owner": (CLAIMS[:2], _setting(owner="somebody else")),
    "claim: changes": (CLAIMS[:2], _setting(changes={"seed": 9})),
    "claim: run": (CLAIMS[:2], _setting(run="0" * 64)),
    "commit: number": (COMMITS, _setting(number=1234)),
    "commit: attempt": (COMMITS, _setting(attempt=9)),
    "commit: previous": (COMMITS, _setting(previous="0" * 64)),
    "commit: newest": (COMMITS, _newest(claim=None)),
    "commit: a later newest": (COMMITS, _newest(finish=99)),
    "commit: parent": (COMMITS, _setting(parent=0)),
    "commit: step": (COMMITS, _setting(step=999)),
    "commit: digest": (COMMITS, _table),
    "commit: state": (COMMITS, _setting(state={"step": 10, "position": 0})),
    "commit: files": (COMMITS, _setting(files={})),
    "commit: kept": (COMMITS, _setting(kept=[])),
    "finish: number": (FINISHES, _setting(number=2)),
    "finish: attempt": (FINISHES, _setting(attempt=5)),
    "finish: digest": (FINISHES, _table),
    "finish: files": (FINISHES, _setting(files={})),
    "finish: limits": (FINISHES, _setting(limits={"max_steps": 10**6})),
}


def _resealed(data: bytes, change: Change, *, seal: bool) -> bytes:
    there = json.loads(data)
    check = there.pop("check")
    changed = change(there)
    assert changed != there
    return canonical({**changed, "check": digest(canonical(changed)) if seal else check})


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that finished and was continued, as files."""
    folder = tmp_path_factory.mktemp("original")
    home = RunHome.open(open_store(str(folder)), "key")
    home.start({"recipe": {"seed": 1}})
    for first in (10, 30):
        writer = start(home)
        save(writer, first, keep=KEEP)
        save(writer, first + 10, keep=KEEP)
        end(writer, first + 10)
    start(home)
    kinds = {number: home.log.read(number).kind for number in home.log.numbers()}
    assert [n for n, kind in kinds.items() if kind == "claim"] == list(CLAIMS)
    assert [n for n, kind in kinds.items() if kind == "commit"] == list(COMMITS)
    assert [n for n, kind in kinds.items() if kind == "finish"] == list(FINISHES)
    return folder


@pytest.fixture
def run(original: Path, tmp_path: Path) -> RunHome:
    shutil.copytree(original, tmp_path / "store")
    return RunHome.open(open_store(str(tmp_path / "store")), "key")


def _cut_after(home: RunHome, number: int) -> None:
    """Make a record the newest of the log, as if what followed had not been written yet."""
    for later in range(number + 1, CLAIMS[-1] + 1):
        home.store.delete(record_name(later))
    newest = home.log.read(number).newest.commit
    if newest is None:
        home.store.delete(LAST)
    else:
        home.store.write(LAST, home.log.read(newest).data)


def _assert_not_believed(home: RunHome, tampered: int) -> None:
    """What starts ask for is what it would be without that record."""
    loaded = home.load_newest(lambda _: None)
    assert loaded and loaded.record.number != tampered
    assert content(loaded) == plain(tensors_of(loaded.record.step))
    for believed in (home.latest_claim(), home.finish_record()):
        assert believed is None or believed.number != tampered
    assert tampered not in [record.number for record in home.commits()]
    assert home.fruitless_attempts("somebody else") == 0


@pytest.mark.parametrize("seal", [False, True], ids=["own digest left", "own digest new"])
@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_record_is_named_and_not_believed(
    run: RunHome, capsys: pytest.CaptureFixture[str], what: str, seal: bool
) -> None:
    numbers, change = CHANGES[what]
    for number in numbers:
        there = run.store.read(record_name(number))
        run.store.write(record_name(number), _resealed(there, change, seal=seal))
        _assert_not_believed(run, number)
        problems = verify(run).problems
        assert any(problem.startswith(record_name(number)) for problem in problems), problems
        run.store.write(record_name(number), there)
    first = record_name(numbers[0])
    run.store.write(first, _resealed(run.store.read(first), change, seal=seal))
    with pytest.raises(SystemExit) as ended:
        main(["checkpoint", "verify", run.store.uri])
    assert ended.value.code == 1
    assert f"damaged: {first}: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "what", [what for what in CHANGES if what.partition(": ")[2] in ("number", "attempt", "newest")]
)
def test_in_the_newest_record_too(run: RunHome, what: str) -> None:
    """Where no successor stands for it: the numbers it goes on from, and for a commit last.ckpt."""
    numbers, change = CHANGES[what]
    number = numbers[-1]
    _cut_after(run, number)
    there = run.store.read(record_name(number))
    run.store.write(record_name(number), _resealed(there, change, seal=True))
    _assert_not_believed(run, number)
    assert any(problem.startswith(record_name(number)) for problem in verify(run).problems)


def test_training_goes_on_behind_a_changed_record_and_never_comes_back_to_it(run: RunHome) -> None:
    number = COMMITS[-1]
    run.store.write(record_name(number), _resealed(run.store.read(record_name(number)), _setting(step=5), seal=True))
    writer = start(run)
    assert writer.resumed_from == COMMITS[-2]
    record = save(writer, 40, keep=KEEP)
    assert number not in record.kept
    loaded = run.load_newest(pytest.fail)
    assert loaded and loaded.record == record
    assert start(run).resumed_from == record.number


def test_a_claim_of_a_run_without_commits_makes_no_zero(run: RunHome) -> None:
    """Put behind commits, it would name none; a start must not take that for a first one."""
    other = RunHome(run.store.sub("other"))
    for _ in range(CLAIMS[-1] + 1):
        claim(other, owner="me")
    run.store.write(record_name(CLAIMS[-1]), other.store.read(record_name(CLAIMS[-1])))
    loaded = run.load_newest(lambda _: None)
    assert loaded and loaded.record.number == COMMITS[-1]
    assert start(run).resumed_from == COMMITS[-1]


@pytest.mark.parametrize("seal", [False, True], ids=["own digest left", "own digest new"])
def test_a_changed_run_json_is_named_and_not_believed(run: RunHome, seal: bool) -> None:
    run.store.write(RUN, _resealed(run.store.read(RUN), _setting(recipe={"seed": 2}), seal=seal))
    with pytest.raises(Damaged, match=r"run\.json"):
        run.run()
    (problem,) = verify(run).problems
    assert RUN in problem


@pytest.mark.parametrize("seal", [False, True], ids=["own digest left", "own digest new"])
@pytest.mark.parametrize("change", [_setting(step=999), _setting(number=5), _setting(number=10**9), _setting(parent=0)])
def test_a_changed_last_ckpt_is_named_and_leads_nobody(run: RunHome, change: Change, seal: bool) -> None:
    run.store.write(LAST, _resealed(run.store.read(LAST), change, seal=seal))
    (problem,) = verify(run).problems
    assert problem.startswith(LAST)
    loaded = run.load_newest(pytest.fail)
    assert loaded and loaded.record.number == COMMITS[-1]
    assert run.log.head().number == CLAIMS[-1]


@pytest.mark.parametrize(
    ("change", "seal"),
    [
        (_setting(attempt=99), False),
        (_setting(attempt=99), True),
        (_setting(step=10**6), False),
        (_setting(step="many"), True),
        (_setting(attempt=None), True),
        (_setting(count=[1]), True),
    ],
)
def test_a_changed_heartbeat_is_named_and_stops_nobody(run: RunHome, change: Change, seal: bool) -> None:
    attempt = run.log.head().attempt
    write_beat(run.store, attempt=attempt, count=5, step=7)
    assert verify(run).problems == ()
    run.store.write(HEARTBEAT, _resealed(run.store.read(HEARTBEAT), change, seal=seal))
    (problem,) = verify(run).problems
    assert problem.startswith(HEARTBEAT)
    with Beat(run.store, attempt=attempt, step=lambda: 8, interval=0.02) as beat:
        deadline = time.monotonic() + 30
        while read_beat(run.store).get("step") != 8 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not beat.superseded
    assert read_beat(run.store)["attempt"] == attempt
    run.store.write(HEARTBEAT, _resealed(run.store.read(HEARTBEAT), change, seal=seal))
    start(run)
    last = run.latest_claim()
    assert last and last.body["heartbeat_step"] is None


def test_of_two_that_disagree_the_one_that_last_ckpt_is_a_copy_of_stays(run: RunHome) -> None:
    """The newest commit under a claim of another history: it can't be the commit that is wrong."""
    number = COMMITS[0]
    _cut_after(run, number)
    stays: Record = run.log.read(number)
    other = RunHome(run.store.sub("other"))
    for _ in range(number + 2):
        claim(other, owner="me")
    run.store.write(record_name(number + 1), other.store.read(record_name(number + 1)))
    loaded = run.load_newest(lambda _: None)
    assert loaded and loaded.record == stays
