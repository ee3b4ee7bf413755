"""An MLflow tracking server on loopback: the calls of its documented REST API that a client makes for one run.

It keeps every value that is logged, so that a point told twice is seen; a field that the API does not have is refused.
https://mlflow.org/docs/latest/rest-api.html
"""

import json
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

FIELDS = {
    "experiments/create": {"name", "artifact_location", "tags"},
    "experiments/get-by-name": {"experiment_name"},
    "runs/search": {"experiment_ids", "filter", "run_view_type", "max_results", "order_by", "page_token"},
    "runs/create": {"experiment_id", "user_id", "run_name", "start_time", "tags"},
    "runs/update": {"run_id", "run_uuid", "status", "end_time", "run_name"},
    "runs/get": {"run_id", "run_uuid"},
    "runs/set-tag": {"run_id", "run_uuid", "key", "value"},
    "runs/log-batch": {"run_id", "metrics", "params", "tags"},
    "metrics/get-history": {"run_id", "run_uuid", "metric_key", "page_token", "max_results"},
}


class MlflowServer:
    """`uri` is for MLFLOW_TRACKING_URI; `runs` is all that was logged, by run id."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.down = False
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        return [(one["step"], one["value"]) for one in self.runs[run_id]["metrics"] if one["key"] == key]

    def answer(self, call: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.down:
            return 503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "down"}
        unknown = set(given) - FIELDS.get(call, set())
        if call not in FIELDS or unknown:
            return 404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"{call}: {sorted(unknown)}"}
        with self._lock:
            name = "_" + call.replace("/", "_").replace("-", "_")
            return getattr(self, name)(given)

    def _experiments_create(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.experiments[given["name"]] = number = str(len(self.experiments) + 1)
        return 200, {"experiment_id": number}

    def _experiments_get_by_name(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        found = self.experiments.get(given["experiment_name"])
        if not found:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}
        plain = {"experiment_id": found, "name": given["experiment_name"], "lifecycle_stage": "active"}
        return 200, {"experiment": {**plain, "artifact_location": "none:/"}}

    def _runs_search(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key, value = given["filter"].removeprefix("tags.").split(" = ")
        wanted = (key.strip("`"), value.strip("'"))
        found = [one for one in self.runs.values() if wanted in one["tags"].items()]
        return 200, {"runs": [self._run(one) for one in reversed(found)]}

    def _runs_create(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        run_id = uuid.uuid4().hex
        tags = {tag["key"]: tag["value"] for tag in given.get("tags", [])}
        info = {"run_id": run_id, "run_uuid": run_id, "experiment_id": given["experiment_id"], "status": "RUNNING"}
        info |= {"run_name": given.get("run_name"), "start_time": int(time.time() * 1000), "lifecycle_stage": "active"}
        self.runs[run_id] = {"info": info, "tags": tags, "params": {}, "metrics": []}
        return 200, {"run": self._run(self.runs[run_id])}

    def _runs_update(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        run = self.runs[given["run_id"]]
        run["info"] |= {name: given[name] for name in ("status", "end_time") if name in given}
        return 200, {"run_info": run["info"]}

    def _runs_get(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {"run": self._run(self.runs[given["run_id"]])}

    def _runs_set_tag(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.runs[given["run_id"]]["tags"][given["key"]] = given["value"]
        return 200, {}

    def _runs_log_batch(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        run, params = self.runs[given["run_id"]], given.get("params", [])
        if len(params) > 100 or len(given.get("metrics", [])) > 1000:
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "too many in one batch"}
        for one in params:
            if run["params"].setdefault(one["key"], one["value"]) != one["value"]:
                return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": f"{one['key']}: can't change"}
        run["metrics"] += given.get("metrics", [])
        return 200, {}

    def _metrics_get_history(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        run = self.runs[given["run_id"]]
        return 200, {"metrics": [one for one in run["metrics"] if one["key"] == given["metric_key"]]}

    def _run(self, run: dict[str, Any]) -> dict[str, Any]:
        newest = {one["key"]: one for one in run["metrics"]}
        listed = {name: [{"key": k, "value": v} for k, v in run[name].items()] for name in ("params", "tags")}
        return {"info": run["info"], "data": {"metrics": list(newest.values()), **listed}}


def _handler(server: MlflowServer) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._answer(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(urlsplit(self.path).path, json.loads(body or b"{}"))

        def _answer(self, path: str, given: dict[str, Any]) -> None:
            status, plain = server.answer(path.partition("/mlflow/")[2], given)
            data = json.dumps(plain).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
