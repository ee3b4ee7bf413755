"""Stopped as a kubelet does: SIGTERM to the command, and after the grace SIGKILL; nothing that was committed is lost.

    grace 15        the command ends by itself with 75 and has saved; nothing of it runs any more
    grace 5, 1, 0   it ends so or is killed, alone: whatever it started dies with it
    then            the next start finishes the run, bit-identical to one that nobody stopped

CARRYOVER_TORTURE_TERMS says how many runs are stopped so, each once with each grace.
"""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from carryover.data.manifest import DatasetCard
from tests.support.processes import Tree
from tests.torture import commands
from tests.torture.commands import DEADLINE
from tests.torture.harness import note
from tests.torture.judge import Found, inspect, note_all
from tests.torture.kills import Job, reference, seed

RUNS = int(os.environ.get("CARRYOVER_TORTURE_TERMS", "2"))
GRACES = (15, 5, 1, 0)
# So long a grace is enough for this training on any machine that is not at a standstill.
ENOUGH = 15
WHAT = "SIGTERM to the command line, SIGKILL after the grace"


def stop(tree: Tree, grace: int) -> int:
    """Stop as a kubelet does; return the command's exit code."""
    tree.process.send_signal(signal.SIGTERM)
    try:
        return tree.process.wait(timeout=grace)
    except subprocess.TimeoutExpired:
        tree.kill_one(tree.process.pid)
        return tree.process.wait()


def orphans(tree: Tree) -> list[int]:
    """Return what still runs of a command that has ended, after some time to die in."""
    deadline = time.monotonic() + 30
    while tree.living() and time.monotonic() < deadline:
        time.sleep(0.02)
    return tree.living()


def stop_once(job: Job, chance: random.Random, grace: int, trees: list[Tree], found: Found) -> None:
    """Start an attempt and stop it at a random instant; add what is wrong to `found`."""
    seen, number = commands.Seen(job), len(trees)
    tree = commands.start(job, number, "--grace-seconds", str(grace))
    trees.append(tree)
    # Before ranks have begun there is nothing to save; with a commit there surely is.
    early = grace < ENOUGH and chance.random() < 0.25
    assert tree.wait_until(lambda: "ranks: " in tree.text() if early else seen.commits() >= 1, timeout=DEADLINE)
    time.sleep(chance.uniform(0, 0.3))
    code = stop(tree, grace)
    found.kills[f"grace {grace}"] += 1
    found.ends += _wrong_end(job, tree, grace, code)
    home = job.home()
    found.torn += inspect(home) if home else []


def _wrong_end(job: Job, tree: Tree, grace: int, code: int) -> list[str]:
    wrong = [f"grace {grace}: process {pid} outlived the command" for pid in orphans(tree)]
    if code not in (75, -signal.SIGKILL) or (grace >= ENOUGH and code != 75):
        wrong.append(f"grace {grace}: the command ended with {code}: {tree.text()[-800:]}")
    saved = re.search(r"all is saved at step (\d+)", tree.text())
    home = job.home()
    if saved and (home is None or home.commits()[-1].step != int(saved[1])):
        wrong.append(f"grace {grace}: step {saved[1]} was said to be saved, and is not the newest commit")
    if grace >= ENOUGH and not saved:
        wrong.append(f"grace {grace}: not saved: {tree.text()[-800:]}")
    return wrong


def stop_runs(card: DatasetCard, folder: Path, worlds: list[int]) -> dict[int, Found]:
    """Stop one run after the other with each grace, and let each finish; return what was found by number of ranks."""
    found = {world: Found() for world in sorted(set(worlds))}
    chance = random.Random(seed())
    # Long enough that no stop comes too late.
    settings = {"env.batch_size": 4, "checkpoint.every_steps": 5}
    for number, world in enumerate(worlds):
        straight, broken = folder / f"straight-{number}", folder / f"broken-{number}"
        want = reference(Job(card, str(straight / "store"), straight, world, seed=number, settings=settings))
        job = Job(card, str(broken / "store"), broken, world, seed=number, settings=settings)
        trees: list[Tree] = []
        try:
            for grace in chance.sample(GRACES, len(GRACES)):
                stop_once(job, chance, grace, trees, found[world])
            trees.append(commands.start(job, len(trees)))
            commands.finish(job, trees, want, found[world])
        finally:
            for tree in trees:
                tree.kill()
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stopped_with_each_grace(card: DatasetCard, tmp_path: Path) -> None:
    found = stop_runs(card, tmp_path, [2])[2]
    assert found.violations == []
    assert found.runs == 1


@pytest.mark.torture
@pytest.mark.timeout(7200)
def test_stopped_often_with_each_grace(card: DatasetCard, tmp_path: Path) -> None:
    found = stop_runs(card, tmp_path, [1 + number % 2 for number in range(RUNS)])
    for grace in GRACES:
        count = sum(one.kills[f"grace {grace}"] for one in found.values())
        wrong = [end for one in found.values() for end in one.ends if end.startswith(f"grace {grace}:")]
        note(f"{WHAT}: {grace} s", store="local disk", count=count, violations=len(wrong))
    assert note_all(found, WHAT, store="local disk") == []
