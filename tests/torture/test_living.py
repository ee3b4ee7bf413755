"""Readers beside a writer that commits and prunes at full speed, and copies of its home taken meanwhile.

CARRYOVER_TORTURE_READS says how often a reader loads and verifies on each store, CARRYOVER_TORTURE_COPIES how many
copies are taken in each order, CARRYOVER_TORTURE_SEED at which instants.
"""

import contextlib
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from carryover.checkpoint import verify as inspection
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import record_name
from carryover.checkpoint.log import Head, Log
from carryover.checkpoint.retention import Keep
from carryover.ground.storage import open_store
from tests.checkpoint.support import content, plain, save, tensors_of
from tests.checkpoint.support import start as begin
from tests.torture.conftest import Place
from tests.torture.harness import DEADLINE, new_run, note, processes
from tests.torture.living import ORDERS, Pace, copy, judge_copy, prune_at_once, read_beside, write

READS = int(os.environ.get("CARRYOVER_TORTURE_READS", "20"))
COPIES = int(os.environ.get("CARRYOVER_TORTURE_COPIES", "20"))
FEW = 8


@contextlib.contextmanager
def writing(uri: str, *, pause: float = 0.0, keep: Keep = Keep(last=2, best=1)) -> Iterator[RunHome]:  # noqa: B008 - frozen
    """A writer beside us, which has committed a few times."""
    env = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    process = processes.Process(target=write, args=(Pace(uri, pause, keep, env),), daemon=True)
    process.start()
    home, deadline = RunHome.at(uri), time.monotonic() + DEADLINE
    try:
        while len(home.log.numbers()) < 4:
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        yield home
        assert process.is_alive(), "the writer has ended"
    finally:
        process.kill()
        process.join()


def _read(place: Place, times: int) -> list[str]:
    # On S3 a look takes a dozen calls; who writes there commits less often than that.
    pause = 0.0 if place.kind == "local disk" else 1.5
    with writing(new_run(place.uri), pause=pause, keep=Keep(last=1, best=0)) as home:
        later, deadline = record_name(max(home.log.numbers()) + 1), time.monotonic() + DEADLINE
        found = read_beside(home, times)
        while not home.store.exists(later):
            assert time.monotonic() < deadline, "nothing was written meanwhile"
            found += read_beside(home, times)
    return found


@pytest.mark.slow
def test_reader_of_a_living_run(place: Place) -> None:
    assert _read(place, FEW if place.kind == "local disk" else 2) == []


@pytest.mark.torture
@pytest.mark.timeout(7200)
def test_readers_of_a_living_run(place: Place) -> None:
    found = _read(place, READS)
    note("load and verify beside a writer that prunes", store=place.kind, count=READS, violations=len(found))
    assert found == []


@pytest.mark.slow
def test_restore_while_a_command_prunes(tmp_path: Path) -> None:
    """What a starting attempt reads is what is newest, whether it looks before, while or after the rest is removed."""
    for _ in range(FEW):
        home = RunHome(open_store(new_run(str(tmp_path / "store"))))
        writer = begin(home, "job")
        for step in range(1, 7):
            save(writer, step, keep=Keep(last=9, best=0))
        pruner = processes.Process(target=prune_at_once, args=(home.store.uri,), daemon=True)
        pruner.start()
        while pruner.is_alive():
            assert content(home.load_newest(pytest.fail)) == plain(tensors_of(6))
        assert pruner.exitcode == 0 and len(home.commits()) == 1
        save(begin(home, "job"), 7)
        assert inspection.verify(home).problems == ()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["load", "verify"])
