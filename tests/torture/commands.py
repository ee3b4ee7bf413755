"""Killing `carryover train-ddp` itself: the step, torchrun and its ranks, a tree of real processes.

until an instant   "start"    somewhere in the start-up of all the processes
                   "save"     objects of a save are there, its record is not
                   "record"   a commit's record has just come
                   "any"      somewhere in the second after the attempt's first commit
"""

import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from carryover.ground.storage import Store, open_store
from tests.support import processes
from tests.support.processes import Tree
from tests.torture.judge import Found, Outcome, inspect, judge_run
from tests.torture.kills import Job

KINDS = ("start", "save", "save", "record", "any")
DEADLINE = 240.0
# A guess until the first attempt has shown it.
_START_SECONDS = 8.0


def start(job: Job, number: int, *words: str) -> Tree:
    """Start an attempt of this job as a user does, with more words to the command."""
    folder = job.folder / f"attempt-{number}"
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "carryover", "train-ddp", "--dataset", job.card.at, "--store", job.store]
    command += ["--nproc-per-node", str(job.ranks), *words]
    command += [word for setting in job.words() for word in ("--set", setting)]
    env = {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    return processes.start(command, said=folder / "said.txt", cwd=folder, env=env)


@dataclass
class Seen:
    """What a run's store shows of the attempt that runs: names alone, so that looking takes a moment."""

    job: Job
    run: Store | None = None
    before: int = 0

    def __post_init__(self) -> None:
        self.before = self._records()

    def commits(self) -> int:
        """Return how many commits this attempt made."""
        return max(0, self._records() - self.before - 1)

    def objects(self) -> set[str]:
        """Return the names of all objects."""
        return set(self.run.names("objects")) if self.run else set()

    def _records(self) -> int:
        if self.run is None:
            store = open_store(self.job.store)
            keys = store.folders("runs")
            self.run = store.sub(f"runs/{keys[0]}") if keys else None
        return len(list(self.run.names("log"))) if self.run else 0


def kill_commands(job: Job, want: Outcome, chance: random.Random, kills: int, found: Found) -> None:
    """Kill a job's command so often, or until it has finished, then let it finish; add what that shows to `found`."""
    trees: list[Tree] = []
    try:
        if _kill_often(job, trees, chance, kills, found):
            finish(job, trees, want, found)
    finally:
        for tree in trees:
            tree.kill()


def _kill_often(job: Job, trees: list[Tree], chance: random.Random, kills: int, found: Found) -> bool:
    """Return whether the last of the trees is one that may finish, as nothing is wrong so far."""
    for _ in range(kills):
        kind = chance.choice(KINDS)
        seen = Seen(job)
        trees.append(start(job, len(trees)))
        ended = not _until(trees[-1], seen, kind, chance)
        trees[-1].kill()
        if ended or trees[-1].process.returncode == 0:
            return True
        found.kills[kind] += 1
        if trees[-1].process.returncode != -9:
            code, said = trees[-1].process.returncode, trees[-1].text()
            found.ends.append(f"a killed command ended with {code}: {said[-800:]}")
        home = job.home()
        found.torn += inspect(home) if home else []
        if found.violations:
            return False
    trees.append(start(job, len(trees)))
    return True


def finish(job: Job, trees: list[Tree], want: Outcome, found: Found) -> None:
    """Wait for the last attempt, which must finish the run, and judge the run."""
    last = trees[-1]
    code = last.process.wait(timeout=DEADLINE)
    home = job.home()
    if code != 0 or home is None:
        found.ends.append(f"the last attempt ended with {code}: {last.text()[-1500:]}")
        return
    found.runs += 1
    found.torn += inspect(home)
    judge_run(home, job.card.splits["train"].rows, [tree.text() for tree in trees], want, found)


def ranks_of(job: Job, number: int) -> dict[int, int]:
    """Return the pid of each rank that has begun in this attempt."""
    files = (job.folder / f"attempt-{number}").glob("carryover-*/rank-*.json")
    return {int(path.stem.removeprefix("rank-")): json.loads(path.read_text())["pid"] for path in files}


def resident(pid: int) -> int:
    """Return the pages that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def _until(tree: Tree, seen: Seen, kind: str, chance: random.Random) -> bool:
    """Wait for an instant of this kind; False when the command ended before it."""
    if kind == "start":
        return _sleep(tree, chance.uniform(0, _START_SECONDS))
    commits = 1 if kind == "any" else chance.randint(0 if kind == "save" else 1, 3)
    if not tree.wait_until(lambda: seen.commits() >= commits, timeout=DEADLINE):
        return False
    if kind == "any":
        return _sleep(tree, chance.uniform(0, 1))
    if kind == "save":
        had = seen.objects()
        return tree.wait_until(lambda: not seen.objects() <= had, timeout=DEADLINE)
    return _sleep(tree, chance.uniform(0, 0.02))


def _sleep(tree: Tree, seconds: float) -> bool:
    instant = time.monotonic() + seconds
    return tree.wait_until(lambda: time.monotonic() >= instant, timeout=DEADLINE)
