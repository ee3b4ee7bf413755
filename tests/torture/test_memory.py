"""Memory ends in one rank: exit code 75, the reason in words, and the next attempt goes on to the same bits.

A kernel's own kill needs a memory limit that tests may not set. What stands here for it: an address space that really
ends (RLIMIT_AS) and allocators that really fail, in a forked training; and, below the command line, SIGKILL to the rank
that has most memory, which is whom a kernel would choose and how.
"""

import os
import re
import signal
from pathlib import Path

import pytest

from carryover.data.manifest import DatasetCard
from tests.torture import commands
from tests.torture.judge import Found
from tests.torture.kills import Job, judge_last, reference

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


# With two, once of four times, a rank without memory stood still in C++ instead of failing, and the other waited for
# it: that is for the long suite, until it is known what can be done about it.
@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.torture)])
@pytest.mark.parametrize("planted", ["no memory for Python", "no memory for torch"])
def test_an_allocation_fails_in_one_rank(card: DatasetCard, tmp_path: Path, planted: str, ranks: int) -> None:
    want = reference(Job(card, str(tmp_path / "straight" / "store"), tmp_path / "straight", ranks, seed=1))
    store, folder = str(tmp_path / "broken" / "store"), tmp_path / "broken"
    starved = Job(card, store, folder, ranks, seed=1, plant=planted).start(0)
    assert starved.end() == 75, starved.attempt.said()
    assert "error: run " in starved.attempt.said()
    assert ": out of memory: " in starved.attempt.said()
    again, found = Job(card, store, folder, ranks, seed=1), Found()
    fed = again.start(1)
    fed.end()
    assert re.search(r"attempt 2 goes on from step [1-9],", fed.attempt.said())
    judge_last(again, [starved, fed], want, found)
    assert found.violations == []


def test_the_rank_with_most_memory_is_killed(card: DatasetCard, tmp_path: Path) -> None:
    want = reference(Job(card, str(tmp_path / "straight" / "store"), tmp_path / "straight", 2, seed=2))
    job, found = Job(card, str(tmp_path / "broken" / "store"), tmp_path / "broken", 2, seed=2), Found()
    seen, trees = commands.Seen(job), [commands.start(job, 0)]
    try:
        assert trees[0].wait_until(lambda: seen.commits() >= 2)
        ranks = commands.ranks_of(job, 0)
        biggest = max(ranks, key=lambda rank: commands.resident(ranks[rank]))
        os.kill(ranks[biggest], signal.SIGKILL)
        assert trees[0].process.wait(timeout=commands.DEADLINE) == 75
        assert f"rank {biggest} was lost: SIGKILL ended it, as a kernel does for want of memory" in trees[0].text()
        assert trees[0].living() == []
        trees.append(commands.start(job, 1))
        commands.finish(job, trees, want, found)
    finally:
        for tree in trees:
            tree.kill()
    assert found.violations == []
