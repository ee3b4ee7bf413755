"""Owns what the pod of one step is like: its keys, and how each becomes a word of KFP's own API.

    Pod --apply--> task.set_memory_limit(...), kfp.kubernetes.add_toleration(task, ...), ... --compile--> platform spec

KFP itself decides the rest of a pod's security: see docs/cluster.md.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from carryover.ground.config import check, key, unknown_key
from carryover.ground.errors import WrongInput

SECRET_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL_S3",
)
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
# As KFP takes them: no fraction of a Gi, no small k.
_CPU = re.compile(r"(\d*\.)?\d+m?")
_MEMORY = re.compile(r"\d+(E|Ei|P|Pi|T|Ti|G|Gi|M|Mi|K|Ki)?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_STEPS = "KMGTPE"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TOLERATION = ("key", "operator", "value", "effect", "tolerationSeconds")
_PULL = ("", "Always", "IfNotPresent", "Never")
_SECONDS_A_DAY = 86400


@dataclass(frozen=True)
class Pod:
    """What the pod of one step is like, and how often and how long it is tried again."""

    cpu: str = key("", help="Processor cores that it asks for: 4, 500m.")
    cpu_limit: str = key("", help="Processor cores that it gets at most.")
    memory: str = key("", help="Memory that it asks for: 16Gi.")
    memory_limit: str = key("", help="Memory that it gets at most; what is in /dev/shm counts.")
    gpu: int = key(0, help="GPUs.", allowed=">= 0")
    gpu_resource: str = key("nvidia.com/gpu", help="What the cluster calls a GPU.")
    shm: str = key("", help="Size of /dev/shm, where data loading processes share batches: 8Gi.")
    scratch: str = key("", help="Size of /tmp, on the node's disk: 50Gi.")
    node_selector: Mapping[str, Any] = key({}, help="Labels that its node must have.")
    tolerations: tuple[dict[str, Any], ...] = key((), help="Taints that it tolerates, in Kubernetes' own form.")
    queue: str = key("", help="Kueue's queue; the pod waits there until it is admitted.")
    labels: Mapping[str, Any] = key({}, help="Further labels.")
    annotations: Mapping[str, Any] = key({}, help="Annotations.")
    secret: str = key("carryover-store", help="Secret with the store's keys; it may be absent. Empty: none.")
    image_pull_policy: str = key("", help="When the image is pulled.", allowed="Always, IfNotPresent, Never")
    image_pull_secrets: tuple[str, ...] = key((), help="Secrets for the image's registry.")
    run_as_user: int | None = key(None, help="User id that it runs as, never root. None: the image's.")
    retries: int = key(20, help="How often a failed step is tried again.", allowed=">= 0")
    retry_days: float = key(7.0, help="How long, from its first start; a retry that runs then is killed.")

    @property
    def retry_seconds(self) -> float:
        """Return `retry_days` in seconds."""
        return self.retry_days * _SECONDS_A_DAY

    def __post_init__(self) -> None:
        for name in ("cpu", "cpu_limit"):
            value = getattr(self, name)
            check(not value or bool(_CPU.fullmatch(value)), name, value, "a number of cores such as 4, 0.5 or 500m")
        for name in ("memory", "memory_limit", "shm", "scratch"):
            value = getattr(self, name)
            check(not value or bool(_MEMORY.fullmatch(value)), name, value, "a whole number of bytes such as 16Gi")
        for name in ("cpu", "memory"):
            most = getattr(self, f"{name}_limit")
            fits = not most or amount(getattr(self, name) or "0") <= amount(most)
            check(fits, f"{name}_limit", most, f"at least {name}, which is {getattr(self, name)}")
        check(self.gpu >= 0, "gpu", self.gpu, "0 or above")
        check(bool(_KEY.fullmatch(self.gpu_resource)), "gpu_resource", self.gpu_resource, "such as nvidia.com/gpu")
        for name in ("queue", "secret"):
            value = getattr(self, name)
            check(not value or bool(_NAME.fullmatch(value)), name, value, "a name of Kubernetes: a-z, 0-9, '-' and '.'")
        for name in ("node_selector", "labels", "annotations"):
            _check_words(name, getattr(self, name))
        check_tolerations(self.tolerations, "tolerations")
        check(self.image_pull_policy in _PULL, "image_pull_policy", self.image_pull_policy, ", ".join(_PULL[1:]))
        check(self.run_as_user is None or self.run_as_user > 0, "run_as_user", self.run_as_user, "above 0, no root")
        check(self.retries >= 0, "retries", self.retries, "0 or above")
        check(self.retry_days > 0, "retry_days", self.retry_days, "above 0")


def amount(quantity: str) -> float:
    """Return a quantity of Kubernetes as a number: 500m is 0.5, 1Ki is 1024."""
    if quantity.endswith("m"):
        return float(quantity[:-1]) / 1000
    number = quantity.rstrip("i").rstrip(_STEPS)
    suffix = quantity.removeprefix(number)
    power = _STEPS.index(suffix[0]) + 1 if suffix else 0
    return float(number) * (1024 if suffix.endswith("i") else 1000) ** power


def check_tolerations(tolerations: Iterable[Mapping[str, Any]], path: str) -> None:
    """Raise WrongInput for what Kubernetes would refuse as a toleration; KFP passes on whatever it is given."""
    for number, one in enumerate(tolerations):
        where = f"{path}[{number}]"
        if not isinstance(one, Mapping):
            raise WrongInput(f"{where}: {one!r} is not possible; it must be a mapping: key, operator, value, effect")
        for name in one:
            if name not in _TOLERATION:
                raise WrongInput(
                    unknown_key(f"{where}.{name}", (f"{where}.{known}" for known in _TOLERATION)), trouble="unknown-key"
                )
        operator, effect = one.get("operator", "Equal"), one.get("effect", "")
        check(operator in ("Equal", "Exists"), f"{where}.operator", operator, "Equal or Exists")
        check(effect in ("", *_EFFECTS), f"{where}.effect", effect, ", ".join(_EFFECTS))
        wanted = "no value with the operator Exists"
        check(operator == "Equal" or not one.get("value"), f"{where}.value", one.get("value"), wanted)
        value = one.get("value", "")
        check(isinstance(value, str), f"{where}.value", value, 'text; quote it, as in "true"')
        named = bool(one.get("key")) or operator == "Exists"
        check(named, f"{where}.key", one.get("key", ""), "a taint's key; without one the operator is Exists")
        seconds = one.get("tolerationSeconds", 0)
        fits = type(seconds) is int and (effect == "NoExecute" or "tolerationSeconds" not in one)
        check(fits, f"{where}.tolerationSeconds", seconds, "a whole number, and only with the effect NoExecute")


def _check_words(name: str, words: Mapping[str, Any]) -> None:
    for word, value in words.items():
        check(bool(_KEY.fullmatch(str(word))), f"{name}.{word}", word, "a label's name, such as example.com/pool")
        check(isinstance(value, str), f"{name}.{word}", value, 'text; quote it, as in "true"')
        short = name == "annotations" or bool(_VALUE.fullmatch(value))
        check(short, f"{name}.{word}", value, "up to 63 letters, digits, '-', '_' and '.'")


def apply(pod: Pod, task: Any) -> None:
    """Write all of a pod's keys but its retries into a task of a pipeline that is being traced."""
    from kfp import kubernetes

    for name in ("cpu", "memory"):
        if value := getattr(pod, name):
            getattr(task, f"set_{name}_request")(value)
        if value := getattr(pod, f"{name}_limit"):
            getattr(task, f"set_{name}_limit")(value)
    if pod.gpu:
        task.set_accelerator_type(pod.gpu_resource).set_accelerator_limit(pod.gpu)
    for name, path, medium, size in (("dshm", "/dev/shm", "Memory", pod.shm), ("scratch", "/tmp", None, pod.scratch)):
        if size:
            kubernetes.empty_dir_mount(task, volume_name=name, mount_path=path, medium=medium, size_limit=size)
    for one in pod.tolerations:
        words = {"toleration_seconds" if name == "tolerationSeconds" else name: one[name] for name in one}
        kubernetes.add_toleration(task, **words)
    _apply_words(pod, task)
    if pod.secret:
        # Absent keys and an absent secret are no error: a pod may have a workload identity instead.
        kubernetes.use_secret_as_env(task, pod.secret, {name: name for name in SECRET_KEYS}, optional=True)
    if pod.image_pull_policy:
        kubernetes.set_image_pull_policy(task, pod.image_pull_policy)
    if pod.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(pod.image_pull_secrets))
    if pod.run_as_user is not None:
        kubernetes.set_security_context(task, run_as_user=pod.run_as_user, run_as_non_root=True)


def _apply_words(pod: Pod, task: Any) -> None:
    from kfp import kubernetes

    for name, value in pod.node_selector.items():
        kubernetes.add_node_selector(task, name, value)
    for name, value in {**({QUEUE_LABEL: pod.queue} if pod.queue else {}), **pod.labels}.items():
        kubernetes.add_pod_label(task, name, value)
    for name, value in pod.annotations.items():
        kubernetes.add_pod_annotation(task, name, value)
