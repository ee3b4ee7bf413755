"""The number of ranks changed from one attempt to the next, on the command line, each attempt killed but the last.

--nproc-per-node 1, SIGKILL    2, SIGKILL    1 to the end      against one uninterrupted run of one rank
"""

import json
from pathlib import Path

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.verify import verify
from carryover.ground.storage import open_store
from tests.conftest import CarryoverCli
from tests.support import processes
from tests.train.attempts import SMALL, Run, dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RECIPE = {
    **SMALL,
    "optimization.max_epochs": 30,
    "optimization.patience": 1000,
    "optimization.val_check_interval": 1.0,
    "optimization.log_every_n_steps": 1,
    "checkpoint.every_steps": 10,
    "data.record_samples": True,
}


def losses(run: Run) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in run.curve() if "loss" in line}


def test_killed_on_one_rank_then_on_two_then_finished_on_one(tmp_path: Path) -> None:
    card, cli, store = dataset(tmp_path / "data"), CarryoverCli(tmp_path), tmp_path / "store"
    settings = [word for name, value in RECIPE.items() for word in ("--set", f"{name}={value}")]

    def command(ranks: int) -> list[object]:
        where = ["--dataset", card.at, "--store", store, "--output", tmp_path / "out"]
        return ["train-ddp", *where, "--nproc-per-node", ranks, *settings]

    def commits() -> int:
        place = open_store(str(store))
        homes = [RunHome.open(place, key) for key in place.folders("runs")]
        return sum(home.log.read(number).kind == "commit" for home in homes for number in home.log.numbers())

    for ranks in (1, 2):
        before = commits()
        tree = processes.start(cli.command(*command(ranks)), said=tmp_path / f"on-{ranks}.txt", cwd=tmp_path)
        assert tree.wait_until(lambda goal=before + 3: commits() >= goal), tree.text()
        tree.kill()
        assert tree.process.returncode == -9
    ended = cli(*command(1))
    assert ended.rc == 0, ended.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["attempts"] == 3
    broken = Run(card, str(store), {}, tmp_path, run_key=result["run_key"])
    straight = Run(card, str(tmp_path / "straight"), RECIPE, tmp_path)
    straight.go()
    rows = list(range(card.splits["train"].rows))
    assert broken.global_batches() == straight.global_batches()
    assert [sorted(seen) for _, seen in sorted(broken.seen().items())] == [rows] * 30
    assert losses(broken) == pytest.approx(losses(straight), rel=1e-3)
    assert verify(broken.home).problems == ()
