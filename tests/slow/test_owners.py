"""Two live owners of one run, through the command line: who waits, who takes over, who must stop.

a    trains; SIGSTOP                            SIGCONT: exits 76          again: 76 at once, b goes on
b           waits while a may be alive, takes over, trains ...                                        exits 76
b                                                            the same owner again: supersedes at once, trains, finishes
c                                                            waits while b lives ............ and gives its Model: 0
"""

import json
import os
import signal
from pathlib import Path

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.log import Record
from carryover.ground.errors import Superseded
from carryover.ground.storage import open_store
from tests.conftest import CarryoverCli
from tests.support import processes
from tests.support.processes import Tree
from tests.train.attempts import SMALL, dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# It would train for hours; only the last attempt has a limit, of its own.
RECIPE = {**SMALL, "optimization.max_epochs": 10**6, "optimization.patience": 10**6, "checkpoint.every_seconds": 0.3}
LAST = ["--time-limit", "2", "--set", "resume.time_limit=attempt"]


class Owners:
    """Starts `carryover train-ddp` for an owner, and looks at the run that they want."""

    def __init__(self, folder: Path) -> None:
        card = dataset(folder)
        self.folder, self.store = folder, str(folder / "runs")
        settings = [word for name, value in RECIPE.items() for word in ("--set", f"{name}={value}")]
        self.flags = ["train-ddp", "--dataset", card.at, "--store", self.store, *settings]
        self.trees: list[Tree] = []

    def start(self, owner: str, *flags: str) -> Tree:
        number = len(self.trees)
        words = [*self.flags, "--owner", owner, "--output", self.folder / f"out-{number}", *flags]
        command = CarryoverCli(self.folder).command(*words)
        tree = processes.start(command, said=self.folder / f"{number}-{owner}.txt", cwd=self.folder)
        self.trees.append(tree)
        return tree

    def result(self, tree: Tree) -> dict:
        return json.loads((self.folder / f"out-{self.trees.index(tree)}" / "result.json").read_text())

    @property
    def home(self) -> RunHome:
        (key,) = open_store(self.store).folders("runs") or ["none-yet"]
        return RunHome.open(open_store(self.store), key)

    def claims(self) -> list[Record]:
        return [record for record in self.home.log.records() if record.kind == "claim"]

    def commits_of(self, attempt: int) -> int:
        log = self.home.log
        return sum((record.kind, record.attempt) == ("commit", attempt) for record in map(log.read, log.numbers()))


def _signal(tree: Tree, number: int) -> None:
    for pid in tree.living():
        os.kill(pid, number)


@pytest.fixture
def owners(tmp_path: Path) -> Owners:
    return Owners(tmp_path)


def test_one_run_and_its_owners(owners: Owners) -> None:
    try:
        _play(owners)
    finally:
        for tree in owners.trees:
            _signal(tree, signal.SIGCONT)
            tree.kill()


def _play(owners: Owners) -> None:
    a = owners.start("a")
    assert a.wait_until(lambda: owners.commits_of(1) >= 1), a.text()
    b = owners.start("b")
    waits = "attempt 1 of a on "
    assert b.wait_until(lambda: waits in b.text()), b.text()
    # While a's heartbeat moves, b only waits; then a stands still.
    assert len(owners.claims()) == 1
    _signal(a, signal.SIGSTOP)
    assert b.wait_until(lambda: owners.commits_of(2) >= 1), b.text()
    assert [claim.body["owner"] for claim in owners.claims()] == ["a", "b"]
    assert b.text().count(waits) == 1

    _signal(a, signal.SIGCONT)
    assert a.process.wait(timeout=120) == Superseded.exit_code, a.text()
    again = owners.start("a")
    assert again.process.wait(timeout=120) == Superseded.exit_code, again.text()
    assert "owner b took this run over from a (attempt 2); --takeover takes it back" in again.text()
    assert len(owners.claims()) == 2, "who was superseded does not reclaim"
    before = owners.commits_of(2)
    assert b.wait_until(lambda: owners.commits_of(2) > before), "b goes on all the while"

    retry = owners.start("b", *LAST)
    assert retry.wait_until(lambda: len(owners.claims()) == 3), retry.text()
    c = owners.start("c")
    assert b.process.wait(timeout=120) == Superseded.exit_code, b.text()
    assert "waiting until" not in retry.text(), "the same owner need not wait"
    assert retry.process.wait(timeout=120) == 0, retry.text()
    assert c.process.wait(timeout=120) == 0, c.text()
    assert "attempt 3 of b on " in c.text()
    assert "another owner finished this run meanwhile" in c.text()
    assert [claim.body["owner"] for claim in owners.claims()] == ["a", "b", "b"]
    assert owners.result(c)["digest"] == owners.result(retry)["digest"]
    steps = [record.step for record in owners.home.log.records() if record.kind == "commit"]
    assert steps == sorted(steps), "one history"
    # Each attempt's time is its own, and is said.
    assert "time limit: 2 s for this attempt; " in retry.text()
    assert owners.result(retry)["reason"] == "time_limit"
