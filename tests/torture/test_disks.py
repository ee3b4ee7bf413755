"""A disk that is full at any write of a run, and one that can only be read: nothing lost, said, and gone on from.

CARRYOVER_TORTURE_DISKS says how often, CARRYOVER_TORTURE_SEED at which bytes.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.verify import verify
from carryover.cli.main import main
from carryover.ground import failures
from carryover.ground.storage import Store
from carryover.train.outcome import model_of
from tests.checkpoint.support import content, plain, save, start, tensors_of
from tests.support.last_words import error_of
from tests.torture.disks import CONTROLS, Disk, disk, play
from tests.torture.harness import note
from tests.train.attempts import Run, dataset

DISKS = int(os.environ.get("CARRYOVER_TORTURE_DISKS", "50"))
FEW = 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path / "disk") as mounted:
        yield mounted


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """The Model of a training: card, files, weights."""
    folder = tmp_path_factory.mktemp("model")
    run = Run(dataset(folder / "data"), str(folder / "store"), {"optimization.max_epochs": 1}, folder)
    run.go()
    return model_of(run.home, run.finish())


def _play(disk: Disk, model: tuple, times: int, chance: random.Random) -> tuple[list[str], Counter[str]]:
    found: list[str] = []
    where: Counter[str] = Counter()
    for _ in range(times):
        played = play(disk, model, chance)
        found += played.found
        where[played.where] += 1
    print(dict(where), found[:3], flush=True)
    return found, where


@pytest.mark.slow
def test_full_disk(small_disk: Disk, model: tuple) -> None:
    found, where = _play(small_disk, model, FEW, random.Random(3))
    assert found == []
    assert {"objects", "log", "model"} <= where.keys()


@pytest.mark.torture
@pytest.mark.timeout(7200)
def test_full_disks(small_disk: Disk, model: tuple) -> None:
    chance = random.Random(int(os.environ.get("CARRYOVER_TORTURE_SEED", "0")) or time.time_ns())
    found, where = _play(small_disk, model, DISKS, chance)
    tried = sum(count for name, count in where.items() if name)
    note("disk full at a write of a run", store="local disk (tmpfs)", count=tried, violations=len(found))
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("what", CONTROLS)
def test_controls_are_caught(small_disk: Disk, model: tuple, what: str) -> None:
    with CONTROLS[what]():
        found, _ = _play(small_disk, model, FEW, random.Random(3))
    note(f"control, must fail: disk full, {what}", store="local disk (tmpfs)", count=FEW, violations=len(found))
    assert found != []


def test_a_disk_that_can_only_be_read(small_disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    home = RunHome(Store(str(small_disk.folder / "run")))
    home.start({})
    writer = start(home, "job")
    save(writer, 1)
    small_disk.mode("ro")
    with pytest.raises(OSError, match="Read-only file system") as error:
        save(writer, 2)
    ours = failures.named(error.value)
    assert ours and ours.exit_code == 75 and str(small_disk.folder) in str(ours)
    assert content(home.load_newest(pytest.fail)) == plain(tensors_of(1)) and verify(home).problems == ()
    with pytest.raises(SystemExit) as ended:
        main(["preflight", "--store", str(small_disk.folder)])
    assert ended.value.code == 2
    said = error_of(capsys.readouterr().err)
    assert said.startswith(f"error: store {small_disk.folder}: can't be written: ") and "Read-only" in said
    small_disk.mode("rw")
    save(writer, 2)
    assert content(home.load_newest(pytest.fail)) == plain(tensors_of(2)) and verify(home).problems == ()
