"""Killing trainings at random instants.

reference   the same recipe, never killed
run         attempt, SIGKILL to all of it, look, attempt, SIGKILL, look, ... , attempt to the end
            kinds of instants: "start" (mostly before the first commit), "save" (while a save is on its way),
            "record" (right before or right after a commit's record is written), "any", "one" (a rank alone)
"""

import contextlib
import multiprocessing
import os
import random
import re
import select
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import object_name
from carryover.data.manifest import DatasetCard
from carryover.ground.storage import open_store
from tests.torture import trainer
from tests.torture.judge import EPOCHS, Found, Outcome, inspect, judge_run, outcome
from tests.train.attempts import SMALL

DEADLINE = 90.0
processes = multiprocessing.get_context("forkserver")
# All that torture forks, in whatever order: the server is one, and loads this once.
processes.set_forkserver_preload(["pytest", "tests.torture.worker", "tests.torture.trainer", *trainer.PRELOAD])


def seed() -> int:
    """Return what the instants follow from: CARRYOVER_TORTURE_SEED, or the clock; it is printed, to be repeated."""
    chosen = int(os.environ.get("CARRYOVER_TORTURE_SEED", "0")) or time.time_ns()
    print(f"CARRYOVER_TORTURE_SEED={chosen}")
    return chosen


@dataclass
class Running:
    """An attempt that runs, seen through its pipe."""

    attempt: trainer.Attempt
    process: BaseProcess
    pipe: int
    started: float = field(default_factory=time.monotonic)
    text: str = ""
    gone: bool = False

    def look(self, seconds: float) -> None:
        """Take in what it says, for so long at most; at the end of the pipe nothing of it runs any more."""
        if not self.gone and select.select([self.pipe], [], [], max(0.0, seconds))[0]:
            told = os.read(self.pipe, 1 << 16)
            self.gone = not told
            self.text += told.decode()

    def has(self, line: str) -> bool:
        """Tell whether it said this line."""
        return f"{line}\n" in self.text

    def until(self, line: str = "", *, instant: float = float("inf")) -> None:
        """Wait for a line, for an instant of the monotonic clock, or for its end, whichever comes first."""
        deadline = min(instant, self.started + DEADLINE)
        while not (self.gone or (line and self.has(line)) or time.monotonic() >= deadline):
            self.look(deadline - time.monotonic())

    def ranks(self) -> dict[int, int]:
        """Return the pid of each rank that has begun."""
        return {int(number): int(pid) for number, pid in re.findall(r"^rank (\d+) (\d+)$", self.text, re.MULTILINE)}

    def kill(self) -> None:
        """SIGKILL the whole session at once; its first instants have none yet, but no children either."""
        assert self.process.pid
        for number in (os.killpg, os.kill, os.killpg):
            with contextlib.suppress(ProcessLookupError):
                number(self.process.pid, signal.SIGKILL)
        self.until()

    def end(self) -> int | None:
        """Wait until nothing of it runs; return the exit code, None when it hangs (then it is killed)."""
        self.until()
        hung = not self.gone
        if hung:
            self.kill()
        self.process.join(DEADLINE)
        os.close(self.pipe)
        return None if hung else self.process.exitcode


@dataclass(frozen=True)
class Job:
    """One run to be killed.

    Attributes:
        folder: a local one of its own; store: where its run goes.
        seed: of the recipe, so that each job is another training.
    """

    card: DatasetCard
    store: str
    folder: Path
    ranks: int
    seed: int
    plant: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def start(self, number: int, *, die_at: tuple[str, int] = ("", 0)) -> Running:
        """Start an attempt."""
        folder = self.folder / f"attempt-{number}"
        folder.mkdir(parents=True)
        env = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        attempt = trainer.Attempt(
            self.card.at, self.store, self.ranks, folder, self.words(), die_at=die_at, plant=self.plant, env=env
        )
        pipe, theirs = processes.Pipe(duplex=False)
        process = processes.Process(target=trainer.run, args=(attempt, theirs), daemon=True)
        process.start()
        theirs.close()
        handle = os.dup(pipe.fileno())
        pipe.close()
        return Running(attempt, process, handle)

    def words(self) -> tuple[str, ...]:
        """Return its recipe, "key=value" each."""
        recipe = {**SMALL, "seed": self.seed, "data.record_samples": True, "optimization.max_epochs": EPOCHS}
        recipe |= {"optimization.patience": 1000, "checkpoint.every_steps": 2, **self.settings}
        return tuple(f"{name}={value}" for name, value in recipe.items())

    def home(self) -> RunHome | None:
        """Return the run, None where no attempt came so far."""
        store = open_store(self.store)
        keys = [key for key in store.folders("runs") if RunHome.open(store, key).exists()]
        return RunHome.open(store, keys[0]) if keys else None


