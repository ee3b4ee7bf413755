"""Two attempts of one run remove old checkpoints at once: nothing that is kept goes, nor what was resumed from.

CARRYOVER_TORTURE_PRUNES says how many pairs on each store; CARRYOVER_TORTURE_SEED, at which of their calls.
"""

import os
import random
import time
from pathlib import Path

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged
from tests.checkpoint.support import content, plain, tensors_of
from tests.torture import pruner
from tests.torture.conftest import Place
from tests.torture.harness import DEADLINE, Started, new_run, note, processes, said, violations

pytestmark = [pytest.mark.torture, pytest.mark.timeout(7200)]
PRUNES = int(os.environ.get("CARRYOVER_TORTURE_PRUNES", "6"))
# A removal has about so many calls here: a listing, a look at the log, three objects of each old checkpoint.
CALLS = 12


def _start(folder: Path, uri: str, stop_at: int, *, honest: bool = True) -> Started:
    env = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    told = pruner.Pruner(uri, said(folder), stop_at, honest, env)
    process = processes.Process(target=pruner.run, args=(told,), daemon=True)
    process.start()
    return Started(process, Path(told.said))


def _stands(one: Started) -> bool:
    deadline = time.monotonic() + DEADLINE
    while one.process.is_alive() and time.monotonic() < deadline:
        if Path(f"/proc/{one.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.002)
    return False


def _pair(
    folder: Path, uri: str, first_at: int, second_at: int, *, together: bool = True, honest: bool = True
) -> list[str]:
    """An attempt stands still in its removal; its successor comes as far as its own; then both go on, or in turn."""
    zombie = _start(folder, uri, first_at, honest=honest)
    attempts = [zombie]
    found: list[str] = []
    try:
        if not _stands(zombie):
            return [f"the first did not come to its removal: {zombie.lines()[-1:]}"]
        successor = _start(folder, uri, second_at)
        attempts.append(successor)
        if not _stands(successor):
            return [f"the second did not come to its removal: {successor.lines()[-1:]}"]
        zombie.thaw()
        if not together:
            zombie.code()
            found += _kept(uri)
        successor.thaw()
        codes = zombie.code(), successor.code()
        if codes != (76, 0):
            found.append(f"they ended with {codes}: {[one.lines()[-1:] for one in attempts]}")
    finally:
        for one in attempts:
            one.end()
    return [*found, *violations(uri, [step for one in attempts for step in one.saved()]), *_kept(uri)]


def _kept(uri: str) -> list[str]:
    """What is wrong with what is kept: each commit can be loaded, the last attempt's source among them."""
    home = RunHome.at(uri)
    last, commits = home.latest_claim(), home.commits()
    assert last
    found = []
    if last.body["resumed_from"] not in {record.number for record in commits}:
        found.append("what was resumed from is not kept")
    for record in commits:
        try:
            if content(home.load(record)) != plain(tensors_of(record.step)):
                found.append(f"record {record.number} has other tensors")
        except Damaged as error:
            found.append(f"record {record.number}: {error}")
    return found


def test_two_remove_at_once(place: Place, tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("CARRYOVER_TORTURE_SEED", "0")) or time.time_ns())
    found: list[str] = []
    for _ in range(PRUNES):
        at = chance.randrange(CALLS), chance.randrange(CALLS)
        together = chance.random() < 0.5
        wrong = _pair(tmp_path, new_run(place.uri), *at, together=together)
        found += [f"stopped at {at}, {together=}: {one}" for one in wrong]
    note("two attempts removing old checkpoints at once", store=place.kind, count=PRUNES, violations=len(found))
    assert found == []


def test_a_removal_that_looks_before_it_lists_is_caught(tmp_path: Path) -> None:
    """The control: it stands still between the two."""
    found = _pair(tmp_path, new_run(str(tmp_path / "store")), 1, CALLS, together=False, honest=False)
    note("control, must fail: a removal that looks before it lists", store="local disk", count=1, violations=len(found))
    assert any("missing" in wrong for wrong in found), found
