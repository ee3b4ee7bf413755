"""Whole attempts on changing numbers of ranks, through real torchrun: the same global batches, each row once an epoch.

one       1 rank, uninterrupted                        the curve and the batches that all others are held against
chain     1 rank, then 2, then 3, then 1               killed or stopped in between, once with another micro-batch
N         N ranks, uninterrupted, and broken twice     the same bits
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carryover.checkpoint.log import Record
from carryover.checkpoint.verify import verify
from carryover.data.manifest import DatasetCard
from carryover.ground.errors import RunAgain
from tests.train.attempts import Killed, Run, dataset

# 119 rows in batches of 20 and micro-batches of 4: at an epoch's end 19 rows, in five unequal pieces for 2 or 3 ranks.
RECIPE = {
    "data.record_samples": True,
    "env.batch_size": 20,
    "env.per_gpu_batch_size": 4,
    "optimization.max_epochs": 4,
    "optimization.patience": 1000,
    "optimization.log_every_n_steps": 1,
    "model.numerical_mlp.drop_rate": 0.2,
}


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    found = dataset(tmp_path_factory.mktemp("dataset"), count=149)
    assert found.splits["train"].rows % 20 not in (0, 4, 8, 12, 16), "the last batch should have an unequal piece"
    return found


def make(card: DatasetCard, folder: Path, **recipe: Any) -> Run:
    folder.mkdir(parents=True)
    given = {**RECIPE, **{name.replace("__", "."): value for name, value in recipe.items()}}
    return Run(card, str(folder / "store"), given, folder)


def on_ranks(world: int, run: Run, *, stop_after: int = -1, kill_after: int = -1, **changes: Any) -> None:
    """Make one attempt on that many ranks under torchrun."""
    spec = run.claim({name.replace("__", "."): value for name, value in changes.items()})
    plan = run.scratch / f"plan-{spec.handoff['attempt']}.json"
    plan.write_text(json.dumps({"spec": spec.as_json(), "stop_after": stop_after, "kill_after": kill_after}))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    ended = subprocess.run(
        [*torchrun, "-m", "tests.support.attempt_rank", str(plan)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert (ended.returncode == 0) == (kill_after < 0), ended.stderr[-3000:]


def losses(run: Run) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in run.curve() if "loss" in line}


def assert_same_batches(run: Run, reference: Run) -> None:
    """Step for step the rows of the reference, and so each row once an epoch."""
    rows = list(range(run.card.splits["train"].rows))
    assert run.global_batches() == reference.global_batches()
    assert [sorted(seen) for _, seen in sorted(run.seen().items())] == [rows] * 4
    assert verify(run.home).problems == ()


def commits_before_claims(run: Run) -> list[Record]:
    """The newest commit before each claim but the first: where each attempt went on."""
    log = run.home.log
    records = [log.read(number) for number in log.numbers()]
    starts = [place for place, record in enumerate(records) if record.kind == "claim"][1:]
    return [next(record for record in records[start::-1] if record.kind == "commit") for start in starts]


@pytest.fixture(scope="module")
def one(card: DatasetCard, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The uninterrupted run on one rank."""
    run = make(card, tmp_path_factory.mktemp("elastic") / "one")
    run.go()
    return run


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_one_rank_to_two_to_three_to_one(one: Run, card: DatasetCard, tmp_path: Path) -> None:
    """At the same micro-batch the curve is the one-rank run's, but for the order in which numbers are summed."""
    chain = make(card, tmp_path / "chain")
    with pytest.raises(RunAgain):
        chain.go(stop_after=5)
    on_ranks(2, chain, stop_after=6)
    on_ranks(3, chain, stop_after=7)
    chain.go()
    assert [record.step for record in commits_before_claims(chain)] == [5, 11, 18]
    assert_same_batches(chain, one)
    assert losses(chain) == pytest.approx(losses(one), rel=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_other_ranks_and_another_micro_batch(one: Run, card: DatasetCard, tmp_path: Path) -> None:
    """Accumulation makes up the same global batch; dropout falls elsewhere, so the curve is only near."""
    cut = make(card, tmp_path / "cut")
    with pytest.raises(Killed):
        cut.go(kill_after=5)
    on_ranks(2, cut, kill_after=6, env__per_gpu_batch_size=3)
    on_ranks(3, cut, stop_after=5, env__per_gpu_batch_size=7)
    cut.go(env__per_gpu_batch_size=5)
    assert_same_batches(cut, one)
    assert losses(cut) == pytest.approx(losses(one), abs=0.5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", [2, 3])
def test_at_an_unchanged_number_of_ranks_the_same_bits(one: Run, card: DatasetCard, tmp_path: Path, world: int) -> None:
    straight, broken = make(card, tmp_path / "straight"), make(card, tmp_path / "broken")
    on_ranks(world, straight)
    on_ranks(world, broken, kill_after=8)
    on_ranks(world, broken, stop_after=5)
    on_ranks(world, broken)
    for run in (straight, broken):
        assert_same_batches(run, one)
        assert losses(run) == pytest.approx(losses(one), rel=1e-4)
    assert broken.tensors() == straight.tensors()
    assert broken.finish().body["model"] == straight.finish().body["model"]
    assert losses(broken) == losses(straight)


def test_without_dropout_another_micro_batch_gives_the_same_curve(card: DatasetCard, tmp_path: Path) -> None:
    """One rank: pieces of 4, 3, 7 and a whole batch at once; the gradient is that of the global batch each time."""
    still = {"model__numerical_mlp__drop_rate": 0.0, "model__fusion_mlp__drop_rate": 0.0,
             "model__categorical_mlp__drop_rate": 0.0}  # fmt: skip
    whole, cut = (make(card, tmp_path / name, **still) for name in ("whole", "cut"))
    whole.go(env__per_gpu_batch_size=20)
    for size, steps in ((4, 6), (3, 7), (7, 5)):
        with pytest.raises(RunAgain):
            cut.go(env__per_gpu_batch_size=size, stop_after=steps)
    cut.go(env__per_gpu_batch_size=20)
    assert_same_batches(cut, whole)
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-3)


def test_loader_workers_change_nothing(one: Run, card: DatasetCard, tmp_path: Path) -> None:
    """0, 1 or 4 of them, and another number in each attempt: the same batches, the same bits."""
    changing = make(card, tmp_path / "changing")
    for workers, steps in ((4, 5), (0, 4), (1, 6)):
        with pytest.raises(Killed):
            changing.go(env__num_workers=workers, kill_after=steps)
    changing.go(env__num_workers=4)
    assert_same_batches(changing, one)
    assert changing.tensors() == one.tensors()
