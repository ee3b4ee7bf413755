"""SIGKILL at random instants of committing: the newest checkpoint is readable, nothing acknowledged is lost."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.verify import verify
from carryover.ground.storage import open_store
from tests.checkpoint.support import content, plain, tensors_of

# Commits as fast as it can, so that nearly every instant lies inside a commit; acknowledges each on stdout.
PROGRAM = """
import sys
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.retention import Keep
from tests.checkpoint.support import content, plain, save, start, tensors_of
home = RunHome.at(sys.argv[1])
writer = start(home, "killed")
loaded = home.load_newest()
step = loaded.record.step if loaded else 0
assert not loaded or content(loaded) == plain(tensors_of(step))
print("start", step, flush=True)
while True:
    step += 1
    save(writer, step, score=-abs(step - 7.5), keep=Keep(last=2, best=1))
    print("done", step, flush=True)
"""


def _run_and_kill(home: RunHome, after: float) -> list[tuple[str, int]]:
    """Run the program, kill it `after` seconds from its first commit's start; return what it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, home.store.uri],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("start"), "the next attempt must start by itself"
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    # A line may have been cut by the kill; only whole ones were acknowledged.
    lines = [first, *(line for line in process.stdout if line.endswith("\n"))]
    process.stdout.close()
    process.wait()
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def _kill_often(home: RunHome, times: int, seconds: float) -> None:
    chance = random.Random(3)
    acknowledged = 0
    for _ in range(times):
        said = _run_and_kill(home, chance.uniform(0, seconds))
        assert said[0] in {("start", acknowledged), ("start", acknowledged + 1)}, "went on from the newest commit"
        acknowledged = said[-1][1]
        loaded = home.load_newest(pytest.fail)
        if loaded is None:
            assert acknowledged == 0
            continue
        # The record may have been written although nobody heard of it any more.
        assert loaded.record.step in {acknowledged, acknowledged + 1}
        assert content(loaded) == plain(tensors_of(loaded.record.step))
        # The whole log is read each time where that is cheap.
        assert home.store.local is None or verify(home).problems == ()
        acknowledged = loaded.record.step
    assert verify(home).problems == ()
    # How many a kill lets through is the machine's business; that some did is what makes the rest worth looking at.
    assert acknowledged > 0
    steps = [record.step for record in home.log.records() if record.kind == "commit"]
    assert steps == list(range(1, acknowledged + 1)), "one history, every step committed once"


def test_kill_while_committing_locally(local: RunHome) -> None:
    _kill_often(local, times=12, seconds=0.3)


@pytest.mark.slow
def test_many_kills_while_committing_locally(local: RunHome) -> None:
    _kill_often(local, times=100, seconds=0.2)


@pytest.mark.slow
def test_kill_while_committing_to_s3(s3_store_uri: str) -> None:
    home = RunHome.open(open_store(s3_store_uri), "key")
    home.start({})
    _kill_often(home, times=15, seconds=0.6)
