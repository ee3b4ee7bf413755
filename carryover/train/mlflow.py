"""Owns what MLflow is told of a run, where MLFLOW_TRACKING_URI (or MLFLOW_RUN_ID) is set: one MLflow run, continued.

    run           MLFLOW_RUN_ID, else the newest in the experiment with tag carryover.run_key, else a new one
    params        the recipe, key by key; they can't be changed there, so a key that is changed becomes a tag
    metrics       the lines of the curve by step, once their step is saved: what is done again after a kill is not
                  told twice, and what an attempt had no time to tell the next one tells
    tags          carryover.run_key, .checkpoint_uri, .attempts, .lost_steps; at the end .model_uri, .report

The experiment is MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME, else "carryover". Runs in the step's process, which
imports MLflow after the first step of an attempt.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

from carryover.checkpoint.home import RunHome
from carryover.ground import storage
from carryover.ground.console import say, warn
from carryover.ground.errors import RunAgain, Superseded

TRACKING_URI, RUN_ID = "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"
_EVERY_SECONDS = 5.0
_WHERE = ("step", "epoch", "attempt", "time", "event")
# What one call may carry: https://mlflow.org/docs/latest/rest-api.html#request-limits
_MOST_METRICS, _MOST_PARAMS, _LONGEST_PARAM, _LONGEST_TAG = 1000, 100, 6000, 5000
# Its own defaults would try a dead server for minutes, tell its makers of the use, and print to a command's stdout.
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def listener(home: RunHome, run_key: str, recipe: Mapping[str, Any]) -> "MLflow | None":
    """Return the listener where MLflow is asked for, else None."""
    if not (os.environ.get(TRACKING_URI) or os.environ.get(RUN_ID)):
        return None
    if importlib.util.find_spec("mlflow") is None:
        warn(f"{TRACKING_URI} is set, but MLflow is not installed; pip install 'carryover[mlflow]' to log there")
        return None
    return MLflow(home.store.uri, run_key, recipe)


class MLflow:
    """Tells MLflow's server of one attempt."""

    name = "MLflow"
    every = _EVERY_SECONDS

    def __init__(self, home: str, run_key: str, recipe: Mapping[str, Any]) -> None:
        self._home = home
        self._run_key = run_key
        self._recipe = recipe
        self._client: Any = None
        self._run = ""
        self._began = False
        self._waiting: list[Mapping[str, Any]] = []
        # Metric -> its steps that the server has.
        self._told: dict[str, set[int]] = {}

    def hear(self, lines: Sequence[Mapping[str, Any]], newest: Mapping[str, Any]) -> None:
        """See `listeners.Listener`."""
        if not self._began:
            self._begin()
            self._began = True
        lost = sum(line.get("lost_steps") or 0 for line in lines if line.get("event") == "start")
        if starts := [line for line in lines if line.get("event") == "start"]:
            self._tag({"attempts": starts[-1]["attempt"], "lost_steps": lost})
            self._tag({f"changed.{key}": new for line in starts for key, (_, new) in line.get("changes", {}).items()})
        saved = newest.get("commit_step")
        ready = [line for line in (*self._waiting, *lines) if saved is not None and line["step"] <= saved]
        self._log(ready)
        self._waiting = [line for line in (*self._waiting, *lines) if saved is None or line["step"] > saved]

    def end(self, exit_code: int, home: RunHome) -> None:
        """See `listeners.Listener`."""
        if not self._began or exit_code == Superseded.exit_code:
            # Who took the run has its MLflow run too.
            return
        finish = home.finish_record() if exit_code == 0 else None
        if finish:
            self._log(self._waiting)
            final = {f"final_{name}": value for name, value in finish.body["metrics"].items() if _is_number(value)}
            self._log([{"step": finish.body["metrics"]["steps"], **final}])
            store = storage.split(storage.split(self._home)[0])[0]
            model = storage.join(storage.join(store, "models"), finish.body["model"])
            self._tag({"model_uri": model, "report": storage.join(self._home, "report.html")})
        # One that is to go on is neither finished nor failed.
        if exit_code == RunAgain.exit_code:
            self._client.update_run(self._run, status="SCHEDULED")
        else:
            self._client.set_terminated(self._run, status="FAILED" if exit_code else "FINISHED")

    def _begin(self) -> None:
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        client = self._client = MlflowClient()
        self._run = os.environ.get(RUN_ID) or self._found(client)
        client.update_run(self._run, status="RUNNING")
        run = client.get_run(self._run)
        self._told = {
            key: {metric.step for metric in client.get_metric_history(self._run, key)} for key in run.data.metrics
        }
        self._tag({"run_key": self._run_key, "checkpoint_uri": self._home})
        from mlflow.entities import Param

        new = [
            Param(key, str(value)[:_LONGEST_PARAM]) for key, value in self._recipe.items() if key not in run.data.params
        ]
        for first in range(0, len(new), _MOST_PARAMS):
            client.log_batch(self._run, params=new[first : first + _MOST_PARAMS])
        say(f"MLflow run {self._run} of {os.environ.get(TRACKING_URI, '')}", mlflow_run=self._run)

    def _found(self, client: Any) -> str:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID", "") or self._experiment(client)
        known = client.search_runs(
            [experiment], f"tags.`carryover.run_key` = '{self._run_key}'", order_by=["attributes.start_time DESC"]
        )
        if known:
            return known[0].info.run_id
        tags = {"carryover.run_key": self._run_key}
        return client.create_run(experiment, tags=tags, run_name=self._run_key).info.run_id

    def _experiment(self, client: Any) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or "carryover"
        found = client.get_experiment_by_name(name)
        return found.experiment_id if found else client.create_experiment(name)

    def _tag(self, tags: Mapping[str, Any]) -> None:
        for name, value in tags.items():
            self._client.set_tag(self._run, f"carryover.{name}", str(value)[:_LONGEST_TAG])

    def _log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric

        new: list[Any] = []
        for line in lines:
            for key, value in _metrics(line).items():
                steps = self._told.setdefault(key, set())
                if line["step"] not in steps:
                    new.append(Metric(key, value, int(1000 * line.get("time", 0)), line["step"]))
        for first in range(0, len(new), _MOST_METRICS):
            part = new[first : first + _MOST_METRICS]
            self._client.log_batch(self._run, metrics=part)
            for metric in part:
                self._told[metric.key].add(metric.step)


def _metrics(line: Mapping[str, Any]) -> dict[str, float]:
    """Return what of a line is a metric: its numbers, and what a save cost."""
    if line.get("event", "save") != "save":
        return {}
    prefix = "save_" if "event" in line else ""
    found = {f"{prefix}{key}": float(value) for key, value in line.items() if key not in _WHERE and _is_number(value)}
    found.pop("save_number", None)
    if "loss" in line:
        found |= {"attempt": float(line["attempt"]), "epoch": float(line["epoch"])}
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
