"""A Kubernetes API on loopback that really runs TrainJobs: real HTTP, real processes, the real runtime's rules.

POST trainjobs    held against the published schema, closed: a field that is not in it is refused, as is a name taken
the controller    numNodes processes with the job's command and the environment that Trainer gives; when one ends, the
                  rules of manifests/trainer/runtime.yaml say whether all start again, counted or not, or the job fails
GET pods, log     what of them a cluster would show; a log can be followed
reviews, kinds    which rights we have, which kinds there are, and the names of the objects of some

Every request is noted as "verb resource". What it is not: no scheduler, no images, no network of a job's own.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import pytest
import yaml

from tests.support.processes import MARK, Tree

REPOSITORY = Path(__file__).parents[2]
SCHEMA = REPOSITORY.parent / "shared" / "schemas" / "trainer.kubeflow.org_trainjobs.yaml"
RUNTIME = REPOSITORY / "manifests" / "trainer" / "runtime.yaml"
NAMESPACE = "carryover"
_JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_GRACE_SECONDS = 60.0


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def closed(schema: Any) -> Any:
    """Return a CRD's schema that refuses what it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {name: closed(value) for name, value in schema.items() if not name.startswith("x-kubernetes")}
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


@dataclass
class PodRun:
    """One pod: a process, and what it has printed with the time of each line."""

    job: str
    name: str
    node: int
    tree: Tree
    created: str = field(default_factory=now)
    lines: list[tuple[str, str]] = field(default_factory=list)
    disrupted: bool = False

    @property
    def code(self) -> int | None:
        """The exit code as a container's status has it."""
        code = self.tree.process.poll()
        return 128 - code if code is not None and code < 0 else code

    def hold(self, held: bool) -> None:
        """Let the pod's ranks stand still, or go on; the process that started them lives all the while."""
        for pid in self.tree.living():
            if b"carryover.train.rank" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGSTOP if held else signal.SIGCONT)

    def read(self) -> None:
        """Take in the process's lines until it ends."""
        assert self.tree.process.stdout
        for line in self.tree.process.stdout:
            self.lines.append((now(), line.rstrip("\n")))

    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def to_json(self) -> dict[str, Any]:
        code = self.code
        state = {"running": {"startedAt": self.created}} if code is None else {"terminated": {"exitCode": code}}
        phase = "Running" if code is None else "Succeeded" if code == 0 else "Failed"
        labels = {
            "jobset.sigs.k8s.io/jobset-name": self.job,
            "batch.kubernetes.io/job-completion-index": str(self.node),
        }
        return {
            "metadata": {
                "name": self.name,
                "uid": self.tree.mark,
                "creationTimestamp": self.created,
                "labels": labels,
            },
            "status": {"phase": phase, "containerStatuses": [{"name": "node", "state": state}]},
        }


