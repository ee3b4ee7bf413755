"""Owns the README of each component and pipeline: written from its signature and docstring, never by hand.

python -m carryover_kfp.readme           writes them all
python -m carryover_kfp.readme --check   exits with 1 when one is out of date
"""

import argparse
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from carryover_kfp import catalog

_HEADER = "<!-- Written by `python -m carryover_kfp.readme` from the docstring; change it there. -->"


def pages() -> Iterator[tuple[Path, str]]:
    """Yield (path, text) of the README of every component and pipeline."""
    for name in catalog.components():
        component = catalog.load_component(name)
        yield _page(name, component, component.python_func, kind="component")
    for name in catalog.pipelines():
        pipeline = catalog.load_pipeline(name)
        yield _page(name, pipeline, pipeline.pipeline_func, kind="pipeline")


def stale() -> list[Path]:
    """Return the READMEs that differ from what would be written."""
    return [path for path, text in pages() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def _page(name: str, component: Any, function: Any, *, kind: str) -> tuple[Path, str]:
    import docstring_parser

    folder = Path(inspect.getfile(function)).parent
    words = docstring_parser.parse(inspect.cleandoc(function.__doc__ or ""))
    said = {item.arg_name: _one_line(item.description) for item in words.params}
    inputs = component.component_spec.inputs or {}
    outputs = component.component_spec.outputs or {}
    rows_in = [(f"`{key}`", _kind(spec.type), _default(spec), said.get(key, "")) for key, spec in inputs.items()]
    rows_out = [
        (f"`{key}`", _kind(spec.type), _one_line(spec.description) or said.get(key, ""))
        for key, spec in outputs.items()
    ]
    about = [f"# {name}", "", _HEADER, "", words.short_description or "", ""]
    if words.long_description:
        about += [words.long_description, ""]
    text = "\n".join(
        [
            *about,
            "## Inputs",
            "",
            *_table(("name", "type", "default", "meaning"), rows_in),
            "",
            "## Outputs",
            "",
            *_table(("name", "type", "meaning"), rows_out),
            "",
            *_use(name, kind),
            *_facts(folder),
        ]
    )
    return folder / "README.md", text


def _use(name: str, kind: str) -> list[str]:
    code = f"from carryover_kfp.{kind}s.{name} import {name}"
    lines = ["## Use", "", "```python", code, "```", ""]
    if kind == "pipeline":
        lines += [f"Here: `carryover run {name} --param ...`. On a cluster: `carryover submit {name} --host URL`, or "]
        lines[-1] += "upload `pipeline.yaml`."
        lines += [""]
    return lines


def _facts(folder: Path) -> list[str]:
    facts = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))
    needs = [f"{item['name']} {item['version']}" for item in facts["dependencies"]["kubeflow"]]
    rows = [("stability", facts["stability"]), ("needs", ", ".join(needs)), ("tags", ", ".join(facts["tags"]))]
    return ["## Facts", "", *_table(("", ""), rows), ""]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _kind(name: str) -> str:
    """Return a type as people write it: "system.Model@0.0.1" is Model, "List[String]" is list."""
    names = {"String": "str", "Integer": "int", "Float": "float", "Boolean": "bool"}
    if name.startswith("system."):
        return name.removeprefix("system.").partition("@")[0]
    return names.get(name) or name.rpartition(".")[2].partition("[")[0].lower()


def _default(spec: Any) -> str:
    if not spec.optional:
        return "required"
    return "" if spec.default is None else f"`{spec.default!r}`"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def main() -> None:
    """Write all READMEs, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when one is out of date")
    if parser.parse_args().check:
        for path in (found := stale()):
            print(f"{path} is out of date: run `python -m carryover_kfp.readme`", file=sys.stderr)
        sys.exit(bool(found))
    for path, text in pages():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
