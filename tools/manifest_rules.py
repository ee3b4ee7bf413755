"""Owns what no schema can say of our manifests: names that lead somewhere, pods that are locked, commands that exist.

Each rule takes all manifests of one overlay and yields a line for each thing that is wrong.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import yaml

from carryover.cli.main import command as carryover
from carryover.cli.params import FLAG, StepCommand
from tools.manifest_schemas import Manifest, named

SECRET = "carryover-store"
PART = ("app.kubernetes.io/part-of", "carryover")
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
WRITABLE = {"/tmp", "/home/carryover"}
_IMAGE = re.compile(r"[\w./:-]+:v\d+\.\d+\.\d+")


@dataclass(frozen=True)
class Pod:
    """A pod that a manifest makes: where its parts stand, whatever kind it is."""

    where: str
    spec: Mapping[str, Any]
    labels: Mapping[str, str]
    containers: Sequence[Mapping[str, Any]]


def problems(manifests: Sequence[Manifest]) -> list[str]:
    """Return what is wrong with the manifests of one overlay, a line each."""
    return [line for rule in _RULES for line in rule(manifests)]


def pods(manifests: Sequence[Manifest]) -> Iterator[Pod]:
    """Yield every pod that the manifests make."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "WorkflowTemplate":
            for template in spec.get("templates", ()):
                if container := template.get("container"):
                    labels = template.get("metadata", {}).get("labels", {})
                    yield Pod(f"{named(manifest)}: {template['name']}", template, labels, [container])
        elif manifest["kind"] == "ClusterTrainingRuntime":
            for job in spec["template"]["spec"]["replicatedJobs"]:
                yield _of_template(f"{named(manifest)}: {job['name']}", job["template"]["spec"]["template"])
        elif manifest["kind"] in ("Deployment", "Job", "CronJob"):
            inner = spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec
            yield _of_template(named(manifest), inner["template"])


def _of_template(where: str, template: Mapping[str, Any]) -> Pod:
    spec = template["spec"]
    labels = template.get("metadata", {}).get("labels", {})
    return Pod(where, spec, labels, [*spec.get("initContainers", ()), *spec["containers"]])


def _security(manifests: Sequence[Manifest]) -> Iterator[str]:
    for pod in pods(manifests):
        yield from _differs(f"{pod.where}: securityContext", pod.spec.get("securityContext"), POD_SECURITY)
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
        for container in pod.containers:
            where = f"{pod.where}: {container.get('name', 'container')}"
            yield from _differs(f"{where}: securityContext", container.get("securityContext"), CONTAINER_SECURITY)
            mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", ())}
            for path in WRITABLE - {path for path, name in mounts.items() if "emptyDir" in volumes.get(name, {})}:
                yield f"{where}: nothing writable at {path}, and the root file system is read-only"
            if {"name": "HOME", "value": "/home/carryover"} not in container.get("env", ()):
                yield f"{where}: HOME is not /home/carryover"
            if not _IMAGE.fullmatch(container.get("image", "")):
                yield f"{where}: image {container.get('image')}: its tag is not a version"
        if pod.labels.get(PART[0]) != PART[1]:
            yield f"{pod.where}: no label {PART[0]}: {PART[1]}, so that no NetworkPolicy holds for it"
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(field):
                yield f"{pod.where}: {field}"


def _differs(where: str, found: Any, wanted: Mapping[str, Any]) -> Iterator[str]:
    for name, value in wanted.items():
        if (found or {}).get(name) != value:
            yield f"{where}: {name} is {(found or {}).get(name)}, not {value}"


