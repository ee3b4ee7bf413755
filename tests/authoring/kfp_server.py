"""A small Kubeflow Pipelines server on loopback: the REST words that our verbs need, over real HTTP.

Every request, and every answer of its own, is held against KFP's API definition where `../shared` has it; what does not
fit is answered with 400 and fails the test (`serving`).
"""

import contextlib
import json
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.authoring import kfp_api

RUNS = "/apis/v2beta1/runs"
EXPERIMENTS = "/apis/v2beta1/experiments"
RECURRING = "/apis/v2beta1/recurringruns"
ENDED = ("SUCCEEDED", "FAILED", "CANCELED")
# A step's state, or with the seconds that each of its attempts took.
Frame = tuple[str, dict[str, str]]


@dataclass
class KfpServer:
    """What the server knows, and every request that reached it as (method, path, body, authorization).

    Attributes:
        lives: run -> what becomes of it, a frame at each look; one that has ended stays so until it is retried.
        attempts: run -> seconds that each failed attempt of a step took.
        breaches: what did not fit KFP's API.
        out_of_order: how many of the next requests are answered with 503.
    """

    url: str
    api: kfp_api.Api | None
    requests: list[tuple[str, str, Any, str]] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, str] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    lives: dict[str, list[Frame]] = field(default_factory=dict)
    attempts: dict[str, list[float]] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    token: str = ""
    out_of_order: int = 0

    def answer(self, method: str, path: str, body: Any, authorization: str) -> tuple[int, Any]:
        """Return (status, JSON body) for one request."""
        self.requests.append((method, path, body, authorization))
        if self.out_of_order:
            self.out_of_order -= 1
            return 503, {"error": "upstream connect error", "code": 14}
        if self.api and (breach := self.api.request_breach(method, path, body)):
            self.breaches.append(breach)
            return 400, {"error": breach, "code": 3}
        status, content = self._answer(method, path, body, authorization)
        if self.api and status == 200 and (breach := self.api.answer_breach(method, path, content)):
            self.breaches.append(f"our own answer to {method} {path}: {breach}")
        return status, content

    def _answer(self, method: str, path: str, body: Any, authorization: str) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        words = {name: values[0] for name, values in parse_qs(query).items()}
        if self.token and authorization != f"Bearer {self.token}":
            return 401, {"error": "Unauthenticated", "message": "no valid token"}
        if path == "/apis/v2beta1/healthz":
            return 200, {"multi_user": False}
        if path == EXPERIMENTS:
            return self._experiments(method, body)
        if path == RUNS:
            return (200, self.add_run(body)) if method == "POST" else self._list_runs(words)
        if path.startswith(RECURRING):
            return self._recurring(method, path.removeprefix(RECURRING).strip("/"), words, body)
        run_id, _, verb = path.removeprefix(f"{RUNS}/").partition(":")
        if run_id not in self.runs:
            return 404, {"error": f"Run {run_id} not found", "code": 5}
        if method == "GET" and not verb:
            self._live(run_id)
            return 200, self.runs[run_id]
        if (method, verb) == ("POST", "retry"):
            if self.runs[run_id]["state"] != "FAILED":
                return 400, {"error": "Workflow must be Failed/Error to retry", "code": 3}
            self.become(run_id, "PENDING")
            return 200, {}
        return 404, {"error": f"{method} {path} is not known here"}

    def add_run(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take a run in, as PENDING."""
        run_id = f"run-{len(self.runs) + 1}"
        now = datetime.now(UTC).isoformat()
        self.runs[run_id] = {**body, "run_id": run_id, "created_at": now, "storage_state": "AVAILABLE"}
        self.become(run_id, "PENDING")
        return self.runs[run_id]

    def become(self, run_id: str, state: str, steps: dict[str, str] | None = None) -> None:
        """Give a run a state; a change is remembered in its history, as KFP's store does."""
        run = self.runs[run_id]
        history = run.setdefault("state_history", [])
        now = datetime.now(UTC)
        if not history or history[-1]["state"] != state:
            history.append({"update_time": now.isoformat(), "state": state})
        run["state"] = state
        if steps is None:
            return
        # Argo's nodes, as KFP shows them: the whole, drivers, and attempts by their number.
        names = {"train-x7f2k": state, "root-driver": "SUCCEEDED", "root": state, **steps}
        drivers = {f"{name}-driver": "SUCCEEDED" for name in steps}
        details = [{"display_name": name, "state": one} for name, one in (names | drivers).items()]
        for number, seconds in enumerate(self.attempts.get(run_id, [])):
            began = now - timedelta(hours=10 - number)
            ended = began + timedelta(seconds=seconds)
            times = {"start_time": began.isoformat(), "end_time": ended.isoformat()}
            details.append({"display_name": f"executor({number})", "state": "FAILED", **times})
        for number, one in enumerate(details):
            one["create_time"] = (now + timedelta(milliseconds=number)).isoformat()
        run["run_details"] = {"task_details": details}

    def _live(self, run_id: str) -> None:
        frames = self.lives.get(run_id, [])
        if frames and self.runs[run_id]["state"] not in ENDED:
            self.become(run_id, *frames.pop(0))

    def _list_runs(self, words: dict[str, str]) -> tuple[int, Any]:
        predicates = json.loads(words.get("filter", "{}")).get("predicates", [])
        for one in predicates:
            if (one["operation"], one["key"]) != ("EQUALS", "state") or set(one) != {
                "operation",
                "key",
                "string_value",
            }:
                return 400, {"error": f"filter {one} is not known here", "code": 3}
        found = [run for run in self.runs.values() if all(run["state"] == one["string_value"] for one in predicates)]
        if words.get("sort_by") == "created_at desc":
            found.reverse()
        # A list does not tell the steps.
        found = [{name: value for name, value in run.items() if name != "run_details"} for run in found]
        return 200, _page("runs", found, words)

    def _recurring(self, method: str, rest: str, words: dict[str, str], body: Any) -> tuple[int, Any]:
        key, _, verb = rest.partition(":")
        if method == "POST" and not rest:
            key = f"schedule-{len(self.schedules) + 1}"
            self.schedules[key] = {**body, "recurring_run_id": key, "status": "ENABLED"}
            return 200, self.schedules[key]
        if method == "GET" and not rest:
            return 200, _page("recurringRuns", list(self.schedules.values()), words)
        if key not in self.schedules:
            return 404, {"error": f"Recurring run {key} not found", "code": 5}
        if method == "GET":
            return 200, self.schedules[key]
        if method == "DELETE":
            del self.schedules[key]
        else:
            self.schedules[key]["status"] = {"enable": "ENABLED", "disable": "DISABLED"}[verb]
        return 200, {}

    def _experiments(self, method: str, body: Any) -> tuple[int, Any]:
        if method == "POST":
            self.experiments[body["display_name"]] = f"experiment-{len(self.experiments) + 1}"
            return 200, {**body, "experiment_id": self.experiments[body["display_name"]]}
        known = [{"experiment_id": key, "display_name": name} for name, key in self.experiments.items()]
        return 200, {"experiments": known, "total_size": len(known)}


def _page(name: str, known: list[Any], words: dict[str, str]) -> dict[str, Any]:
    """Two a page, whatever was asked for: a client must follow the token."""
    start = int(words.get("page_token") or 0)
    more = {"next_page_token": str(start + 2)} if len(known) > start + 2 else {}
    return {name: known[start : start + 2], "total_size": len(known), **more}


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[KfpServer]:
    """A server for one test, whose requests must all fit KFP's API."""
    # A context that a person keeps for another server must not matter here.
    monkeypatch.setenv("HOME", str(home))
    server, http = start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
    if server.breaches:
        raise AssertionError(f"does not fit KFP's API: {'; '.join(server.breaches)}")


def start() -> tuple[KfpServer, ThreadingHTTPServer]:
    """Start a server on a free port of loopback; `shutdown()` and `server_close()` of the second end it."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, content = server.answer(self.command, self.path, body, self.headers.get("authorization", ""))
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output clean."""

    if not kfp_api.FILE.is_file():
        warnings.warn(f"requests are not checked: no API definition at {kfp_api.FILE}", stacklevel=2)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api = kfp_api.Api() if kfp_api.FILE.is_file() else None
    server = KfpServer(url=f"http://127.0.0.1:{http.server_port}", api=api)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    return server, http
