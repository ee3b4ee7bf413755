"""Owns the flags that say what pods are like, and how they and a profile become one.

Flags win over the profile. Those of a machine are for the one that trains: the training step's pod, or the nodes of the
TrainJob where the launcher is one. The others are for the pods of all steps.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import click

from carryover.ground import config
from carryover.ground.errors import WrongInput
from carryover_kfp import catalog
from carryover_kfp import profile as profiles
from carryover_kfp.pod import Pod
from carryover_kfp.profile import TORCHRUN, TRAINING, TRAINJOB, Profile

_HELP = {name: info.help for name, info in config.fields_of(Pod).items()}
# Keys whose flag, which may be given again, has another name.
_FLAG_OF = {
    "tolerations": "toleration",
    "labels": "pod_label",
    "annotations": "pod_annotation",
    "image_pull_secrets": "image_pull_secret",
}
# What only a pod of a step has: a TrainJob's nodes get what they ask for, and their /tmp from their runtime.
_POD_ONLY = ("cpu_limit", "memory_limit", "scratch")


def _machine(flag: str, metavar: str, **words: Any) -> Callable[..., Any]:
    name = flag.removeprefix("--").replace("-", "_")
    return click.option(flag, metavar=metavar, help=f"The machine that trains: {_inside(_HELP[name])}", **words)


def _inside(text: str) -> str:
    """Return a sentence as it stands after a colon; GPU keeps its letters."""
    return text if text[1:2].isupper() else text[0].lower() + text[1:]


_OPTIONS = (
    click.option(
        "--profile",
        default="",
        metavar="NAME|FILE",
        help="What the pods of all steps are like: cpu, gpu, spot-gpu, dev, or a YAML file. Flags win over it; those "
        "of 'the machine that trains' are for the training step's pod, or for the TrainJob's nodes where the launcher "
        "is a trainjob.",
    ),
    click.option(
        "--launcher", default="", metavar="torchrun|trainjob", help="Train in the step's pod, or in a TrainJob."
    ),
    click.option("--num-nodes", type=int, default=None, metavar="N", help="Nodes of the TrainJob."),
    click.option(
        "--job", default="", metavar="FILE|YAML", help="Further settings of the TrainJob, e.g. 'runtime: own'."
    ),
    _machine("--cpu", "CORES", default=""),
    _machine("--cpu-limit", "CORES", default=""),
    _machine("--memory", "SIZE", default=""),
    _machine("--memory-limit", "SIZE", default=""),
    _machine("--gpu", "N", type=int, default=None),
    _machine("--gpu-resource", "NAME", default=""),
    _machine("--shm", "SIZE", default=""),
    _machine("--scratch", "SIZE", default=""),
    click.option(
        "--node-selector", multiple=True, metavar="LABEL=VALUE", help="The machine that trains: a label it must have."
    ),
    click.option(
        "--toleration",
        multiple=True,
        metavar="KEY[=VALUE][:EFFECT]",
        help="The machine that trains: a taint that is tolerated, e.g. nvidia.com/gpu:NoSchedule.",
    ),
    click.option(
        "--queue", default="", metavar="NAME", help="The machine that trains: Kueue's queue it is admitted by."
    ),
    click.option(
        "--secret", default=None, metavar="NAME", help="All pods: the secret with the store's keys; '' for none."
    ),
    click.option("--retries", type=int, default=None, metavar="N", help="All steps: " + _inside(_HELP["retries"])),
    click.option(
        "--retry-days", type=float, default=None, metavar="DAYS", help="All steps: " + _inside(_HELP["retry_days"])
    ),
    click.option("--pod-label", multiple=True, metavar="LABEL=VALUE", help="All pods: a further label."),
    click.option("--pod-annotation", multiple=True, metavar="NAME=VALUE", help="All pods: an annotation."),
    click.option("--image-pull-policy", default="", metavar="POLICY", help="All pods: Always, IfNotPresent or Never."),
    click.option("--image-pull-secret", multiple=True, metavar="NAME", help="All pods: a secret of the registry."),
)


# Parameters of a pipeline, wherever it runs; and what a container of a local run can have.
LOCAL = ("launcher", "num_nodes", "job")
CONTAINER = ("cpu_limit", "memory_limit", "gpu", "shm")


@dataclass(frozen=True)
class Flags:
    """All flags about pods as they were given; "", None and () mean that one was not."""

    profile: str = ""
    launcher: str = ""
    num_nodes: int | None = None
    job: str = ""
    cpu: str = ""
    cpu_limit: str = ""
    memory: str = ""
    memory_limit: str = ""
    gpu: int | None = None
    gpu_resource: str = ""
    shm: str = ""
    scratch: str = ""
    node_selector: tuple[str, ...] = ()
    toleration: tuple[str, ...] = ()
    queue: str = ""
    secret: str | None = None
    retries: int | None = None
    retry_days: float | None = None
    pod_label: tuple[str, ...] = ()
    pod_annotation: tuple[str, ...] = ()
    image_pull_policy: str = ""
    image_pull_secret: tuple[str, ...] = ()

    def given(self) -> dict[str, Any]:
        """Return those that were given; "" is a value only of --secret."""
        return {
            name: value
            for name, value in vars(self).items()
            if value not in ("", None, ()) or (name, value) == _NO_SECRET
        }


_NO_SECRET = ("secret", "")


def pod_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add all flags about pods; the command gets them as one value, `pods`."""
    names = [field.name for field in fields(Flags)]

    @functools.wraps(function)
    def with_pods(**flags: Any) -> Any:
        return function(pods=Flags(**{name: flags.pop(name) for name in names}), **flags)

    for option in reversed(_OPTIONS):
        with_pods = option(with_pods)
    return with_pods


