"""Owns what a TrainJob says (trainer.kubeflow.org/v1alpha1), and how what a cluster says of one is read. Pure.

    settings, image, command, nodes, ranks --spec_of--> spec --base_name--> carryover-<run key>-<digest of the spec>
                                                         |
    base name, generation, owner, lease ----trainjob-----+--> the object to create
    the object as it is now ------------state_of--> alive, complete or failed, and words for people

The same run, asked for in the same way, has the same name but for the generation: who asks again finds the job.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from carryover.ground.digests import canonical, digest
from carryover.launch.job import JobSettings

GROUP, VERSION, PLURAL, KIND = "trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob"
# What the runtime calls its replicated job, and the container in it.
NODE = "node"
RUN_KEY_LABEL = "carryover.dev/run-key"
LEASE_ANNOTATION = "carryover.dev/lease"
_QUEUE_LABEL, _PRIORITY_LABEL = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
_STORE_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL_S3",
)
# Variables of this process that the pods get too: how they tell of a training.
_PASSED_ON = (
    "CARRYOVER_DEBUG",
    "CARRYOVER_LOG_FORMAT",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "MLFLOW_TRACKING_URI",
)
_PLAIN = re.compile(r"[a-z0-9]+")
_SHARED_MEMORY = "shm"


class Phase(Enum):
    """What became of a TrainJob."""

    ALIVE = "alive"
    COMPLETE = "complete"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True)
class State:
    """A TrainJob as a cluster says it is; `words` say more than the phase."""

    phase: Phase
    words: str


@dataclass(frozen=True)
class Pod:
    """One pod of a TrainJob.

    Attributes:
        node: its node's number.
        begun: whether its container has run, so that it has a log.
        exit_code: of its container, None while that runs or waits.
        words: its phase, and why it waits.
    """

    name: str
    uid: str
    created: str
    node: int
    begun: bool
    exit_code: int | None
    words: str


def spec_of(settings: JobSettings, image: str, command: Sequence[str], *, nodes: int, ranks: int) -> dict[str, Any]:
    """Return the spec of a TrainJob whose every node runs `carryover` with these words.

    Args:
        nodes: pods, one a node.
        ranks: processes on each.
    """
    trainer: dict[str, Any] = {
        "image": image,
        "command": ["carryover"],
        "args": list(command),
        "env": _environment(settings),
        "numNodes": nodes,
        "numProcPerNode": ranks,
    }
    if resources := _resources(settings):
        trainer["resourcesPerNode"] = {"requests": resources, "limits": dict(resources)}
    return {
        "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": settings.runtime},
        "trainer": trainer,
        "runtimePatches": [_patch(settings)],
    }


def base_name(run_key: str, spec: Mapping[str, Any]) -> str:
    """Return the name of all generations of a job without their number: a DNS label of at most 32 characters."""
    key = run_key[:12] if _PLAIN.fullmatch(run_key[:12]) else digest(run_key.encode())[:12]
    # The same job, however it is to be told of.
    trainer = {**spec["trainer"], "env": [one for one in spec["trainer"]["env"] if one["name"] not in _PASSED_ON]}
    return f"carryover-{key}-{digest(canonical({**spec, 'trainer': trainer}))[:8]}"


def generation_of(base: str, name: str) -> int:
    """Return the generation that a job of this base name is, 0 for a job of another."""
    number = name.removeprefix(f"{base}-")
    return int(number) if number != name and number.isdigit() else 0


def trainjob(
    base: str, generation: int, spec: Mapping[str, Any], settings: JobSettings, *, run_key: str, owner: str, lease: str
) -> dict[str, Any]:
    """Return the TrainJob to create; owner and lease are of this generation and not part of its name."""
    labels = {**settings.labels, "app.kubernetes.io/part-of": "carryover", RUN_KEY_LABEL: label_of(run_key)}
    if settings.queue:
        labels[_QUEUE_LABEL] = settings.queue
    if settings.priority_class:
        labels[_PRIORITY_LABEL] = settings.priority_class
    more = ["--owner", owner, "--lease", lease, "--lease-seconds", str(settings.lease_seconds)]
    trainer = {**spec["trainer"], "args": [*spec["trainer"]["args"], *more]}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": f"{base}-{generation}", "labels": labels, "annotations": {LEASE_ANNOTATION: lease}},
        "spec": {**spec, "trainer": trainer},
    }


def label_of(run_key: str) -> str:
    """Return a run key as a label's value can have it."""
    return run_key if len(run_key) <= 63 and run_key[-1:].isalnum() else digest(run_key.encode())[:32]


def lease_of(job: Mapping[str, Any]) -> str:
    """Return the lease of a TrainJob, "" for one that we did not make."""
    return (job["metadata"].get("annotations") or {}).get(LEASE_ANNOTATION, "")


