"""Owns docs/components/ and docs/pipelines/: a page each, from signature, docstring, metadata and compiled form.

components/<name>/component.py, metadata.yaml, example_pipelines.py   -> docs/components/<name>.md
pipelines/<name>/pipeline.py, metadata.yaml, pipeline.yaml, ...       -> docs/pipelines/<name>.md
all of a kind                                                         -> docs/<kind>s/index.md

python -m tools.component_pages       writes them, and removes pages of what is gone
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from carryover_kfp.assets import Asset, Parameter, ours

ROOT = Path(__file__).resolve().parents[1]
HEAD = "<!-- Written by `make docs` from {source}; change it there. -->"
_ABOUT = {
    "component": "Steps of a pipeline. Each calls one function of `carryover.steps`, as the command line does: a "
    "shell, Argo and a TrainJob start the same step. Every step may be killed and tried again.",
    "pipeline": "Steps in their order, with retries that survive preemption. `carryover run NAME` runs one here, "
    "`carryover submit NAME` on a Kubeflow host; see [On a cluster](../cluster.md).",
}


def pages() -> dict[Path, str]:
    """Return the text of every page by its path."""
    found: dict[Path, str] = {}
    for kind in ("component", "pipeline"):
        assets = [asset for asset in ours() if asset.kind == kind]
        folder = ROOT / "docs" / f"{kind}s"
        found[folder / "index.md"] = _index(kind, assets)
        found |= {folder / f"{asset.name}.md": page(asset) for asset in assets}
    return found


def stale() -> list[Path]:
    """Return the pages that differ from what would be written, and those of what is gone."""
    wanted = pages()
    there = {path for kind in ("components", "pipelines") for path in (ROOT / "docs" / kind).glob("*.md")}
    wrong = [path for path, text in wanted.items() if path not in there or path.read_text(encoding="utf-8") != text]
    return [*wrong, *sorted(there - wanted.keys())]


def page(asset: Asset) -> str:
    """Return the page of one component or pipeline."""
    signature, facts = asset.signature(), asset.facts()
    source = f"{asset.kind}s/{asset.name}"
    kfp = ", ".join(f"{one['name']} {one['version']}" for one in facts["dependencies"]["kubeflow"])
    lines = [f"# {asset.name}", "", HEAD.format(source=source), "", signature.overview, ""]
    lines += [f"{facts['stability'].capitalize()} · Kubeflow {kfp} · {', '.join(facts['tags'])} · {_twin(asset)}", ""]
    if asset.kind == "pipeline":
        lines += _steps(asset)
    inputs = [one for one in signature.parameters if not one.output]
    lines += ["## Inputs", "", "| name | type | default | meaning |", "| --- | --- | --- | --- |"]
    for one in sorted(inputs, key=lambda one: one.default is not ...):
        lines.append(f"| `{one.name}` | `{_type(one)}` | {_default(one)} | {_cell(one.said)} |")
    lines += ["", "## Outputs", "", "| name | type | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{one.name}` | `{one.type}` | {_cell(one.said)} |" for one in signature.outputs()]
    lines += ["", *_example(asset, source), "## Files", ""]
    lines += [f"- [{name}](../../{source}/{name})" for name in (f"{asset.kind}.py", "metadata.yaml")]
    # Thousands of lines: named, and not copied to the site.
    lines += [f"- `{source}/pipeline.yaml`: compiled"] if asset.kind == "pipeline" else []
    return "\n".join([*lines, ""])


def _index(kind: str, assets: list[Asset]) -> str:
    lines = [f"# {kind.capitalize()}s", "", HEAD.format(source=f"{kind}s/"), "", _ABOUT[kind], ""]
    lines += ["| name | does |", "| --- | --- |"]
    lines += [f"| [{one.name}]({one.name}.md) | {_cell(one.signature().overview.splitlines()[0])} |" for one in assets]
    lines += ["", "They keep the rules of kubeflow/pipelines-components: see [The catalog](../catalog.md)."]
    return "\n".join([*lines, ""])


def _twin(asset: Asset) -> str:
    if asset.kind == "pipeline":
        return f"from a shell: `carryover run {asset.name}`"
    name = asset.name.replace("_", "-")
    return f"from a shell: [`carryover {name}`](../commands.md#{name})"


def _steps(asset: Asset) -> list[str]:
    """Say what the compiled pipeline runs, in which order and under which condition."""
    compiled = next(yaml.safe_load_all((asset.folder / "pipeline.yaml").read_text(encoding="utf-8")))
    drawing = (ast.get_docstring(ast.parse(asset.code.read_text(encoding="utf-8"))) or "").partition("\n\n")[2]
    lines = ["## Steps", ""]
    if drawing:
        lines += ["```text", drawing.rstrip(), "```", ""]
    lines += ["| step | component | after | only |", "| --- | --- | --- | --- |"]
    return [*lines, *_tasks(compiled, compiled["root"]["dag"]), ""]


def _tasks(
    compiled: dict[str, Any], dag: dict[str, Any], condition: str = "-", outer: tuple[str, ...] = ()
) -> Iterator[str]:
    """Yield a row for each step of a graph and the graphs in it, those first that others wait for.

    condition and outer: when the graph runs, and what it waits for as a whole.
    """
    waiting = dict(sorted(dag["tasks"].items()))
    while waiting:
        name = next(one for one in waiting if not set(waiting[one].get("dependentTasks", ())) & waiting.keys())
        task = waiting.pop(name)
        inside = compiled["components"][task["componentRef"]["name"]]
        before = tuple(task.get("dependentTasks", ())) or outer
        if "dag" in inside:
            only = task["taskInfo"]["name"] if "triggerPolicy" in task else condition
            yield from _tasks(compiled, inside["dag"], only, before)
            continue
        component = _function(compiled, inside)
        after = ", ".join(f"`{one}`" for one in before) or "-"
        yield f"| `{name}` | [{component}](../components/{component}.md) | {after} | {condition} |"


def _function(compiled: dict[str, Any], component: dict[str, Any]) -> str:
    """Return the name of the component that a step runs: what its executor is told to execute."""
    executor = compiled["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    words = executor["args"]
    return words[words.index("--function_to_execute") + 1]


def _example(asset: Asset, source: str) -> list[str]:
    """Show the file of examples; a test compiles every pipeline in it."""
    path = asset.folder / "example_pipelines.py"
    mark = f"<!-- run by: tests/authoring/test_catalog.py as {source}/{path.name} -->"
    return ["## Example", "", mark, "```python", path.read_text(encoding="utf-8").rstrip(), "```", ""]


def _type(one: Parameter) -> str:
    return one.type.replace("dsl.", "")


def _default(one: Parameter) -> str:
    if one.default is ...:
        return "**needed**"
    return "none" if one.default in ("", None, "[]", "{}") else f"`{one.default}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write all pages."""
    wanted = pages()
    for path in stale():
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()


if __name__ == "__main__":
    main()
