"""Trainings killed by SIGKILL at random instants, forked for speed: nothing torn, lost, repeated, skipped or different.

Real steps and real ranks (gloo where there are several), see trainer.py for what is left out. CARRYOVER_TORTURE_KILLS
says how many on each store; CARRYOVER_TORTURE_SEED, at which instants.
"""

import os
import random
import shutil
from pathlib import Path

import pytest

from carryover.data.manifest import DatasetCard
from tests.torture.conftest import Place
from tests.torture.harness import note
from tests.torture.judge import Found, note_all
from tests.torture.kills import Job, kill_often, reference, seed, spoil

pytestmark = pytest.mark.timeout(7200)
KILLS = int(os.environ.get("CARRYOVER_TORTURE_KILLS", "20"))
# Of ten runs: five of one rank, three of two, two of three. A run is killed about fifteen times before it finishes.
WORLDS = (1, 2, 1, 3, 1, 2, 1, 2, 1, 3)
MOST_KILLS_OF_A_RUN = 20
KINDS = ("start", "save", "save", "record", "record", "any")


def kill(card: DatasetCard, place: Place, folder: Path, kills: int) -> dict[int, Found]:
    """Kill one run after the other, so often in all; return what was found by number of ranks."""
    found = {world: Found() for world in sorted(set(WORLDS))}
    chance, number = random.Random(seed()), 0
    while (left := kills - sum(len(one.all_kills) for one in found.values())) > 0:
        world = WORLDS[number % len(WORLDS)]
        straight, broken = folder / f"straight-{number}", folder / f"broken-{number}"
        # A save costs more there: fewer of them, so that a run is killed as often in half the time.
        often = {"checkpoint.every_steps": 2 if place.kind == "local disk" else 4}
        want = reference(Job(card, str(straight / "store"), straight, world, seed=number, settings=often))
        job = Job(card, f"{place.uri}/{number}", broken, world, seed=number, settings=often)
        kinds = (*KINDS, "one") if world > 1 else KINDS
        kill_often(job, want, chance, min(left, MOST_KILLS_OF_A_RUN), found[world], kinds=kinds)
        if found[world].violations:
            break
        for done in (straight, broken):
            shutil.rmtree(done)
        number += 1
    return found


WHAT = "SIGKILL of a training, forked"


@pytest.mark.torture
def test_killed_at_random_instants(card: DatasetCard, place: Place, tmp_path: Path) -> None:
    assert note_all(kill(card, place, tmp_path, KILLS), WHAT, store=place.kind) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_random_instants_in_short(card: DatasetCard, place: Place, tmp_path: Path) -> None:
    kills = 30 if place.kind == "local disk" else 10
    assert note_all(kill(card, place, tmp_path, kills), WHAT, store=place.kind) == []


@pytest.mark.torture
@pytest.mark.parametrize("planted", ["", "no digest check"])
def test_newest_commit_spoilt_after_a_kill(card: DatasetCard, tmp_path: Path, planted: str) -> None:
    """Without what is planted, the next start goes on from an older commit, to the same bits."""
    found = Found()
    want = reference(Job(card, str(tmp_path / "straight" / "store"), tmp_path / "straight", 1, seed=1))
    for number in range(max(1, KILLS // 20)):
        folder = tmp_path / f"spoilt-{number}"
        spoil(Job(card, str(folder / "store"), folder, 1, seed=1, plant=planted), want, found)
    what = "control, must fail: kill, a bit flipped, no digest check" if planted else "kill, then a bit flipped"
    violations = found.bits if planted else found.violations
    note(what, store="local disk", count=len(found.all_kills), violations=len(violations))
    assert (violations != []) == bool(planted), violations


@pytest.mark.torture
@pytest.mark.parametrize(
    ("planted", "shows"),
    [
        ("data position not saved", "uneven"),
        ("a start from an older commit", "lost"),
        ("saves in place", "torn"),
        ("record before data", "torn"),
    ],
)
def test_planted_errors_are_caught(card: DatasetCard, tmp_path: Path, planted: str, shows: str) -> None:
    """The controls: the same kills, and the same judgement, of a product with an error."""
    found = Found()
    want = reference(Job(card, str(tmp_path / "straight" / "store"), tmp_path / "straight", 1, seed=1))
    job = Job(card, str(tmp_path / "broken" / "store"), tmp_path / "broken", 1, seed=1, plant=planted)
    kill_often(job, want, random.Random(1), 6, found, kinds=("record", "any"))
    wrong = getattr(found, shows)
    what = f"control, must fail: SIGKILL of a training, {planted}"
    note(what, store="local disk", count=len(found.all_kills), violations=len(wrong))
    assert wrong != [], found