def reference(job: Job) -> Outcome:
    """Run a job that nobody kills."""
    running = job.start(0)
    running.until("save 1")
    first_save = time.monotonic() - running.started
    code = running.end()
    home = job.home()
    assert code == 0 and home, f"the reference ended with {code}:\n{running.attempt.said()}"
    return outcome(home, time.monotonic() - running.started, first_save)


def kill_often(
    job: Job, want: Outcome, chance: random.Random, kills: int, found: Found, *, kinds: Sequence[str]
) -> None:
    """Kill a job so often, or until it has finished, then let it finish; add what that shows to `found`."""
    attempts: list[Running] = []
    goal = len(found.all_kills) + kills
    while len(found.all_kills) < goal:
        kind = chance.choice(kinds)
        running = _killed(job, len(attempts), kind, chance, want)
        attempts.append(running)
        if running.process.exitcode == 0 and running.has("ended 0"):
            break
        _judge_end(running, kind, found)
        if found.ends:
            return
        found.kills[kind] += 1
        home = job.home()
        found.torn += inspect(home) if home else []
        if found.torn:
            # It can't be known what a run with torn files must become.
            return
    else:
        attempts.append(job.start(len(attempts)))
        attempts[-1].end()
    judge_last(job, attempts, want, found)


def spoil(job: Job, want: Outcome, found: Found) -> None:
    """Kill a job once, flip a bit in every pack that only the newest commit has, and let it go on to its end."""
    attempts = [job.start(0, die_at=("after", 5))]
    attempts[0].end()
    found.kills["record"] += 1
    home = job.home()
    assert home
    older, newest = home.commits()[-2:]
    table, before = (home.objects.load_table(record.table) for record in (newest, older))
    for pack in set(table.packs) - set(before.packs):
        name = object_name(pack.digest)
        data = bytearray(home.store.read(name))
        data[-2] ^= 64  # In the last number of the last tensor, and where that counts.
        home.store.write(name, data)
    attempts.append(job.start(1))
    attempts[1].end()
    judge_last(job, attempts, want, found)
    # It is to go on from an older commit here, and to say so.
    found.lost.clear()
    if f"commit {newest.number} (step {newest.step}) can't be used" not in attempts[1].attempt.said():
        found.ends.append(f"commit {newest.number} was used, although a bit was flipped")


def judge_last(job: Job, attempts: list[Running], want: Outcome, found: Found) -> None:
    """Judge a job whose last attempt must have finished it."""
    code, home, last = attempts[-1].process.exitcode, job.home(), attempts[-1].attempt
    if code != 0 or home is None:
        found.ends.append(f"the last attempt ended with {code}: {last.said()[-800:]}")
        return
    found.runs += 1
    found.torn += inspect(home)
    judge_run(home, job.card.splits["train"].rows, [one.attempt.said() for one in attempts], want, found)


def _killed(job: Job, number: int, kind: str, chance: random.Random, want: Outcome) -> Running:
    """Start an attempt and end it at an instant of this kind; it may have come to its own end before."""
    after = chance.randint(1, 4)
    if kind == "record":
        running = job.start(number, die_at=(chance.choice(["before", "after"]), after))
        running.end()
        return running
    running = job.start(number)
    if kind in ("start", "any"):
        length = want.first_save + (0.5 if kind == "any" else 0.0)
        running.until(instant=running.started + chance.uniform(0, length))
    else:
        running.until(f"save {after}")
        # A save takes some milliseconds here, and some more for old ones to be removed.
        delay = chance.uniform(0, 0.03) if kind == "save" else chance.uniform(0, 0.2)
        running.until(instant=time.monotonic() + delay)
    if kind == "one" and not running.gone and (ranks := running.ranks()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(ranks[chance.choice(sorted(ranks))], signal.SIGKILL)
        running.until()
    elif kind != "one":
        running.kill()
    running.end()
    return running


def _judge_end(running: Running, kind: str, found: Found) -> None:
    wanted = 75 if kind == "one" else -signal.SIGKILL
    if running.process.exitcode != wanted:
        code, said = running.process.exitcode, running.attempt.said()
        found.ends.append(f"an attempt ended with {code}, must be {wanted} ({kind}): {said[-500:]}")