def test_reader_that_looks_once_is_caught(tmp_path: Path, what: str) -> None:
    place, holders, head = Place(str(tmp_path / "store"), "local disk"), inspection._holders, Log.head
    seen: dict[int, dict] = {}

    def first_look(home: RunHome, records: list) -> dict:
        return seen.setdefault(int(records[0].number) + id(records[0]), holders(home, records))

    def overtaken(log: Log) -> Head:
        """Wait until the writer has gone on, so that what was newest is removed when it is read."""
        found, deadline = head(log), time.monotonic() + DEADLINE
        while not log.home.exists(record_name(found.number + 3)) and time.monotonic() < deadline:
            time.sleep(0.001)
        return found

    found, times = [], 0
    with contextlib.ExitStack() as stack:
        if what == "load":
            stack.enter_context(mock.patch.object(Log, "has_grown", return_value=False))
            stack.enter_context(mock.patch.object(Log, "head", overtaken))
        else:
            stack.enter_context(mock.patch.object(inspection, "_holders", first_look))
        # How often the two meet depends on the machine, so it goes on until they have.
        while not found and times < 40 * FEW:
            found, times = _read(place, FEW), times + FEW
    note(f"control, must fail: a reader that looks once, {what}", store=place.kind, count=times, violations=len(found))
    assert found != []


def _copies(folder: Path, order: str, times: int, chance: random.Random) -> tuple[list[str], int, int]:
    """Take copies while a writer works; returns what is wrong, how many had to open, and how many did."""
    found: list[str] = []
    must = opened = 0
    uri = new_run(str(folder / "store"))
    with writing(uri, pause=chance.choice([0.0, 0.02, 0.1]), keep=Keep(last=2, best=1)) as home:
        for _ in range(times):
            target = folder / "copy"
            newest = home.commits()[-1]
            copy(Path(uri), target, order, chance=chance, pause=chance.choice([0.0, 0.0, 0.003]))
            # It was kept from before the first file to after the last: whatever the order, it is there.
            sure = newest.number in {record.number for record in home.commits()}
            problems, step = judge_copy(RunHome(open_store(str(target))), least=newest.step if sure else 0)
            found += [f"copied {order}: {problem}" for problem in problems]
            must, opened = must + sure, opened + (step > 0)
            shutil.rmtree(target)
    return found, must, opened


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_copy_of_a_living_run(tmp_path: Path, order: str) -> None:
    found, _, opened = _copies(tmp_path, order, FEW, random.Random(3))
    assert found == [] and opened


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("order", ORDERS)
def test_copies_of_a_living_run(tmp_path: Path, order: str) -> None:
    chance = random.Random(int(os.environ.get("CARRYOVER_TORTURE_SEED", "0")) or time.time_ns())
    found, must, total = [], 0, 0
    while total < COPIES:
        problems, sure, _ = _copies(tmp_path / str(total), order, min(20, COPIES - total), chance)
        found, must, total = found + problems, must + sure, total + min(20, COPIES - total)
    what = f"copies of a home being written, files taken {order}"
    note(what, store="local disk", count=total, violations=len(found))
    note(f"{what}: those slow enough to be promised", store="local disk", count=must, violations=len(found))
    assert found == []


def test_copy_whose_log_is_newer_than_its_objects(tmp_path: Path) -> None:
    """The control beside it: the newest record's word for what is kept, taken for what is there."""
    home, keep = RunHome(open_store(new_run(str(tmp_path / "store")))), Keep(last=2, best=1)
    writer, source = begin(home, "job"), Path(home.store.uri)
    for step in range(1, 9):
        save(writer, step, score=-step, keep=keep)
    for name in ("copy", "control"):
        shutil.copytree(source / "objects", tmp_path / name / "objects")
    for step in range(9, 13):
        save(writer, step, score=-step, keep=keep)
    for name in ("copy", "control"):
        shutil.copytree(source / "log", tmp_path / name / "log")
    assert judge_copy(RunHome(open_store(str(tmp_path / "copy"))), least=8) == ([], 8)
    with mock.patch.object(RunHome, "_commits", RunHome._kept):
        found, _ = judge_copy(RunHome(open_store(str(tmp_path / "control"))), least=8)
    note("control, must fail: copies, only what is kept", store="local disk", count=1, violations=len(found))
    assert found != []