class KubeServer:
    """The API and its controller.

    Attributes:
        asked: every "verb resource" that was asked for.
        jobs: name -> TrainJob.
        history: every pod that ever ran, oldest first.
        restarts: name -> "counted" or "uncounted" for each time that all its pods were started again.
        held_back: whether new jobs are suspended, as Kueue does until there is room for them.
        refused: "verb resource" that a review says no to.
        kinds: "group/version" -> plural -> names of its objects, of what the doctor looks at.
    """

    def __init__(self, folder: Path, *, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: list[PodRun] = []
        self.history: list[PodRun] = []
        self.restarts: dict[str, list[str]] = {}
        self.held_back = False
        self.refused: set[str] = set()
        self.kinds: dict[str, dict[str, list[str]]] = {
            "trainer.kubeflow.org/v1alpha1": {"trainjobs": [], "clustertrainingruntimes": ["carryover-ddp"]}
        }
        self._environment = dict(environment)
        self._rules = yaml.safe_load(RUNTIME.read_text())["spec"]["template"]["spec"]
        versions = yaml.safe_load(SCHEMA.read_text())["spec"]["versions"]
        self._schema = closed(versions[0]["schema"]["openAPIV3Schema"])
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.kubeconfig = folder / "kubeconfig.yaml"
        server = f"http://127.0.0.1:{self._http.server_address[1]}"
        context = {"cluster": "here", "user": "me", "namespace": NAMESPACE}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": server}}],
            "contexts": [{"name": "here", "context": context}],
            "users": [{"name": "me", "user": {"token": "none"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def close(self) -> None:
        """Stop everything that was started."""
        self._closing.set()
        for thread in self._threads:
            thread.join(30)
        self._http.shutdown()
        self._http.server_close()

    def suspend(self, name: str, wanted: bool) -> None:
        """Do what Kueue does when it takes a job's place away, or gives it one."""
        self.jobs[name]["spec"]["suspend"] = wanted

    def running(self, name: str) -> list[PodRun]:
        """Return the pods of a job that are there now, by their nodes."""
        with self._lock:
            return sorted((pod for pod in self.pods if pod.job == name), key=lambda pod: pod.node)

    def lose(self, pod: PodRun) -> None:
        """Lose a pod as with its machine: no process of it gets a word out."""
        pod.disrupted = True
        pod.tree.kill()

    def kinds_at(self, path: str) -> tuple[int, Mapping[str, Any]]:
        """Return the answer to who asks for the kinds of a group, or for the objects of one of them."""
        _, _, group, version, *rest = path.split("/")
        kinds = self.kinds.get(f"{group}/{version}")
        elsewhere = rest[:1] == ["namespaces"] and rest[1:2] != [NAMESPACE]
        if kinds is None or elsewhere or (rest and rest[-1] not in kinds):
            return 404, _status(404, "the server could not find the requested resource")
        if not rest:
            return 200, {"resources": [{"name": name} for name in kinds]}
        return 200, {"items": [{"metadata": {"name": name}} for name in kinds[rest[-1]]]}

    def condition(self, name: str, kind: str) -> Mapping[str, Any] | None:
        found = self.jobs.get(name, {}).get("status", {}).get("conditions", ())
        return next((item for item in found if item["type"] == kind and item["status"] == "True"), None)

    def create(self, job: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Take a TrainJob in; returns the HTTP status and the object, or why not."""
        name = job["metadata"]["name"]
        try:
            jsonschema.validate({key: value for key, value in job.items() if key != "metadata"}, self._schema)
        except jsonschema.ValidationError as error:
            return 422, _status(422, f"{error.json_path}: {error.message}")
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
            return 422, _status(422, f"metadata.name {name}")
        with self._lock:
            if name in self.jobs:
                return 409, _status(409, f'trainjobs "{name}" already exists')
            job = deepcopy(job)
            job["metadata"] |= {"uid": uuid.uuid4().hex, "creationTimestamp": now(), "namespace": NAMESPACE}
            job["status"] = {"conditions": []}
            if self.held_back:
                job["spec"]["suspend"] = True
            self.jobs[name] = job
            self.restarts[name] = []
        thread = threading.Thread(target=self._control, args=(name,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return 201, deepcopy(job)

    def delete(self, name: str) -> None:
        """Delete a job, and its pods with it."""
        with self._lock:
            self.jobs.pop(name)

    def _control(self, name: str) -> None:
        counted = 0
        while not self._closing.is_set() and name in self.jobs:
            if self.jobs[name]["spec"].get("suspend"):
                self._say(name, "Suspended", "True", "Suspended", "the job is suspended")
                time.sleep(0.1)
                continue
            self._say(name, "Suspended", "False", "Resumed", "the job is resumed")
            verdict = self._attempt(name)
            if verdict in ("Complete", "Failed"):
                self._say(name, verdict, "True", "JobSet", f"the jobset is {verdict.lower()}")
                return
            if verdict == "counted":
                counted += 1
                if counted > self._rules["failurePolicy"]["maxRestarts"]:
                    self._say(name, "Failed", "True", "ReachedMaxRestarts", "jobset failed due to max restarts")
                    return
            if verdict in ("counted", "uncounted"):
                self.restarts[name].append(verdict)
            with self._lock:
                self.pods = [pod for pod in self.pods if pod.job != name]

    def _attempt(self, name: str) -> str:
        """Run all pods once; returns how it ended: Complete, Failed, counted, uncounted, or suspended."""
        trainer = self.jobs[name]["spec"]["trainer"]
        port = _free_port()
        for node in range(trainer["numNodes"]):
            self._start(name, node, trainer, port)
        pods = self.running(name)
        self.jobs[name]["status"]["jobsStatus"] = [
            {"name": "node", "ready": 1, "succeeded": 0, "failed": 0, "active": 1, "suspended": 0}
        ]
        while True:
            if self._closing.is_set() or name not in self.jobs or self.jobs[name]["spec"].get("suspend"):
                self._end(pods, grace=0 if self._closing.is_set() else _GRACE_SECONDS)
                return "suspended"
            codes = [pod.code for pod in pods]
            if failed := [pod for pod in pods if pod.code]:
                verdict = self._verdict(failed[0])
                self._end(pods)
                return verdict
            if all(code == 0 for code in codes):
                return "Complete"
            time.sleep(0.02)

    def _verdict(self, pod: PodRun) -> str:
        """Hold a failed pod against the runtime's rules, as the Job and the JobSet would."""
        job_rules = self._rules["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
        reason, message = "BackoffLimitExceeded", ""
        for number, rule in enumerate(job_rules):
            assert rule["action"] == "FailJob"
            if pod.disrupted if "onPodConditions" in rule else pod.code in rule["onExitCodes"]["values"]:
                reason = "PodFailurePolicy"
                message = (
                    f"Container node for pod {NAMESPACE}/{pod.name} failed with exit code {pod.code} matching FailJob "
                    f"rule at index {number}"
                )
                if "onPodConditions" in rule:
                    message = (
                        f"Pod {NAMESPACE}/{pod.name} has condition DisruptionTarget matching FailJob rule at index 0"
                    )
                break
        for rule in self._rules["failurePolicy"]["rules"]:
            patterns = rule.get("onJobFailureMessagePatterns", [""])
            if reason in rule["onJobFailureReasons"] and any(re.search(one, message) for one in patterns):
                return {"FailJobSet": "Failed", "RestartJobSetAndIgnoreMaxRestarts": "uncounted"}[rule["action"]]
        return "counted"

    def _start(self, name: str, node: int, trainer: Mapping[str, Any], port: int) -> None:
        command, *words = [*trainer["command"], *trainer["args"]]
        assert command == "carryover"
        mark = uuid.uuid4().hex
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "KUBE", "PET_"))},
            **{item["name"]: value for item in trainer["env"] if (value := self._value(item)) is not None},
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_NODE_RANK": str(node),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
            MARK: mark,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "carryover", *words],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        pod = PodRun(name, f"{name}-node-0-{node}-{mark[:5]}", node, Tree(process, mark, self.folder / "none"))
        threading.Thread(target=pod.read, daemon=True).start()
        with self._lock:
            self.pods.append(pod)
            self.history.append(pod)

    def _value(self, item: Mapping[str, Any]) -> str | None:
        """Return what a container's variable is: the secret of the test has what leads to its store."""
        if "value" in item:
            return item["value"]
        reference = item["valueFrom"]["secretKeyRef"]
        assert (reference["name"], reference["optional"]) == ("carryover-store", True)
        return self._environment.get(reference["key"])

    def _end(self, pods: list[PodRun], *, grace: float = _GRACE_SECONDS) -> None:
        """End pods as a kubelet does: SIGTERM to their first process, then SIGKILL to what is left."""
        for pod in pods:
            if pod.code is None:
                pod.tree.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while any(pod.code is None for pod in pods) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pod in pods:
            pod.tree.kill()

    def _say(self, name: str, kind: str, status: str, reason: str, message: str) -> None:
        job = self.jobs.get(name)
        if job is None:
            return
        held = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}
        kept = [item for item in job["status"]["conditions"] if item["type"] != kind]
        job["status"] = {**job["status"], "conditions": [*kept, held]}


def _handler(server: KubeServer) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def _answer(self, status: int, body: Mapping[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _note(self, verb: str, resource: str) -> None:
            server.asked.append(f"{verb} {resource}")

        def _named(self, place: str, path: str) -> str:
            return path.removeprefix(place).strip("/")

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            label, _, value = query.get("labelSelector", "").partition("=")
            if url.path.startswith(_JOBS):
                if name := self._named(_JOBS, url.path):
                    self._note("get", "trainjobs")
                    job = server.jobs.get(name)
                    self._answer(200 if job else 404, job or _status(404, f'trainjobs "{name}" not found'))
                    return
                self._note("list", "trainjobs")
                found = [job for job in server.jobs.values() if job["metadata"].get("labels", {}).get(label) == value]
                self._answer(200, {"items": found})
            elif url.path.startswith(_PODS):
                name, _, tail = self._named(_PODS, url.path).partition("/")
                if not name:
                    self._note("list", "pods")
                    assert label == "jobset.sigs.k8s.io/jobset-name"
                    self._answer(200, {"items": [pod.to_json() for pod in server.running(value)]})
                    return
                assert tail == "log"
                self._note("get", "pods/log")
                pod = next((pod for pod in server.pods if pod.name == name), None)
                if pod is None:
                    self._answer(404, _status(404, f'pods "{name}" not found'))
                    return
                with contextlib.suppress(ConnectionError):
                    self._log(pod, query)
            else:
                self._answer(*server.kinds_at(url.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/selfsubjectaccessreviews"):
                asked = body["spec"]["resourceAttributes"]
                what = "/".join(asked[word] for word in ("resource", "subresource") if word in asked)
                allowed = f"{asked['verb']} {what}" not in server.refused
                self._answer(201, {"status": {"allowed": allowed}})
                return
            assert urlsplit(self.path).path == _JOBS
            self._note("create", "trainjobs")
            self._answer(*server.create(body))

        def _log(self, pod: PodRun, query: Mapping[str, str]) -> None:
            """Give a log in pieces; a followed one breaks now and then, as lines to a cluster do."""
            assert query.get("timestamps", "").lower() == "true"
            since = time.time() - float(query.get("sinceSeconds", 1e9))
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            sent, until = 0, time.monotonic() + 4
            while True:
                over = pod.code is not None
                for when, line in pod.lines[sent:]:
                    sent += 1
                    if datetime.fromisoformat(when).timestamp() >= since:
                        data = f"{when} {line}\n".encode()
                        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                if over or time.monotonic() > until:
                    break
                time.sleep(0.05)
            self.wfile.write(b"0\r\n\r\n")

    return Handler


def _status(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def check_there() -> None:
    """Skip the test where the published schemas are not beside the checkout."""
    if not SCHEMA.exists():
        pytest.skip(f"no schemas at {SCHEMA.parent}")
