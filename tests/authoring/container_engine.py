"""A container engine on loopback, as far as kfp needs one: the Docker API over real HTTP, each "container" a process.

Like podman's, it removes a container that was started with AutoRemove before anyone can ask for its exit code.
"""

import json
import os
import re
import struct
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Engine:
    """What was asked of the engine, and its containers by id."""

    url: str = ""
    images: set[str] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return (status, JSON value or bytes) for one request."""
        path = re.sub(r"^/v[\d.]+", "", path.partition("?")[0])
        fixed = {
            "/_ping": b"OK",
            "/version": {"ApiVersion": "1.44", "MinAPIVersion": "1.24", "Version": "1"},
            "/info": {"SecurityOptions": []},
            "/images/create": {},
        }
        if path in fixed:
            return 200, fixed[path]
        if match := re.fullmatch(r"/images/(.+)/json", path):
            known = match[1] in self.images
            return (200, {"Id": match[1], "RepoTags": [match[1]]}) if known else (404, {"message": "no such image"})
        if path == "/containers/create":
            key = uuid.uuid4().hex
            self.created.append(body)
            self.bodies[key] = body
            return 201, {"Id": key, "Warnings": []}
        match = re.fullmatch(r"/containers/([0-9a-f]+)(?:/(\w+))?", path)
        if not match or match[1] not in self.bodies:
            return 404, {"message": f"{method} {path}: no such container"}
        return self._container(match[1], match[2] or method)

    def _container(self, key: str, verb: str) -> tuple[int, Any]:
        if verb == "json":
            return 200, {"Id": key, "Config": {"Tty": False}, "HostConfig": {"LogConfig": {"Type": "json-file"}}}
        if verb == "start":
            command = [*(self.bodies[key].get("Entrypoint") or []), *self.bodies[key]["Cmd"]]
            # The image's python3 is this Python.
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            self.processes[key] = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PATH": path}
            )
            return 204, b""
        if verb == "logs":
            said, _ = self.processes[key].communicate()
            if self.bodies[key]["HostConfig"].get("AutoRemove"):
                del self.bodies[key]
            return 200, struct.pack(">BxxxL", 1, len(said)) + said
        if verb == "wait":
            return 200, {"StatusCode": self.processes[key].wait() % 256}
        if verb in ("stop", "DELETE"):
            self.processes[key].kill()
            if verb == "DELETE":
                self.removed.append(key)
            return 204, b""
        return 500, {"message": f"{verb} is not known here"}


def start() -> tuple[Engine, ThreadingHTTPServer]:
    """Start an engine on a free port of loopback; `shutdown()` and `server_close()` of the second end it."""
    engine = Engine()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, content = engine.answer(self.command, self.path, body)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            kind = "text/plain" if isinstance(content, bytes) else "application/json"
            self.send_header("Content-Type", kind)
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if status != 204:
                self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output clean."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    engine.url = f"tcp://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    return engine, http
