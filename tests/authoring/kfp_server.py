"""A small Kubeflow Pipelines server on loopback: the REST words that our verbs need, over real HTTP."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

RUNS = "/apis/v2beta1/runs"
EXPERIMENTS = "/apis/v2beta1/experiments"
RECURRING = "/apis/v2beta1/recurringruns"


@dataclass
class KfpServer:
    """What the server knows, and every request that reached it as (method, path, body, authorization)."""

    url: str
    requests: list[tuple[str, str, Any, str]] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, str] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    token: str = ""

    def answer(self, method: str, path: str, body: Any, authorization: str) -> tuple[int, Any]:
        """Return (status, JSON body) for one request."""
        self.requests.append((method, path, body, authorization))
        path, _, query = path.partition("?")
        if self.token and authorization != f"Bearer {self.token}":
            return 401, {"error": "Unauthenticated", "message": "no valid token"}
        if path == "/apis/v2beta1/healthz":
            return 200, {"multi_user": False}
        if path == EXPERIMENTS:
            return self._experiments(method, body)
        if path == RUNS and method == "POST":
            run_id = f"run-{len(self.runs) + 1}"
            self.runs[run_id] = {**body, "run_id": run_id, "state": "PENDING"}
            return 200, self.runs[run_id]
        if path.startswith(RECURRING):
            return self._recurring(method, path.removeprefix(RECURRING).strip("/"), query, body)
        run_id, colon, verb = path.removeprefix(f"{RUNS}/").partition(":")
        if method == "POST" and (colon, verb) == (":", "retry"):
            if run_id not in self.runs:
                return 404, {"error": f"Run {run_id} not found", "code": 5}
            if self.runs[run_id]["state"] != "FAILED":
                return 400, {"error": "Workflow must be Failed/Error to retry", "code": 3}
            self.runs[run_id]["state"] = "PENDING"
            return 200, {}
        return 404, {"error": f"{method} {path} is not known here"}

    def _recurring(self, method: str, rest: str, query: str, body: Any) -> tuple[int, Any]:
        key, _, verb = rest.partition(":")
        if method == "POST" and not rest:
            key = f"schedule-{len(self.schedules) + 1}"
            self.schedules[key] = {**body, "recurring_run_id": key, "status": "ENABLED"}
            return 200, self.schedules[key]
        if method == "GET" and not rest:
            # Two a page, whatever was asked for: a client must follow the token.
            start = int(parse_qs(query).get("page_token", ["0"])[0] or 0)
            known = list(self.schedules.values())
            more = {"next_page_token": str(start + 2)} if len(known) > start + 2 else {}
            return 200, {"recurringRuns": known[start : start + 2], "total_size": len(known), **more}
        if key not in self.schedules:
            return 404, {"error": f"Recurring run {key} not found", "code": 5}
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

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = KfpServer(url=f"http://127.0.0.1:{http.server_port}")
    threading.Thread(target=http.serve_forever, daemon=True).start()
    return server, http
