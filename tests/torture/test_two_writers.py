"""Zombies and simultaneous starts: one linear history each time, and nothing acknowledged lost.

CARRYOVER_TORTURE_ZOMBIES and CARRYOVER_TORTURE_STARTS say how many on each store; CARRYOVER_TORTURE_SEED, at which
instants.
"""

import os
import random
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.torture.conftest import Place
from tests.torture.harness import DEADLINE, Started, new_run, note, processes, said, start, violations
from tests.torture.worker import Attempt

pytestmark = [pytest.mark.torture, pytest.mark.timeout(7200)]
ZOMBIES = int(os.environ.get("CARRYOVER_TORTURE_ZOMBIES", "5"))
STARTS = int(os.environ.get("CARRYOVER_TORTURE_STARTS", "2"))
AT_ONCE = 16
# So many zombies haunt one run before the next one begins.
HAUNTED = 10


def _chance() -> random.Random:
    return random.Random(int(os.environ.get("CARRYOVER_TORTURE_SEED", "0")) or time.time_ns())


def _haunt(folder: Path, uri: str, zombies: int, *, honest: bool = True) -> list[str]:
    """Let attempts stand still one after the other, each at a random instant, each woken by what it must not harm."""
    chance, owner = _chance(), "job"
    found: list[str] = []
    attempts: list[Started] = []
    try:
        for number in range(zombies + 1):
            # Half of them are retries of the same owner, half are taken over by another.
            takeover = chance.random() < 0.5
            owner = f"job-{number}" if takeover else owner
            attempt = Attempt(uri, said(folder), owner, takeover, honest=honest)
            attempts.append(start(attempt))
            if not attempts[-1].until(lambda: len(attempts[-1].saved()) >= 1):
                found.append(f"attempt {number + 1} did not get on: {attempts[-1].lines()[-1:]}")
                break
            if len(attempts) > 1:
                found += _wake(attempts[-2], attempts[-1], seconds=DEADLINE if honest else 3)
            if number < zombies:
                time.sleep(chance.uniform(0, 0.1))
                attempts[-1].freeze()
    finally:
        for one in attempts:
            one.end()
    return found + violations(uri, [step for one in attempts for step in one.saved()])


def _wake(zombie: Started, successor: Started, *, seconds: float) -> list[str]:
    """SIGCONT; the zombie must find out and end, while the successor goes on."""
    before = len(successor.saved())
    zombie.thaw()
    code = zombie.code(seconds)
    found = [] if code == 76 else [f"a zombie ended with {code}: {zombie.lines()[-1:]}"]
    if not successor.until(lambda: len(successor.saved()) > before):
        found.append(f"the successor was stopped by a zombie: {successor.lines()[-1:]}")
    return found


def test_zombies(place: Place, tmp_path: Path) -> None:
    found: list[str] = []
    bad = 0
    for first in range(0, ZOMBIES, HAUNTED):
        problems = _haunt(tmp_path, new_run(place.uri), min(HAUNTED, ZOMBIES - first))
        bad, found = bad + len(problems), found + problems
    note("zombies (SIGSTOP, a successor commits, SIGCONT)", store=place.kind, count=ZOMBIES, violations=bad)
    assert found == []


def _starts_at_once(folder: Path, uri: str, *, one_owner: bool, honest: bool = True) -> list[str]:
    """Sixteen starts at one barrier: of one owner, the last claim goes on; of many, the others wait for its finish."""
    barrier = processes.Barrier(AT_ONCE)
    owners = ["job" if one_owner else f"job-{number}" for number in range(AT_ONCE)]
    attempts = [start(Attempt(uri, said(folder), owner, steps=5, honest=honest), barrier) for owner in owners]
    try:
        codes = [one.code() for one in attempts]
    finally:
        for one in attempts:
            one.end()
    ends = [one.lines()[-1][0] if one.lines() else "" for one in attempts]
    found = violations(uri, [step for one in attempts for step in one.saved()])
    # One whose claim just follows the finish of another finishes too, with nothing left to do.
    if "finished" not in ends or set(ends) - {"finished", "waited", "ended"}:
        found.append(f"starts ended as {sorted(ends)}")
    if set(codes) - {0, 76} or (not one_owner and codes.count(0) != AT_ONCE):
        found.append(f"starts ended with {codes}")
    trained = [one.saved() for one in attempts if one.saved()]
    if any(set(a) & set(b) for a, b in pairwise(trained)):
        found.append("a step was acknowledged to two attempts")
    return found


@pytest.mark.parametrize("one_owner", [False, True], ids=["many-owners", "one-owner"])
def test_starts_at_once(place: Place, tmp_path: Path, one_owner: bool) -> None:
    found: list[str] = []
    for _ in range(STARTS):
        found += _starts_at_once(tmp_path, new_run(place.uri), one_owner=one_owner)
    who = "one owner's" if one_owner else "sixteen owners'"
    note(f"{AT_ONCE} simultaneous starts, {who}", store=place.kind, count=STARTS, violations=len(found))
    assert found == []


@pytest.mark.parametrize("what", ["zombies", "starts"])
def test_store_that_ignores_preconditions_is_caught(tmp_path: Path, what: str) -> None:
    """The control: the same suite over a store on which it must fail."""
    uri = new_run(str(tmp_path / "store"))
    if what == "zombies":
        found = _haunt(tmp_path, uri, 5, honest=False)
    else:
        found = _starts_at_once(tmp_path, uri, one_owner=False, honest=False)
    count = 5 if what == "zombies" else 1
    note(f"control, must fail: {what} where create overwrites", store="local disk", count=count, violations=len(found))
    assert found != []
