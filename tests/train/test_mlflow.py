"""One MLflow run over all attempts, told to a server that keeps every point: none twice, none missing."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from carryover.checkpoint.home import RunHome
from carryover.train import listeners, mlflow
from carryover.train.listeners import heard, listeners_of
from tests.support.mlflow_server import MlflowServer

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
RECIPE = {f"key.{number}": number for number in range(150)}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    found = MlflowServer()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found.uri)
    yield found
    found.close()


class Home:
    """The one thing of a run's home that a listener asks for."""

    store = SimpleNamespace(uri="/somewhere/store/runs/key")

    def __init__(self, finish: dict[str, Any] | None = None) -> None:
        self._finish = SimpleNamespace(body=finish) if finish else None

    def finish_record(self) -> Any:
        return self._finish


def step(number: int, attempt: int, **values: Any) -> dict[str, Any]:
    return {"step": number, "epoch": 0, "attempt": attempt, "time": 100.0 + number, "loss": 1.0 / number, **values}


def start(number: int, attempt: int, **values: Any) -> dict[str, Any]:
    told = {"from_step": number, "lost_steps": 0, "ranks": 1, "nodes": 1, **values}
    return {"step": number, "epoch": 0, "attempt": attempt, "time": 1.0, "event": "start", **told}


def attempt(scratch: Path, lines: list[dict[str, Any]], commit: int, *, code: int = 75, finish: Any = None) -> None:
    """What a training leaves for the listeners, and its end."""
    scratch.mkdir(exist_ok=True)
    (scratch / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (scratch / "progress.json").write_text(json.dumps({"loss": 1.0, "commit_step": commit}))
    home = cast(RunHome, Home(finish))
    with heard(scratch, home, listeners_of(home, "key", RECIPE)) as hearing:
        time.sleep(1.0)
        # A preempted attempt would not wait for an import of seconds.
        hearing.exit_code = code


def test_one_run_over_all_attempts(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(listeners, "_PREEMPTED_SECONDS", 60.0)
    save = {"step": 4, "epoch": 0, "attempt": 1, "time": 1.0, "event": "save", "number": 1, "seconds": 0.5, "bytes": 9}
    first = [start(0, 1), step(2, 1), step(4, 1, val_f1=None), save, step(6, 1)]
    attempt(tmp_path / "a", first, commit=4)
    (run,) = server.runs.values()
    assert run["info"]["status"] == "SCHEDULED" and len(run["params"]) == 150
    assert server.history(run["info"]["run_id"], "loss") == [(2, 0.5), (4, 0.25)], "6 was not saved"
    assert server.history(run["info"]["run_id"], "save_seconds") == [(4, 0.5)]
    assert server.history(run["info"]["run_id"], "val_f1") == []
    # The second saved 6 and 8, and was killed before it could tell anybody; the third knows its lines.
    changes = {"key.3": [3, 33]}
    again = [*first[:4], start(4, 2, lost_steps=2), step(6, 2), step(8, 2), start(8, 3, changes=changes), step(10, 3)]
    finish = {"metrics": {"steps": 10, "val_f1": 0.5, "reason": "x"}, "model": "abc"}
    attempt(tmp_path / "b", again, commit=10, code=0, finish=finish)
    assert len(server.runs) == 1
    run_id = run["info"]["run_id"]
    assert [found for found, _ in server.history(run_id, "loss")] == [2, 4, 6, 8, 10]
    assert server.history(run_id, "attempt") == [(2, 1), (4, 1), (6, 2), (8, 2), (10, 3)]
    assert server.history(run_id, "final_val_f1") == [(10, 0.5)]
    assert run["info"]["status"] == "FINISHED"
    tags = run["tags"]
    assert (tags["carryover.run_key"], tags["carryover.attempts"], tags["carryover.lost_steps"]) == ("key", "3", "2")
    assert capsys.readouterr().out == "", "stdout is the command's own"
    assert tags["carryover.model_uri"] == "/somewhere/store/models/abc" and tags["carryover.changed.key.3"] == "33"


def test_a_server_that_is_down_costs_one_warning(
    server: MlflowServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mlflow.MLflow, "every", 0.1)
    server.down = True
    attempt(tmp_path / "a", [start(0, 1), step(2, 1)], commit=2, code=1)
    assert capsys.readouterr().err.count("warning: MLflow could not be told how training goes") == 1
    assert server.runs == {}


def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert listeners_of(cast(RunHome, Home()), "key", {}) == []
    assert "pip install 'carryover[mlflow]'" in capsys.readouterr().err


def test_nobody_is_told_without_its_variables(monkeypatch: pytest.MonkeyPatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "KUBEFLOW_TRAINER_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    assert listeners_of(cast(RunHome, Home()), "key", {}) == []
