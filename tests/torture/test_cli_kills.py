"""The command line killed by SIGKILL at random instants: step, torchrun and ranks at once, judged as the forked ones.

The run that nobody kills is a forked one: so the two harnesses train the same bits, too. CARRYOVER_TORTURE_CLI_KILLS
says how many on each store; CARRYOVER_TORTURE_SEED, at which instants.
"""

import os
import random
from pathlib import Path

import pytest

from carryover.data.manifest import DatasetCard
from tests.torture.commands import kill_commands
from tests.torture.conftest import Place
from tests.torture.judge import Found, note_all
from tests.torture.kills import Job, reference, seed

pytestmark = [pytest.mark.torture, pytest.mark.timeout(7200)]
KILLS = int(os.environ.get("CARRYOVER_TORTURE_CLI_KILLS", "4"))
MOST_KILLS_OF_A_RUN = 6


def test_commands_killed_at_random_instants(card: DatasetCard, place: Place, tmp_path: Path) -> None:
    found = {1: Found(), 2: Found()}
    chance, number = random.Random(seed()), 0
    while (left := KILLS - sum(len(one.all_kills) for one in found.values())) > 0:
        world = 1 + number % 2
        straight, broken = tmp_path / f"straight-{number}", tmp_path / f"broken-{number}"
        want = reference(Job(card, str(straight / "store"), straight, world, seed=number))
        job = Job(card, f"{place.uri}/{number}", broken, world, seed=number)
        kill_commands(job, want, chance, min(left, MOST_KILLS_OF_A_RUN), found[world])
        if found[world].violations:
            break
        number += 1
    assert note_all(found, "SIGKILL of the command line, torchrun and ranks", store=place.kind) == []
