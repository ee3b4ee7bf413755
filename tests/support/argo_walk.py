"""Owns a walk through our WorkflowTemplates as Argo's controller makes it, each pod a real `carryover` process.

    arguments -> entrypoint -> dag: depends, when, arguments -> container: args filled -> exit code -> retryStrategy
                                                                <- outputs, read from files

Only what our templates use is there, and what is not raises. Backoff is not waited for.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import Tree
from tools.argo_expression import evaluate, substitute

FOLDER = Path(__file__).resolve().parents[2] / "manifests" / "argo"
OUTPUTS = "/tmp/outputs"
GONE = ("Succeeded", "Skipped")
# How emissary reports a process that a signal ended.
KILLED = 137


@dataclass
class Node:
    """What became of one task."""

    phase: str
    outputs: dict[str, str] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)
    said: str = ""


# Given a pod's path ("train-ddp"), the number of the attempt and its processes, may disturb it.
Disturb = Callable[[str, int, Tree], None]
Start = Callable[..., Tree]


def templates() -> dict[str, dict[str, Any]]:
    """Every WorkflowTemplate by its name, as the files have them."""
    found = [one for path in FOLDER.rglob("*.yaml") for one in yaml.safe_load_all(path.read_text())]
    return {one["metadata"]["name"]: one for one in found if one and one["kind"] == "WorkflowTemplate"}


@dataclass
class Workflow:
    """One Workflow of a pipeline's template; its nodes stay what they are until they are retried."""

    pipeline: str
    given: dict[str, str]
    start: Start
    folder: Path
    disturb: Disturb = lambda path, attempt, tree: None
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    nodes: dict[str, Node] = field(default_factory=dict)
    known: Mapping[str, dict[str, Any]] = field(default_factory=templates)

    def run(self) -> Node:
        """Walk on until nothing more can be done; what has succeeded before is not done again."""
        holder = self.known[f"carryover-{self.pipeline}"]
        declared = holder["spec"]["arguments"]["parameters"]
        unknown = set(self.given) - {one["name"] for one in declared}
        assert not unknown, f"no parameters of {self.pipeline}: {unknown}"
        values = {one["name"]: self.given.get(one["name"], one.get("value")) for one in declared}
        missing = [name for name, value in values.items() if value is None]
        assert not missing, f"{self.pipeline} needs {missing}"
        scope = {f"workflow.parameters.{name}": str(value) for name, value in values.items()}
        return self._template(holder, holder["spec"]["entrypoint"], {}, {**scope, "workflow.uid": self.uid}, "")

    def retry(self, **given: str) -> Node:
        """`argo retry`, with `-p name=value`: nodes that failed go, and those that were never reached."""
        self.nodes = {path: node for path, node in self.nodes.items() if node.phase in GONE}
        self.given = {**self.given, **given}
        return self.run()

    def _template(
        self, holder: dict[str, Any], name: str, arguments: Mapping[str, str], scope: Mapping[str, str], path: str
    ) -> Node:
        template = next(one for one in holder["spec"]["templates"] if one["name"] == name)
        inputs = {one["name"]: one.get("default") for one in template.get("inputs", {}).get("parameters", ())}
        assert set(arguments) <= set(inputs), f"{path}: {name} has no inputs {set(arguments) - set(inputs)}"
        inputs |= arguments
        assert None not in inputs.values(), f"{path}: {name} lacks inputs: {inputs}"
        inner = {**scope, **{f"inputs.parameters.{key}": str(value) for key, value in inputs.items()}}
        node = self._pod(template, inner, path) if "container" in template else self._dag(holder, template, inner, path)
        if path:
            self.nodes[path] = node
        return node

    def _dag(self, holder: dict[str, Any], template: dict[str, Any], scope: Mapping[str, str], path: str) -> Node:
        tasks, inner = template["dag"]["tasks"], dict(scope)
        phases: dict[str, str] = {}
        while waiting := [task for task in tasks if task["name"] not in phases]:
            task = next(one for one in waiting if set(_depends(one)) <= set(phases))
            node = self._task(holder, task, inner, phases, f"{path}/{task['name']}".strip("/"))
            phases[task["name"]] = node.phase
            inner |= {f"tasks.{task['name']}.outputs.parameters.{key}": value for key, value in node.outputs.items()}
        bad = [phase for phase in phases.values() if phase not in (*GONE, "Omitted")]
        if bad:
            return Node(bad[0])
        outputs = template.get("outputs", {}).get("parameters", ())
        return Node("Succeeded", {one["name"]: substitute(one["valueFrom"]["parameter"], inner) for one in outputs})

    def _task(
        self, holder: dict[str, Any], task: dict[str, Any], scope: Mapping[str, str], phases: dict[str, str], path: str
    ) -> Node:
        # A word alone stands for (Succeeded || Skipped || Daemoned).
        if any(phases[one] not in GONE for one in _depends(task)):
            self.nodes[path] = Node("Omitted")
        elif "when" in task and not _true(substitute(task["when"], scope)):
            self.nodes[path] = Node("Skipped")
        elif path not in self.nodes:
            arguments = {
                one["name"]: substitute(one["value"], scope) for one in task.get("arguments", {}).get("parameters", ())
            }
            reference = task.get("templateRef")
            other = self.known[reference["name"]] if reference else holder
            globals_ = {key: value for key, value in scope.items() if key.startswith("workflow.")}
            name = reference["template"] if reference else task["template"]
            self._template(other, name, arguments, globals_, path)
        return self.nodes[path]

    def _pod(self, template: dict[str, Any], scope: Mapping[str, str], path: str) -> Node:
        strategy, exits = template["retryStrategy"], []
        while True:
            outputs = self.folder / path / str(len(exits)) / uuid.uuid4().hex
            outputs.mkdir(parents=True)
            args = [
                substitute(word, scope).replace(OUTPUTS, str(outputs / "outputs"))
                for word in template["container"]["args"]
            ]
            tree = self.start(args, outputs / "said.txt")
            self.disturb(path, len(exits), tree)
            code = tree.process.wait()
            exits.append(KILLED if code < 0 else code)
            if exits[-1] == 0:
                declared = template.get("outputs", {}).get("parameters", ())
                values = {one["name"]: _read(outputs, one["valueFrom"]["path"]) for one in declared}
                return Node("Succeeded", values, exits, tree.text())
            last = {"lastRetry.exitCode": str(exits[-1]), "lastRetry.status": "Failed", "retries": str(len(exits) - 1)}
            if len(exits) > int(strategy["limit"]) or not evaluate(strategy["expression"], last):
                return Node("Failed", {}, exits, tree.text())


def _depends(task: Mapping[str, Any]) -> list[str]:
    words = task.get("depends", "").split(" && ") if task.get("depends") else []
    assert all(re.fullmatch(r"[\w-]+", word) for word in words), f"depends: {task['depends']}: is not walked here"
    return words


def _true(words: str) -> bool:
    return bool(evaluate(words, {"true": True, "false": False}))


def _read(folder: Path, path: str) -> str:
    """What a file holds, less one line's end, as Argo's wait container reads it."""
    return (folder / path.removeprefix("/tmp/")).read_text().removesuffix("\n")