def state_of(job: Mapping[str, Any]) -> State:
    """Return what a cluster says of a TrainJob; one that is being deleted is gone, whatever its pods still do."""
    conditions = {item["type"]: item for item in job.get("status", {}).get("conditions") or ()}
    holds = {name: item for name, item in conditions.items() if item["status"] == "True"}
    for name, phase in (("Complete", Phase.COMPLETE), ("Failed", Phase.FAILED)):
        if name in holds:
            return State(phase, _words(name.lower(), holds[name]))
    if job["metadata"].get("deletionTimestamp"):
        return State(Phase.GONE, "is being deleted")
    if "Suspended" in holds:
        return State(Phase.ALIVE, _words("suspended", holds["Suspended"]))
    return State(Phase.ALIVE, "started" if job.get("status", {}).get("jobsStatus") else "made")


def pods_of(pods: Iterable[Mapping[str, Any]]) -> dict[int, Pod]:
    """Return node -> its newest pod."""
    found: dict[int, Pod] = {}
    for pod in sorted((_pod(item) for item in pods), key=lambda pod: pod.created):
        found[pod.node] = pod
    return found


def ended_by(codes: Mapping[int, int | None]) -> tuple[int, int]:
    """Return (node, exit code) of what ended a failed job, from node -> its pod's code.

    A final code of any node, else node 0's own, else that of another, else 1 of node 0.
    """
    for final in (2, 3, 76):
        if nodes := [node for node, code in codes.items() if code == final]:
            return min(nodes), final
    ended = {node: code for node, code in codes.items() if code}
    node = min(ended, default=0)
    code = ended.get(node, 1)
    return node, 75 if code == 143 else code


def _environment(settings: JobSettings) -> list[dict[str, Any]]:
    keys = _STORE_KEYS if settings.secret else ()
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": settings.secret, "key": name, "optional": True}}}
        for name in keys
        if name not in settings.env
    ]
    # How a training is told of is said once, where the job is asked for. A password in a URI stays here.
    told = {name: os.environ[name] for name in _PASSED_ON if "@" not in os.environ.get(name, "@")}
    return [*secret, *({"name": name, "value": value} for name, value in {**told, **settings.env}.items())]


def _resources(settings: JobSettings) -> dict[str, Any]:
    """Return what a node asks for, limits as requests: cores are counted by the limit, and memory is never lent."""
    gpus = {settings.gpu_resource: str(settings.gpu)} if settings.gpu else {}
    return {**({"cpu": settings.cpu} if settings.cpu else {}), **_memory(settings), **gpus}


def _memory(settings: JobSettings) -> dict[str, str]:
    return {"memory": settings.memory} if settings.memory else {}


def _patch(settings: JobSettings) -> dict[str, Any]:
    """Return what the settings change of the runtime's pods, in the words that a TrainJob may use."""
    pod: dict[str, Any] = {"serviceAccountName": settings.service_account}
    if settings.node_selector:
        pod["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        pod["tolerations"] = [dict(one) for one in settings.tolerations]
    if settings.shm:
        pod["volumes"] = [{"name": _SHARED_MEMORY, "emptyDir": {"medium": "Memory", "sizeLimit": settings.shm}}]
        mounts = [{"name": _SHARED_MEMORY, "mountPath": "/dev/shm"}]
        pod["containers"] = [{"name": NODE, "volumeMounts": mounts}]
    job = {"name": NODE, "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "manager": "carryover.dev/train-ddp",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}},
    }


def _pod(pod: Mapping[str, Any]) -> Pod:
    labels, status = pod["metadata"].get("labels") or {}, pod.get("status") or {}
    statuses = [item for item in status.get("containerStatuses") or () if item["name"] == NODE]
    state = statuses[0].get("state") or {} if statuses else {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated")
    unscheduled = [
        item for item in status.get("conditions") or () if item["type"] == "PodScheduled" and item["status"] == "False"
    ]
    why = ": ".join(word for word in (waiting.get("reason"), waiting.get("message")) if word)
    if not why and unscheduled:
        why = f"{unscheduled[0].get('reason', '')}: {unscheduled[0].get('message', '')}"
    phase = status.get("phase", "Unknown")
    if terminated:
        why = f"exit code {terminated['exitCode']}"
    return Pod(
        name=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        created=pod["metadata"].get("creationTimestamp") or "",
        node=int(labels.get("batch.kubernetes.io/job-completion-index", 0)),
        begun=bool(state.get("running") or terminated),
        exit_code=terminated["exitCode"] if terminated else None,
        words=f"{phase}: {why}" if why else phase,
    )


def _words(name: str, condition: Mapping[str, Any]) -> str:
    more = [word for word in (condition.get("reason"), condition.get("message")) if word]
    return f"{name} ({': '.join(more)})" if more else name
