"""Attempts in this process: stopped, killed, continued with other settings, and what they leave in the store."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carryover.checkpoint.layout import LAST
from carryover.checkpoint.verify import verify
from carryover.data.manifest import DatasetCard, Split
from carryover.ground.errors import RunAgain
from carryover.ground.storage import copy_tree, open_store
from tests.train.attempts import Killed, Run, dataset


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    return dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture
def run(card: DatasetCard, tmp_path: Path) -> Run:
    return Run(card, str(tmp_path / "store"), {"data.record_samples": True}, tmp_path)


def another(run: Run, folder: str, **recipe: Any) -> Run:
    (run.scratch / folder).mkdir()
    values = {name.replace("__", "."): value for name, value in recipe.items()}
    return Run(run.card, str(run.scratch / folder / "store"), {**run.recipe, **values}, run.scratch / folder)


def rates(run: Run) -> dict[int, float]:
    return {line["step"]: line["learning_rate"] for line in run.curve() if "learning_rate" in line}


def assert_once(run: Run, epochs: int) -> None:
    seen, rows = run.seen(), list(range(run.card.splits["train"].rows))
    assert sorted(seen) == list(range(epochs))
    assert all(sorted(found) == rows for found in seen.values())


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"env__precision": "16-mixed", "optimization__optim_type": "adam"},
        {"env__precision": "64", "optimization__optim_type": "sgd", "env__batch_size": 13},
        {"env__precision": "bf16-mixed", "env__num_workers": 1},
    ],
    ids=lambda recipe: recipe.get("env__precision", "32"),
)
def test_killed_and_stopped_it_ends_with_the_same_bits(run: Run, recipe: dict[str, Any]) -> None:
    """Killed before the first commit, between commits, in the second epoch; stopped once; each row once an epoch."""
    straight, broken = another(run, "straight", **recipe), another(run, "broken", **recipe)
    straight.go()
    with pytest.raises(Killed):
        broken.go(kill_after=2)
    assert broken.home.commits() == []
    with pytest.raises(Killed):
        broken.go(kill_after=8)
    with pytest.raises(RunAgain, match=r"^stopped on request; all is saved at step \d: the same command goes on"):
        broken.go(stop_after=2)
    with pytest.raises(Killed):
        broken.go(kill_after=3)
    broken.go()
    assert broken.tensors() == straight.tensors()
    one, other = straight.finish(), broken.finish()
    assert one.body["model"] != ""
    assert one.body["metrics"]["val_roc_auc"] == other.body["metrics"]["val_roc_auc"]
    mine, theirs = broken.state(), straight.state()
    assert {**mine, "seconds": 0} == {**theirs, "seconds": 0}
    for kept in (straight, broken):
        assert_once(kept, 2)
        home = kept.home
        assert verify(home).problems == ()
        assert home.store.read(LAST) == home.commits()[-1].data
    # One curve over all attempts: each check once, no step twice.
    checks = [line["step"] for line in broken.curve() if "val_roc_auc" in line]
    assert checks == [line["step"] for line in straight.curve() if "val_roc_auc" in line]
    assert rates(broken) == rates(straight)


def test_with_more_epochs_a_finished_run_goes_on(run: Run) -> None:
    run.go(optimization__log_every_n_steps=1)
    steps = run.finish().body["metrics"]["steps"]
    assert run.state()["done"] == run.finish().body["reason"] == "max_epochs"
    assert rates(run)[steps] < 0.001
    run.go(optimization__max_epochs=5, optimization__log_every_n_steps=1)
    finish = run.finish()
    assert finish.body["metrics"]["steps"] == steps // 2 * 5
    assert finish.body["limits"]["max_epochs"] == 5
    assert_once(run, 5)
    # It warms up anew and decays to the new end: 10 % of 3 epochs' steps.
    found = rates(run)
    assert found[steps + 1] < found[steps + 3] == pytest.approx(0.01)
    assert found[steps // 2 * 5] < 0.001
    assert [line["step"] for line in run.curve() if "learning_rate" in line] == list(range(1, steps // 2 * 5 + 1))


@pytest.mark.parametrize("schedule", ["auto", "constant", "rewarm"])
def test_another_rate_in_the_middle_takes_effect(run: Run, schedule: str) -> None:
    every = {"optimization__log_every_n_steps": 1, "optimization__max_epochs": 4, "resume__schedule": schedule}
    with pytest.raises(RunAgain):
        run.go(stop_after=10, **every)
    run.go(optimization__learning_rate=0.05, **every)
    found = rates(run)
    before = found[10]
    assert before < 0.01
    if schedule == "auto":
        assert found[11] == pytest.approx(5 * before, rel=0.1)
    if schedule == "constant":
        assert {found[step] for step in found if step > 10} == {0.05}
    if schedule == "rewarm":
        assert found[11] < 0.02
        assert max(found.values()) == pytest.approx(0.05)


def test_other_batch_sizes_and_precisions_go_on_where_it_stood(run: Run) -> None:
    with pytest.raises(RunAgain):
        run.go(stop_after=5)
    position = run.state()["position"]
    with pytest.raises(RunAgain):
        run.go(stop_after=1, env__batch_size=7, env__precision="bf16-mixed")
    assert run.state()["position"] == position + 7
    assert run.state()["precision"] == "bf16-mixed"
    run.go(env__batch_size=32, env__precision="64")
    assert_once(run, 2)


def test_auto_precision_stays_what_it_was(run: Run) -> None:
    with pytest.raises(RunAgain):
        run.go(stop_after=2, env__precision="bf16-mixed")
    run.go(env__precision="auto")
    assert run.state()["precision"] == "bf16-mixed"


def test_time_is_counted_over_attempts(run: Run) -> None:
    run.go(time_limit=1e-6)
    assert (run.finish().body["reason"], run.state()["step"]) == ("time_limit", 1)
    assert run.state()["seconds"] > 0
    # It ended in order: scored, and with a Model.
    assert run.state()["checked_step"] == 1
    run.go(time_limit=1e-6)
    assert run.state()["step"] == 1
    run.go(time_limit=600)
    assert run.finish().body["reason"] == "max_epochs"
    assert_once(run, 2)


def test_patience_and_its_renewal(run: Run) -> None:
    """A learning rate of nothing never gets better; with more patience or more epochs the run goes on."""
    nothing = {"optimization__learning_rate": 1e-30, "optimization__val_check_interval": 1}
    run.go(optimization__patience=3, **nothing)
    assert (run.finish().body["reason"], run.state()["step"], run.state()["best_step"]) == ("early_stopping", 4, 1)
    assert run.finish().body["step"] == 1
    run.go(optimization__patience=5, **nothing)
    assert (run.finish().body["reason"], run.state()["step"]) == ("early_stopping", 6)
    run.go(optimization__patience=5, optimization__max_epochs=9, **nothing)
    assert (run.finish().body["reason"], run.state()["step"]) == ("early_stopping", 11)
    assert run.finish().body["step"] == 1


def test_max_steps_bounds_run_and_schedule(run: Run) -> None:
    run.go(optimization__max_steps=5, optimization__log_every_n_steps=1, optimization__lr_schedule="linear_decay")
    assert (run.finish().body["reason"], run.state()["step"]) == ("max_steps", 5)
    assert rates(run)[5] == pytest.approx(0.01 / 4)


def test_fewer_rows_than_a_batch(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    run.go(env__batch_size=1000, env__per_gpu_batch_size=64)
    rows = run.card.splits["train"].rows
    assert (
        f"the training split has {rows} rows, fewer than env.batch_size 1000: one partial batch"
        in capfd.readouterr().err
    )
    assert (run.state()["step"], run.state()["samples"]) == (2, 2 * rows)
    assert_once(run, 2)


def test_without_validation_the_last_weights_are_final(card: DatasetCard, tmp_path: Path) -> None:
    """prepare-data refuses to make one without rows there, but other hands may."""
    bare = replace(card, digest="0" * 64, splits={**card.splits, "validation": Split(0, ())})
    run = Run(bare, str(tmp_path / "store"), {"optimization.patience": 1}, tmp_path)
    run.go()
    assert (run.finish().body["reason"], run.state()["checks"], run.state()["best_step"]) == ("max_epochs", 0, -1)
    assert run.finish().step == run.state()["step"]
    assert run.finish().body["metrics"]["val_roc_auc"] is None


def test_a_home_that_was_copied_to_another_store_goes_on(run: Run) -> None:
    straight = another(run, "straight")
    straight.go()
    with pytest.raises(Killed):
        run.go(kill_after=8)
    moved = Run(run.card, "memory://attempts-moved", run.recipe, run.scratch)
    source = run.home.store
    copy_tree(source, moved.home.store, source.walk())
    (run.scratch / "store").rename(run.scratch / "gone")
    moved.go()
    assert moved.tensors() == straight.tensors()
    open_store(moved.store).delete_folder("runs")


def test_a_damaged_newest_commit_falls_back_and_gives_the_same_bits(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    straight = another(run, "straight")
    straight.go()
    with pytest.raises(Killed):
        run.go(kill_after=8)
    older, newest = run.home.commits()[-2:]
    only = {ref.digest for ref in newest.objects} - {ref.digest for ref in older.objects}
    path = next(Path(run.home.store.uri, "objects", digest) for digest in sorted(only))
    path.write_bytes(path.read_bytes()[:-1])
    run.go()
    said = capfd.readouterr().err
    assert f"commit {newest.number} (step {newest.step}) can't be used" in said
    assert f"goes on from step {older.step}" in said
    assert run.tensors() == straight.tensors()
