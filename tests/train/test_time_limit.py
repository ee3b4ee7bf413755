"""A time limit over several real attempts: recorded, said, and never spent in silence."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from carryover.data.manifest import DatasetCard
from carryover.ground.errors import RunAgain
from carryover.steps.train_ddp import train_ddp
from tests.train.attempts import Run, dataset

EACH: dict[str, Any] = {"resume__time_limit": "attempt"}


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    return dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture
def run(card: DatasetCard, tmp_path: Path) -> Run:
    return Run(card, str(tmp_path / "store"), {}, tmp_path)


def test_over_all_attempts_it_says_what_is_left(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunAgain):
        run.go(stop_after=3, time_limit=1000)
    assert "time limit: 1000 s over all attempts, 0.0 s used, 1000.0 s left" in capfd.readouterr().err
    used = run.state()["seconds"]
    assert used > 0
    with pytest.raises(RunAgain):
        run.go(stop_after=3, time_limit=1000)
    assert f"1000 s over all attempts, {used:.1f} s used, {1000 - used:.1f} s left" in capfd.readouterr().err
    assert run.state()["seconds"] > used
    assert (run.state()["limits"]["time_limit"], run.state()["limits"]["per_attempt"]) == (1000, False)
    # What was used before counts: this attempt ends where it stands, in order.
    step = run.state()["step"]
    run.go(time_limit=used)
    assert f"{used:g} s over all attempts" in (said := capfd.readouterr().err) and "0.0 s left" in said
    assert (run.finish().body["reason"], run.state()["step"]) == ("time_limit", step)
    assert run.finish().body["limits"]["time_limit"] == used


def test_a_spent_one_says_what_to_do(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.go(time_limit=1e-6)
    records = run.home.log.numbers()
    result = train_ddp(dataset=run.card.at, store=run.store, run_key="run", time_limit=1e-6)
    assert result["reason"] == "time_limit"
    said = capsys.readouterr().err
    assert "run run is finished (time_limit): its Model is given again" in said
    assert "its time is spent: " in said
    assert "give a --time-limit above that, or none, or --set resume.time_limit=attempt" in said
    assert run.home.log.numbers() == records
    # And each of the three does it.
    run.go(time_limit=1e-6, **EACH)
    assert run.state()["step"] == 2
    run.go(time_limit=600)
    assert run.finish().body["reason"] == "max_epochs"


def test_each_attempt_has_its_own(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    for attempt in (1, 2, 3):
        used = run.state()["seconds"] if attempt > 1 else 0.0
        capfd.readouterr()
        run.go(time_limit=1e-6, **EACH)
        # It is spent by the first step, and never before one.
        assert (run.finish().body["reason"], run.state()["step"]) == ("time_limit", attempt)
        assert f"time limit: 1e-06 s for this attempt; {used:.1f} s were used before it" in capfd.readouterr().err
    assert run.finish().body["limits"]["per_attempt"] is True
    # Back to all together, what they used counts again.
    run.go(time_limit=1e-6)
    assert run.state()["step"] == 3


def test_without_one_nothing_is_said(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    run.go(optimization__max_epochs=1)
    assert "time limit" not in capfd.readouterr().err


def test_a_clock_that_jumps_changes_nothing(card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day goes days forth and back at every look; limits, intervals and the time used do not follow it."""
    settings = {"checkpoint.every_steps": None, "checkpoint.every_seconds": 3600.0}
    straight, jumping = (
        Run(card, str(tmp_path / name / "store"), settings, tmp_path / name) for name in ("straight", "jumping")
    )
    straight.go(time_limit=3600)
    real, days = time.time, itertools.cycle((-3, 9, -40))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + 86_400 * next(days))
        with pytest.raises(RunAgain):
            jumping.go(stop_after=7, time_limit=3600)
        jumping.go(time_limit=3600)
    assert (jumping.finish().body["reason"], jumping.tensors()) == ("max_epochs", straight.tensors())
    assert 0 < jumping.state()["seconds"] < 3600