def _accounts(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Every service account and role that is named exists, and nobody may do everything."""
    there = {named(manifest) for manifest in manifests}
    wanted = [(pod.where, pod.spec.get("serviceAccountName", "default")) for pod in pods(manifests)]
    wanted += [
        (named(one), one["spec"]["serviceAccountName"])
        for one in manifests
        if one["kind"] == "WorkflowTemplate" and "serviceAccountName" in one["spec"]
    ]
    for manifest in manifests:
        if manifest["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            role = manifest["roleRef"]
            if f"{role['kind']}/{role['name']}" not in there:
                yield f"{named(manifest)}: there is no {role['kind']} {role['name']}"
            wanted += [(named(manifest), subject["name"]) for subject in manifest["subjects"]]
        for rule in manifest.get("rules", ()) if manifest["kind"] in ("Role", "ClusterRole") else ():
            if any("*" in word for words in rule.values() for word in words):
                yield f"{named(manifest)}: a rule has '*'"
    for where, account in wanted:
        if f"ServiceAccount/{account}" not in there:
            yield f"{where}: there is no service account {account}"


def _secrets(manifests: Sequence[Manifest]) -> Iterator[str]:
    """No secret is applied, and those that pods name may be absent: a cloud's identity takes their place."""
    for manifest in manifests:
        if manifest["kind"] == "Secret":
            yield f"{named(manifest)}: a secret's values belong into no git"
    for pod in pods(manifests):
        for container in pod.containers:
            found = [source["secretRef"] for source in container.get("envFrom", ()) if "secretRef" in source]
            found += [
                env["valueFrom"]["secretKeyRef"]
                for env in container.get("env", ())
                if "secretKeyRef" in env.get("valueFrom", {})
            ]
            for secret in found:
                if secret.get("name") != SECRET or secret.get("optional") is not True:
                    yield f"{pod.where}: secret {secret.get('name')}: is not {SECRET}, or not optional"


def _commands(manifests: Sequence[Manifest]) -> Iterator[str]:
    for pod in pods(manifests):
        for container in pod.containers:
            if container.get("command") != ["carryover"]:
                yield f"{pod.where}: command is {container.get('command')}, not [carryover]"
            for line in wrong_words(container.get("args", [])):
                yield f"{pod.where}: args: {line}"


def wrong_words(args: Sequence[str]) -> Iterator[str]:
    """Yield what our command line would not understand in the words of a container, whatever fills their gaps."""
    if list(args) in (["--help"], ["--version"]):
        return
    name, words = (args[0], list(args[1:])) if args else ("", [])
    found = carryover.get_command(click.Context(carryover), name)
    if found is None:
        yield f"there is no command '{name}'"
        return
    options = {flag: one for one in found.params if isinstance(one, click.Option) for flag in one.opts}
    end = words.index("--") if "--" in words else len(words)
    given: set[str] = set()
    for word in words[:end]:
        flag, _, rest = word.partition("=")
        if flag == FLAG and isinstance(found, StepCommand):
            flag = f"--{rest.partition('=')[0]}"
        if flag not in options:
            yield f"{word}: '{name}' has no flag {flag}"
        given.add(flag)
    for option in {id(one): one for one in options.values()}.values():
        if option.required and not given.intersection(option.opts):
            yield f"'{name}' needs {option.opts[0]}"
    arguments = [one for one in found.params if isinstance(one, click.Argument) and one.required]
    if len(words[end + 1 :]) != len(arguments):
        yield f"'{name}' takes {len(arguments)} words behind its flags, not {len(words[end + 1 :])}"


def _runtime(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A TrainJob ends for good with 2, 3 and 76, and starts again uncounted when it was preempted."""
    for manifest in manifests:
        if manifest["kind"] != "ClusterTrainingRuntime":
            continue
        spec = manifest["spec"]["template"]["spec"]
        rules = spec["failurePolicy"]["rules"]
        for code, action in ((2, "final"), (3, "final"), (76, "final"), (75, "preempted"), (143, "preempted")):
            # Kubernetes' own words (pod_failure_policy.go).
            message = f"Container node for pod a/b failed with exit code {code} matching FailJob rule at index 1"
            found = next((rule["name"] for rule in rules if _matches(rule, message)), "none")
            if found != action:
                yield f"{named(manifest)}: exit code {code} meets the rule {found}, not {action}"
        if any(job["template"]["spec"].get("backoffLimit") != 0 for job in spec["replicatedJobs"]):
            yield f"{named(manifest)}: backoffLimit is not 0, so that one new pod would wait for the others' rendezvous"


def _matches(rule: Mapping[str, Any], message: str) -> bool:
    patterns = rule.get("onJobFailureMessagePatterns", ())
    return not patterns or any(re.search(pattern, message) for pattern in patterns)


def secret_values(text: str) -> list[str]:
    """Return the keys of secrets in a file's text that have a value."""
    found = [one for one in yaml.safe_load_all(text) if isinstance(one, dict) and one.get("kind") == "Secret"]
    return [
        key for one in found for part in ("data", "stringData") for key, value in one.get(part, {}).items() if value
    ]


Rule = Callable[[Sequence[Manifest]], Iterator[str]]
_RULES: tuple[Rule, ...] = (_security, _accounts, _secrets, _commands, _runtime)
