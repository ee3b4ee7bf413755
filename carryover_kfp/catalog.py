"""Owns which pipelines there are, and how values from a command line become their parameters."""

import importlib
import json
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput

# Names of KFP's parameter types, as InputSpec spells them.
_NUMBERS = {"Integer": int, "Float": float}
# A step gets its recipe in one word of a command, quoted several times; Linux allows a word 128 KiB.
_LONGEST = 32 << 10


def pipelines() -> list[str]:
    """Return the names of all pipelines, sorted: the folders of `pipelines/`."""
    package = importlib.import_module("carryover_kfp.pipelines")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg)


def components() -> list[str]:
    """Return the names of all components, sorted: the folders of `components/`."""
    package = importlib.import_module("carryover_kfp.components")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg)


def load_pipeline(name: str) -> Any:
    """Return the pipeline of that name (a KFP graph component).

    Raises:
        WrongInput: when there is none, with the nearest name.
    """
    if name not in pipelines():
        near = nearest(name, pipelines())
        hint = f"; did you mean '{near}'? There" if near else "; there"
        raise WrongInput(f"no pipeline '{name}'{hint} are: {', '.join(pipelines())}", trouble="unknown-key")
    return getattr(importlib.import_module(f"carryover_kfp.pipelines.{name}"), name)


def load_component(name: str) -> Any:
    """Return the component of that name (a KFP Python component)."""
    return getattr(importlib.import_module(f"carryover_kfp.components.{name}"), name)


def arguments(pipeline: Any, given: Iterable[str]) -> dict[str, Any]:
    """Return typed arguments for `pipeline` from texts "name=value"; a list may be given item by item.

    Raises:
        WrongInput: for an unknown parameter (with the nearest name) or a value of another type.
    """
    inputs = pipeline.component_spec.inputs or {}
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise WrongInput(f"--param {text}: must be NAME=VALUE", trouble="wrong-flags")
        check_parameter(pipeline, name)
        typed = _typed(name, inputs[name].type, value)
        values[name] = [*values.get(name, []), *typed] if isinstance(typed, list) else typed
    return values


def check_parameter(pipeline: Any, name: str) -> None:
    """Raise WrongInput, with the nearest name, when `pipeline` has no parameter `name`."""
    inputs = pipeline.component_spec.inputs or {}
    if name not in inputs:
        near = nearest(name, inputs)
        hint = f"; did you mean '{near}'?" if near else f"; there are: {', '.join(sorted(inputs))}"
        raise WrongInput(f"pipeline '{pipeline.name}' has no parameter '{name}'{hint}", trouble="unknown-key")


def check_complete(pipeline: Any, values: Mapping[str, Any]) -> None:
    """Raise WrongInput when a parameter without a default is missing."""
    missing = [name for name in pipeline.required_inputs if name not in values]
    if missing:
        flags = " ".join(f"--param {name}=..." for name in missing)
        raise WrongInput(
            f"pipeline '{pipeline.name}' also needs {', '.join(missing)}: add {flags}", trouble="wrong-flags"
        )


def _typed(name: str, kind: str, text: str) -> Any:
    if kind == "String":
        return text
    if kind in _NUMBERS:
        return _number(name, kind, text)
    if "List" in kind or "list" in kind:
        # One item as it stands, or all of them as JSON.
        return _parsed(name, text, list, "a JSON list") if text.startswith("[") else [text]
    if kind == "Boolean":
        return _parsed(name, text, bool, "true or false")
    return _parsed(name, text, dict, "a JSON object")


def _number(name: str, kind: str, text: str) -> int | float:
    try:
        return _NUMBERS[kind](text)
    except ValueError:
        want = "a whole number" if kind == "Integer" else "a number"
        raise WrongInput(f"parameter '{name}': '{text}' is not possible; it must be {want}") from None


def _parsed(name: str, text: str, kind: type, want: str) -> Any:
    try:
        value = json.loads(text.lower() if kind is bool else text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, kind):
        raise WrongInput(f"parameter '{name}': '{text}' is not possible; it must be {want}")
    return value


def read_recipe(path: str) -> str:
    """Return the text of a recipe file, which crosses KFP as one string (a dict would turn 3 into 3.0).

    Raises:
        WrongInput: when it can't be read, or is no YAML mapping.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WrongInput(f"--recipe {path}: {' '.join(str(error).split())}", trouble="no-yaml") from error
    if len(text) > _LONGEST:
        raise WrongInput(f"--recipe {path}: is longer than {_LONGEST >> 10} kB; is it a recipe?", trouble="no-yaml")
    if content is not None and not isinstance(content, dict):
        raise WrongInput(f"--recipe {path}: must be a YAML mapping of recipe keys", trouble="no-yaml")
    return text
