"""Owns the settings of a TrainJob: what a person may say of the pods that train, and how that is read and checked.

    --job FILE|YAML --read_settings--> JobSettings --launch.trainjob--> a TrainJob

No run's key and no recipe's: what is said here changes where a run is trained, never what comes of it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carryover.ground import config
from carryover.ground.config import check, key
from carryover.ground.errors import WrongInput

IMAGE_VARIABLE = "CARRYOVER_IMAGE"
# The least that a launcher can beat ten times in, over a store that answers slowly.
LEAST_LEASE_SECONDS = 5
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_RESOURCE = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?)?")
# Trainer writes these itself, and refuses a job that has them.
RESERVED = "PET_"
_NONE: dict[str, Any] = {}


@dataclass(frozen=True)
class JobSettings:
    """What a TrainJob's pods are: each node is one pod, of the same kind as all others."""

    image: str = key("", help=f"The image that trains. Empty: {IMAGE_VARIABLE}, which our images set.")
    runtime: str = key("carryover-ddp", help="The ClusterTrainingRuntime that the job refers to.")
    namespace: str = key("", help="Where the job is made. Empty: the namespace of the pod that asks.")
    cpu: str = key("", help="Processor cores of a node, as Kubernetes writes them: 8, 500m.")
    memory: str = key("", help="Memory of a node: 32Gi.")
    gpu: int = key(0, help="GPUs of a node; one rank for each.", allowed=">= 0")
    gpu_resource: str = key("nvidia.com/gpu", help="What the cluster calls a GPU.")
    shm: str = key("", help="Size of /dev/shm, where data loading processes share batches: 8Gi. Empty: the runtime's.")
    node_selector: Mapping[str, Any] = key(_NONE, help="Labels that a node of the cluster must have.")
    tolerations: tuple[dict[str, Any], ...] = key((), help="Taints that are tolerated, in Kubernetes' own form.")
    queue: str = key("", help="Kueue's queue; the job waits there until it is admitted.")
    priority_class: str = key("", help="Kueue's WorkloadPriorityClass; needs a queue. Pods keep the runtime's.")
    service_account: str = key("carryover-node", help="Service account of the pods; it needs no rights.")
    secret: str = key("carryover-store", help="Secret with the store's keys, which may be absent. Empty: none.")
    env: Mapping[str, Any] = key(_NONE, help="Further environment variables of the pods.")
    labels: Mapping[str, Any] = key(_NONE, help="Further labels of the TrainJob.")
    lease_seconds: int = key(
        1800,
        help="How long the job trains on when nobody who waits for it gives a sign of life.",
        allowed=f">= {LEAST_LEASE_SECONDS}",
    )

    def __post_init__(self) -> None:
        for name in ("cpu", "memory", "shm"):
            value = getattr(self, name)
            check(not value or bool(_QUANTITY.fullmatch(value)), name, value, "a quantity such as 500m, 8 or 32Gi")
        for name in ("runtime", "namespace", "queue", "priority_class", "service_account", "secret"):
            value = getattr(self, name)
            empty = name in ("namespace", "queue", "priority_class", "secret") and not value
            check(empty or bool(_NAME.fullmatch(value)), name, value, "a name of Kubernetes: a-z, 0-9, '-' and '.'")
        check(self.gpu >= 0, "gpu", self.gpu, "0 or above")
        check(bool(_RESOURCE.fullmatch(self.gpu_resource)), "gpu_resource", self.gpu_resource, "such as nvidia.com/gpu")
        check(
            not self.priority_class or bool(self.queue),
            "priority_class",
            self.priority_class,
            "empty without a queue: it is Kueue's; the pods' own priority belongs into a ClusterTrainingRuntime",
        )
        least = LEAST_LEASE_SECONDS
        check(self.lease_seconds >= least, "lease_seconds", self.lease_seconds, f"{least} or above")
        for name in ("node_selector", "env", "labels"):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
        for name in self.env:
            check(bool(_VARIABLE.fullmatch(name)), f"env.{name}", name, "the name of an environment variable")
            check(not name.startswith(RESERVED), f"env.{name}", name, f"no {RESERVED}* name; Trainer sets those itself")
        for name, value in self.labels.items():
            check(bool(_LABEL.fullmatch(value)), f"labels.{name}", value, "up to 63 letters, digits, '-', '_' and '.'")


def read_settings(given: str) -> JobSettings:
    """Return the settings that a person gave: the path of a YAML file, YAML text, or "" for all defaults.

    Raises:
        WrongInput: for what is no YAML mapping, an unknown key, or a value that is not possible.
    """
    return config.build(JobSettings, config.read_mapping(given, what="job"), path="job")


def image_of(settings: JobSettings) -> str:
    """Return the image to train with.

    Raises:
        WrongInput: when neither the settings nor the environment name one.
    """
    image = settings.image or os.environ.get(IMAGE_VARIABLE, "")
    if not image:
        raise WrongInput(f"job.image: missing; give --job 'image: carryover:v0.1.0', or set {IMAGE_VARIABLE}")
    return image


def _words(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the mapping with text as values; numbers may be written as such, but what is true is not "true"."""
    for word, value in values.items():
        plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        check(plain, f"{name}.{word}", value, 'text; quote it, as in "true"')
    return {str(word): str(value) for word, value in values.items()}
