"""Owns what no schema can say of our WorkflowTemplates: where their tags lead, and when a step is tried again."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tools.argo_expression import evaluate, references, substitute
from tools.manifest_schemas import Manifest, named, pod_patch_problems

FINAL, PREEMPTED, KILLED = (2, 3, 76), (75, 143), 137
# A pod that could not even start is Error, and so is one that was deleted; without an exit code it is -1.
LOST = -1
MOST_KILLS = 10
GLOBALS = {"workflow.uid", "workflow.name", "workflow.namespace"}


def problems(manifests: Sequence[Manifest], schemas: Path) -> list[str]:
    """Return what is wrong with the Argo part of one overlay, a line each."""
    known = {one["metadata"]["name"]: one for one in manifests if one["kind"] == "WorkflowTemplate"}
    found = [line for one in manifests if one["kind"] == "CronWorkflow" for line in _cron(one, known)]
    for manifest in known.values():
        for template in manifest["spec"]["templates"]:
            where = f"{named(manifest)}: {template['name']}"
            found += [f"{where}: {line}" for line in _template(template, manifest, known)]
            if "container" in template:
                found += [f"{where}: {line}" for line in [*_retries(template), *_patch(template, schemas)]]
        names = [template["name"] for template in manifest["spec"]["templates"]]
        if manifest["spec"]["entrypoint"] not in names:
            found.append(f"{named(manifest)}: entrypoint {manifest['spec']['entrypoint']} is no template")
        else:
            inputs = _entry(manifest).get("inputs", {}).get("parameters", ())
            given = {one["name"] for one in _arguments(manifest["spec"])}
            found += [f"{named(manifest)}: {line}" for line in _inputs(inputs, given, exact=False)]
    return found


def _template(template: Mapping[str, Any], manifest: Manifest, known: Mapping[str, Manifest]) -> Iterator[str]:
    """Every tag of a template reads something that is there by then."""
    scope = {f"workflow.parameters.{one['name']}" for one in _arguments(manifest["spec"])} | GLOBALS
    scope |= {f"inputs.parameters.{one['name']}" for one in template.get("inputs", {}).get("parameters", ())}
    tasks = {task["name"]: task for task in template.get("dag", {}).get("tasks", ())}
    outputs = {name: _outputs_of(task, manifest, known) for name, task in tasks.items()}
    for name, task in tasks.items():
        there = scope | {one for before in _before(name, tasks) for one in outputs[before]}
        yield from (f"{name}: {{{{{one}}}}} leads nowhere" for one in references(json.dumps(task)) - there)
        if (target := _target(task, manifest, known)) is None:
            yield f"{name}: there is no template {task.get('templateRef', task.get('template'))}"
            continue
        inputs = target.get("inputs", {}).get("parameters", ())
        yield from (f"{name}: {line}" for line in _inputs(inputs, {one["name"] for one in _arguments(task)}))
    rest = {key: value for key, value in template.items() if key != "dag"}
    there = scope | {one for found in outputs.values() for one in found}
    yield from (f"{{{{{one}}}}} leads nowhere" for one in references(json.dumps(rest)) - there)


def _inputs(inputs: Sequence[Mapping[str, Any]], given: set[str], *, exact: bool = True) -> Iterator[str]:
    needed = {one["name"] for one in inputs if "default" not in one and "value" not in one}
    yield from (f"parameter {name} is not given" for name in sorted(needed - given))
    if exact:
        yield from (f"there is no parameter {name}" for name in sorted(given - {one["name"] for one in inputs}))


def _cron(manifest: Manifest, known: Mapping[str, Manifest]) -> Iterator[str]:
    spec = manifest["spec"]["workflowSpec"]
    pipeline = known.get(spec["workflowTemplateRef"]["name"])
    if pipeline is None:
        yield f"{named(manifest)}: there is no WorkflowTemplate {spec['workflowTemplateRef']['name']}"
        return
    given = {one["name"] for one in _arguments(spec)}
    yield from (f"{named(manifest)}: {line}" for line in _inputs(_arguments(pipeline["spec"]), given))


def _retries(template: Mapping[str, Any]) -> Iterator[str]:
    """Wrong input never runs twice; a lost node always does; what is killed, mostly for memory, only so often."""
    strategy = template.get("retryStrategy", {})
    if not strategy.get("limit") or "maxDuration" in strategy.get("backoff", {}):
        yield "retryStrategy: no limit, or a maxDuration, which counts from the first attempt's start"

    def again(code: int, status: str = "Failed", retries: int = 0) -> bool:
        scope = {"lastRetry.exitCode": str(code), "lastRetry.status": status, "retries": str(retries)}
        return bool(evaluate(strategy.get("expression", ""), scope))

    yield from (
        f"retryStrategy: tried again after exit code {code}"
        for code in FINAL
        for status in ("Failed", "Error")
        if again(code, status)
    )
    if not again(LOST, "Error", 99):
        yield "retryStrategy: not tried again after its node was lost"
    if template["name"] == "preflight":
        return
    yield from (
        f"retryStrategy: not tried again after exit code {code}" for code in PREEMPTED if not again(code, retries=99)
    )
    if not again(KILLED) or again(KILLED, retries=MOST_KILLS):
        yield f"retryStrategy: after exit code {KILLED} it is tried again never, or more than {MOST_KILLS} times"


def _patch(template: Mapping[str, Any], schemas: Path) -> Iterator[str]:
    """The patch of the pod is a pod's part, and gives the command time to save."""
    inputs = {f"inputs.parameters.{one['name']}": one.get("default", "") for one in template["inputs"]["parameters"]}
    patch = yaml.safe_load(substitute(template.get("podSpecPatch", "{}"), inputs))
    yield from (f"podSpecPatch: {line}" for line in pod_patch_problems(patch, schemas))
    grace = [float(word.partition("=")[2]) for word in template["container"]["args"] if word.startswith("--grace")]
    if patch.get("terminationGracePeriodSeconds", 0) < max([60, *(seconds + 15 for seconds in grace)]):
        yield f"podSpecPatch: terminationGracePeriodSeconds {patch.get('terminationGracePeriodSeconds')} is too short"


def _arguments(holder: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return holder.get("arguments", {}).get("parameters", ())


def _entry(manifest: Manifest) -> Mapping[str, Any]:
    spec = manifest["spec"]
    return next(template for template in spec["templates"] if template["name"] == spec["entrypoint"])


def _target(task: Mapping[str, Any], manifest: Manifest, known: Mapping[str, Manifest]) -> Mapping[str, Any] | None:
    """Return the template that a task runs."""
    reference = task.get("templateRef")
    holder = known.get(reference["name"]) if reference else manifest
    name = reference["template"] if reference else task.get("template")
    found = [one for one in holder["spec"]["templates"] if one["name"] == name] if holder else []
    return found[0] if found else None


def _outputs_of(task: Mapping[str, Any], manifest: Manifest, known: Mapping[str, Manifest]) -> list[str]:
    target = _target(task, manifest, known) or {}
    outputs = target.get("outputs", {}).get("parameters", ())
    return [f"tasks.{task['name']}.outputs.parameters.{one['name']}" for one in outputs]


def _before(name: str, tasks: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return every task that has ended when this one starts."""
    direct = set(re.findall(r"[\w-]+", tasks[name].get("depends", ""))) & set(tasks)
    return direct.union(*(_before(one, tasks) for one in direct))