def local_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the same flags, but show only those that mean something without a cluster; the others get a clear error."""
    made = pod_options(function)
    hidden = {field.name for field in fields(Flags)} - {*LOCAL, *CONTAINER}
    for option in made.__click_params__:  # type: ignore[attr-defined]
        option.hidden = option.hidden or option.name in hidden
        if option.name in CONTAINER:
            option.help = f"Each container, with --runner docker: {_inside(_HELP[option.name])}"
    return made


def container_size(flags: Flags, runner: str) -> Pod:
    """Return what the containers of a run on this machine get.

    Raises:
        WrongInput: for a flag that would be ignored, or a value that is not possible.
    """
    given = {name: value for name, value in flags.given().items() if name not in LOCAL}
    for name in given:
        flag = f"--{name.replace('_', '-')}"
        if name not in CONTAINER:
            raise WrongInput(f"{flag}: says what a cluster's pods are like; `carryover run` makes none")
        if runner != "docker":
            raise WrongInput(f"{flag}: is for --runner docker; with {runner} the steps have this machine as it is")
    _check(given)
    return config.build(Pod, given)


def effective(flags: Flags) -> Profile | None:
    """Return the profile with the other flags over it; None where there is neither.

    Raises:
        WrongInput: for a profile or a flag that is not possible.
    """
    given = flags.given()
    if not given:
        return None
    name = given.pop("profile", "")
    document = profiles.read_document(name)
    profiles.build_profile(document, name=name)
    return profiles.build_profile(_overlaid(document, given), name=name)


def _overlaid(document: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a profile's content with flags over it; see the module for which goes where."""
    from carryover_kfp.compiling import read_job

    everywhere, machine = _everywhere(given), _machine_keys(given)
    _check({**everywhere, **machine})
    found = {**document, **{name: given[name] for name in ("launcher", "num_nodes") if name in given}}
    found["job"] = profiles.merged(document.get("job", {}), read_job(given.get("job", "")))
    if found.get("launcher", TORCHRUN) == TRAINJOB:
        _check_job_flags(machine)
        found["job"] = profiles.merged(found["job"], machine)
        machine = {}
    # A flag wins over the keys of a step too: so each step gets all of its keys.
    found["default"], found["steps"] = {}, {}
    for step in catalog.components():
        keys = {**document.get("default", {}), **(document.get("steps", {}).get(step) or {})}
        over = {**everywhere, **(machine if step in TRAINING else {})}
        whole = profiles.merged(keys, over)
        never = ("retries", "retry_days") if step == profiles.NEVER_RETRIED else ()
        found["steps"][step] = {name: value for name, value in whole.items() if name not in never}
    return found


def _everywhere(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: given[name] for name in ("secret", "retries", "retry_days", "image_pull_policy") if name in given}
    for name in ("labels", "annotations"):
        if _FLAG_OF[name] in given:
            found[name] = _words(_FLAG_OF[name], given[_FLAG_OF[name]])
    if "image_pull_secret" in given:
        found["image_pull_secrets"] = list(given["image_pull_secret"])
    return found


def _machine_keys(given: Mapping[str, Any]) -> dict[str, Any]:
    plain = ("cpu", "cpu_limit", "memory", "memory_limit", "gpu", "gpu_resource", "shm", "scratch", "queue")
    found: dict[str, Any] = {name: given[name] for name in plain if name in given}
    if "node_selector" in given:
        found["node_selector"] = _words("node_selector", given["node_selector"])
    if "toleration" in given:
        found["tolerations"] = [_toleration(text) for text in given["toleration"]]
    return found


def _check_job_flags(machine: Mapping[str, Any]) -> None:
    for name in _POD_ONLY:
        if name in machine:
            flag = "--" + name.replace("_", "-")
            raise WrongInput(
                f"{flag}: a TrainJob's nodes have none; with the launcher {TRAINJOB} say --cpu and --memory"
            )


def _check(keys: Mapping[str, Any]) -> None:
    """Check flags alone, so that an error names the flag and not the place in a profile that it goes to."""
    try:
        config.build(Pod, keys)
    except WrongInput as error:
        path, colon, rest = str(error).partition(":")
        name = re.match(r"\w*", path)[0]  # type: ignore[index]
        path = _FLAG_OF.get(name, name) + path.removeprefix(name)
        raise WrongInput("--" + path.replace("_", "-") + colon + rest) from None


def _words(flag: str, texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise WrongInput(f"--{flag.replace('_', '-')} {text}: must be NAME=VALUE")
        found[name] = value
    return found


def _toleration(text: str) -> dict[str, str]:
    """Return "key=value:effect", as kubectl writes taints, in Kubernetes' own form."""
    taint, colon, effect = text.rpartition(":")
    if not colon:
        taint, effect = text, ""
    name, equals, value = taint.partition("=")
    if not name or (colon and not effect):
        raise WrongInput(f"--toleration {text}: must be KEY[=VALUE][:EFFECT], e.g. nvidia.com/gpu:NoSchedule")
    found = {"key": name, "operator": "Equal" if equals else "Exists"}
    return found | ({"value": value} if equals else {}) | ({"effect": effect} if effect else {})
