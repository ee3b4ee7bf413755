"""Owns the profile: what the pods of a pipeline's steps are like, in one YAML file.

    default:      keys of every step's pod                  cpu, memory, secret, retries, ...   (see `Pod`)
    steps:        keys that differ in one step              train_ddp: {gpu: 1, shm: 8Gi}
    launcher, num_nodes, job                                defaults of the pipeline's parameters of these names
    service_account                                         of all pods of a run

A step's key takes the place of the default's; a profile's own place is taken by flags (see pod_options.py).
"""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.ground import config
from carryover.ground.config import check, key
from carryover.ground.errors import WrongInput
from carryover.launch.job import JobSettings
from carryover_kfp import catalog
from carryover_kfp.pod import Pod, check_tolerations

LAUNCHERS = TORCHRUN, TRAINJOB = "torchrun", "trainjob"
TRAINING = ("train_ddp", "transfer_train")
# Nothing that it finds wrong is right a minute later.
NEVER_RETRIED = "preflight"


@dataclass(frozen=True)
class Profile:
    """What the pods of all steps of a pipeline are like; every key is checked when it is made."""

    default: Mapping[str, Any] = key({}, help="Keys of every step's pod.")
    steps: Mapping[str, Any] = key({}, help="Step -> keys that differ in its pod.")
    launcher: str = key(TORCHRUN, help="What starts the training: torchrun in the step's pod, or a trainjob.")
    num_nodes: int = key(1, help="Nodes of a TrainJob.")
    job: Mapping[str, Any] = key({}, help="Settings of a TrainJob.")
    service_account: str = key("", help="Service account of all pods of a run; given when it is submitted.")

    def __post_init__(self) -> None:
        check_launcher(self.launcher, self.num_nodes, self.job)
        config.build(Pod, self.default, path="default")
        for step in self.steps:
            self._check_step(str(step))
        for step in TRAINING if self.launcher == TRAINJOB else ():
            if gpu := self.pod(step).gpu:
                raise WrongInput(
                    f"steps.{step}.gpu: {gpu} is not possible with the launcher {TRAINJOB}: this step's pod waits for "
                    "the job and must not hold a GPU; say job.gpu"
                )
        config.build(JobSettings, self.job, path="job")
        check_tolerations(self.job.get("tolerations", ()), "job.tolerations")

    def _check_step(self, step: str) -> None:
        if step not in catalog.components():
            raise WrongInput(
                config.unknown_key(f"steps.{step}", (f"steps.{name}" for name in catalog.components())),
                trouble="unknown-key",
            )
        keys = self.steps[step] or {}
        if not isinstance(keys, Mapping):
            raise WrongInput(f"steps.{step}: {keys!r} is not possible; it must be a mapping of keys")
        config.build(Pod, dict(self.default) | dict(keys), path=f"steps.{step}")
        if step == NEVER_RETRIED and {"retries", "retry_days"} & set(keys):
            raise WrongInput(f"steps.{step}.retries: this step is never tried again; what is wrong stays wrong")

    def pod(self, step: str) -> Pod:
        """Return what the pod of a step is like, by the name of its component."""
        return config.build(Pod, dict(self.default) | dict(self.steps.get(step) or {}), path=f"steps.{step}")


def check_launcher(launcher: str, num_nodes: int, job: Mapping[str, Any]) -> None:
    """Raise WrongInput for what the training step would refuse, hours later."""
    check(launcher in LAUNCHERS, "launcher", launcher, " or ".join(LAUNCHERS))
    check(num_nodes >= 1, "num_nodes", num_nodes, "1 or above")
    if launcher == TORCHRUN:
        check(num_nodes == 1, "num_nodes", num_nodes, f"1 with the launcher {TORCHRUN}, which has one pod")
        if job:
            raise WrongInput(f"job: says what the pods of a TrainJob are; it needs the launcher {TRAINJOB}")


def read_document(given: str) -> dict[str, Any]:
    """Return the unchecked content of a profile: a shipped one by its name, or a YAML file; {} for "".

    Raises:
        WrongInput: when there is none of that name or path (with the nearest name), or it is no YAML mapping.
    """
    if given in shipped():
        return dict(config.read_mapping(str(_folder() / f"{given}.yaml"), what="--profile"))
    if given and not Path(given).suffix and not Path(given).exists():
        near = config.nearest(given, shipped())
        hint = f"; did you mean '{near}'? There" if near else "; there"
        raise WrongInput(
            f"--profile {given}: none of that name{hint} are: {', '.join(shipped())}; or name a file",
            trouble="unknown-key",
        )
    return dict(config.read_mapping(given, what="--profile"))


def build_profile(document: Mapping[str, Any], *, name: str) -> Profile:
    """Return the checked form of a profile's content; `name` is said in errors, "" for none.

    Raises:
        WrongInput: for an unknown key, with the nearest one, or a value that is not possible.
    """
    try:
        return config.build(Profile, document)
    except WrongInput as error:
        raise WrongInput(f"profile {name}: {error}" if name else str(error), trouble=error.trouble) from None


def shipped() -> list[str]:
    """Return the names of the shipped profiles, sorted: the files of `profiles/`."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def _folder() -> Path:
    # profiles/ stands beside components/, in the tree as in the wheel.
    return Path(next(iter(importlib.import_module("carryover_kfp.components").__path__))).parent / "profiles"


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` with the keys of `over` in it: mappings are merged, lists are added to, the rest is replaced."""
    found = dict(under)
    for name, value in over.items():
        old = found.get(name)
        if isinstance(value, Mapping):
            found[name] = merged(old if isinstance(old, Mapping) else {}, value)
        elif isinstance(value, list):
            found[name] = [*(old if isinstance(old, Iterable) and not isinstance(old, str) else ()), *value]
        else:
            found[name] = value
    return found
