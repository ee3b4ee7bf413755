"""Owns what a component's or pipeline's folder says of itself, read from its files without running any of them.

components/<name>/component.py             here
components/<category>/<name>/component.py  in kubeflow/pipelines-components; pipelines/ and pipeline.py the same
"""

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from carryover.ground.errors import WrongInput

KINDS: dict[str, Literal["component", "pipeline"]] = {"components": "component", "pipelines": "pipeline"}
# Folders that are no components: what a category shares, and tests.
_ASIDE = {"shared", "tests", "__pycache__"}


@dataclass(frozen=True)
class Parameter:
    """One parameter or output: its annotation as it stands, its default (... for none), its words in the docstring."""

    name: str
    type: str
    default: Any
    said: str

    @property
    def output(self) -> bool:
        """Whether it is an artifact that the component writes."""
        return "Output[" in self.type or "OutputPath" in self.type


@dataclass(frozen=True)
class Signature:
    """The decorated function as its source has it."""

    name: str
    overview: str
    parameters: tuple[Parameter, ...]
    returns: str
    returns_said: str
    fields: tuple[Parameter, ...]
    """The named values of what it returns."""

    def outputs(self) -> list[Parameter]:
        """Return the artifacts that it writes, as people call their types, and then what it returns."""
        artifacts = [
            Parameter(one.name, one.type.partition("[")[2].rstrip("]").rpartition(".")[2], ..., one.said)
            for one in self.parameters
            if one.output
        ]
        return [*artifacts, *self.fields]


@dataclass(frozen=True)
class Asset:
    """One folder: what kind it is, where it lies, and the module that it is imported as."""

    kind: Literal["component", "pipeline"]
    folder: Path
    module: str

    @property
    def name(self) -> str:
        """The folder's name, which is the function's."""
        return self.folder.name

    @property
    def code(self) -> Path:
        """The file with the decorated function."""
        return self.folder / f"{self.kind}.py"

    def facts(self) -> dict[str, Any]:
        """Return metadata.yaml."""
        return yaml.safe_load((self.folder / "metadata.yaml").read_text(encoding="utf-8"))

    def function(self) -> ast.FunctionDef:
        """Return the decorated function's tree.

        Raises:
            WrongInput: when the file has none.
        """
        for node in ast.walk(ast.parse(self.code.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(decorator(one) == self.kind for one in node.decorator_list):
                return node
        raise WrongInput(f"{self.code}: has no function decorated with @dsl.{self.kind}")

    def signature(self) -> Signature:
        """Return the function as its source has it."""
        import docstring_parser

        node = self.function()
        words = docstring_parser.parse(ast.get_docstring(node) or "")
        said = {item.arg_name: item.description or "" for item in words.params}
        returned = _named(words.returns)
        args, count = node.args.args, len(node.args.args) - len(node.args.defaults)
        defaults = [...] * count + [_value(default) for default in node.args.defaults]
        return Signature(
            name=node.name,
            overview="\n\n".join(part for part in (words.short_description, words.long_description) if part),
            parameters=tuple(
                Parameter(one.arg, _text(one.annotation), default, said.get(one.arg, ""))
                for one, default in zip(args, defaults, strict=True)
            ),
            returns=_text(node.returns) if node.returns else "",
            returns_said=(words.returns.description or "") if words.returns else "",
            fields=tuple(
                Parameter(name, kind, ..., returned.get(name, ""))
                for name, kind in _fields(node.returns, ast.parse(self.code.read_text(encoding="utf-8")))
            ),
        )


def ours() -> list[Asset]:
    """Return all components and pipelines of this installation, sorted by name."""
    found = []
    for package in KINDS:
        module = f"carryover_kfp.{package}"
        found += below(Path(importlib.import_module(module).__path__[0]), KINDS[package], module)
    return found


def laid_out(root: Path, package: str) -> list[Asset]:
    """Return all components and pipelines of a tree with a top folder for each kind, sorted by name."""
    return [asset for name, kind in KINDS.items() for asset in below(root / name, kind, f"{package}.{name}")]


def below(folder: Path, kind: Literal["component", "pipeline"], module: str) -> Iterator[Asset]:
    """Yield the assets of one kind below a folder, at any depth."""
    for child in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not child.is_dir() or child.name in _ASIDE or child.name.startswith((".", "_")):
            continue
        if any((child / name).is_file() for name in (f"{kind}.py", "metadata.yaml")):
            yield Asset(kind, child, f"{module}.{child.name}")
        else:
            yield from below(child, kind, f"{module}.{child.name}")


def decorator(node: ast.expr) -> str:
    """Return the last name of a decorator: "component" for `@dsl.component(...)`."""
    called = node.func if isinstance(node, ast.Call) else node
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _fields(returns: ast.expr | None, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, type) of a NamedTuple(...) written in place, or with its list in a constant of the module."""
    if returns is None:
        return
    if not (isinstance(returns, ast.Call) and len(returns.args) == 2):
        yield "Output", _text(returns)
        return
    listed = returns.args[1]
    if isinstance(listed, ast.Name):
        constants = [node for node in tree.body if isinstance(node, ast.Assign)]
        (listed,) = (one.value for one in constants if ast.unparse(one.targets[0]) == ast.unparse(listed))
    for one in listed.elts if isinstance(listed, ast.List) else ():
        if isinstance(one, ast.Tuple) and isinstance(one.elts[0], ast.Constant):
            yield str(one.elts[0].value), _text(one.elts[1])


def _named(returns: Any) -> dict[str, str]:
    """Return the words for each value of a section "Returns" that has a line "name: words" for each."""
    if returns is None:
        return {}
    # The parser takes the first name for a type, and all that follows for its description.
    text = f"{returns.type_name}: {returns.description}" if returns.type_name else returns.description or ""
    parts = re.split(r"^(\w+): ", text, flags=re.MULTILINE)
    named = {name: " ".join(said.split()) for name, said in zip(parts[1::2], parts[2::2], strict=True)}
    return named or {"Output": " ".join(text.split())}


def _text(node: ast.expr | None) -> str:
    return "Any" if node is None else ast.unparse(node)


def _value(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)
