"""What a run tells of itself: the curve over kills and stops, the launcher's copies, and the words at each start."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carryover.data.manifest import DatasetCard
from carryover.ground.errors import RunAgain
from carryover.train.lines import COPY, earlier_lines
from carryover.train.run import attempt
from tests.train.attempts import Instant, Killed, Run, dataset


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    return dataset(tmp_path_factory.mktemp("told"))


def run_of(card: DatasetCard, folder: Path) -> Run:
    recipe = {
        "optimization.log_every_n_steps": 1,
        "optimization.top_k": 1,
        "optimization.patience": 99,
        "optimization.val_check_interval": 1.0,
    }
    return Run(card, str(folder / "store"), recipe, folder)


def go(run: Run, scratch: Path, *, lost_step: int | None = None, kill: int = -1, stop: int = -1, **more: Any) -> None:
    """One attempt, told where to leave copies and what the one before reached."""
    scratch.mkdir(exist_ok=True)
    changes = more.pop("changes", {})
    spec = run.claim(more)
    spec = replace(spec, scratch=str(scratch), lost_step=lost_step, changes=changes)
    attempt(spec.as_json(), Instant(stop, kill))  # pyright: ignore[reportArgumentType]


def steps(lines: list[dict[str, Any]]) -> list[int]:
    return [line["step"] for line in lines if "loss" in line]


def events(lines: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [line for line in lines if line.get("event") == name]


def test_one_curve_over_a_kill_and_a_stop(card: DatasetCard, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = run_of(card, tmp_path)
    with pytest.raises(Killed):
        go(run, tmp_path / "first", kill=6)
    first = run.curve()
    # Step 5 was lost with its weights: the copy knows it, the run does not.
    copy = [json.loads(line) for line in (tmp_path / "first" / COPY).read_text().splitlines()]
    assert steps(first) == [1, 2, 3] and steps(copy) == [1, 2, 3, 4, 5]
    told = json.loads((tmp_path / "first" / "progress.json").read_text())
    assert (told["commit_step"], told["total"], told["phase"]) == (3, 16, "training")
    assert told["commit_time"] and told["eta_seconds"] is not None
    said = capsys.readouterr().err
    assert "attempt 1 starts at step 0" in said and "  model     numerical_mlp, categorical_mlp; " in said
    with pytest.raises(RunAgain):
        go(run, tmp_path / "second", lost_step=5, stop=4)
    said = capsys.readouterr().err
    assert "attempt 2 goes on from step 3, epoch 1, sample 48 of it" in said
    assert "  lost        at least 2 steps (about 32 samples, " in said
    assert "  restored    weights (" in said and "nothing was saved" not in said
    go(
        run,
        tmp_path / "third",
        lost_step=7,
        changes={"optimization.max_epochs": [2, 3]},
        **{"optimization.max_epochs": 3},
    )
    said = capsys.readouterr().err
    assert "  changed     optimization.max_epochs: 2 -> 3\n" in said
    assert "epochs 2 -> 3, " in said and "; resume.schedule auto: the learning rate here " in said
    lines = run.curve()
    assert steps(lines) == list(range(1, 25)), "no gap and no double point"
    assert [line["attempt"] for line in lines if "loss" in line] == [1] * 3 + [2] * 4 + [3] * 17
    starts = events(lines, "start")
    assert [(line["from_step"], line["lost_steps"], line["ranks"]) for line in starts] == [
        (0, 0, 1),
        (3, 2, 1),
        (7, 0, 1),
    ]
    assert starts[2]["changes"] == {"optimization.max_epochs": [2, 3]} and "changes" not in starts[1]
    assert [line["reason"] for line in events(lines, "stop")] == ["preempted", "max_epochs"]
    assert all({"step", "epoch", "attempt", "time"} <= set(line) for line in lines)
    assert all(line["val_loss"] > 0 for line in lines if "val_roc_auc" in line)
    saves = events(lines, "save")
    saved = {line["step"] for line in saves}
    assert 3 not in saved and {7, 8, 24} <= saved, "what the save cost after which it was killed was lost"
    assert all(line["bytes"] > 1000 and 0 <= line["seconds"] < line["write_seconds"] + 5 for line in saves)


def test_lines_of_an_older_version(card: DatasetCard, tmp_path: Path):
    run = run_of(card, tmp_path)
    with pytest.raises(RunAgain):
        go(run, tmp_path / "a", stop=4)
    old = (
        b'{"step": 1, "epoch": 0, "attempt": 1, "loss": 0.7}\n\n{"step": 9, "epoch": 0, "attempt": 1, "loss": 0.6}\n?\n'
    )
    run.home.store.delete_folder("metrics")
    run.home.store.write("metrics.jsonl", old)
    with pytest.raises(RunAgain):
        go(run, tmp_path / "b", stop=1)
    assert steps(run.curve()) == [1, 5] and "time" not in run.curve()[0]
    # Who hears of the second attempt alone is told of the first one too.
    heard = [json.loads(line) for line in earlier_lines(run.home, tmp_path / "b" / COPY)]
    assert steps(heard) == [1] and run.home.store.read("metrics.jsonl") == old


def test_a_full_disk_below_the_copies_ends_nothing(card: DatasetCard, tmp_path: Path):
    run = run_of(card, tmp_path)
    scratch = tmp_path / "full"
    scratch.mkdir()
    (scratch / "progress.json").mkdir()
    go(run, scratch)
    assert run.finish().body["reason"] == "max_epochs"
