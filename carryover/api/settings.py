"""Owns how Python values become what a step takes: a recipe as text, and keys as `name=value`.

recipe={"optimization": {"max_epochs": 2}}     nested, or with dotted names, or the path of a YAML file
env={"batch_size": 32}                         nested
**{"optimization.learning_rate": 2e-5}         dotted; these win over the recipe, as --set does
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput

Recipe = str | os.PathLike[str] | Mapping[str, Any]


def recipe_text(recipe: Recipe) -> str:
    """Return what the flag --recipe takes: a path, or YAML text."""
    if isinstance(recipe, Mapping):
        return yaml.safe_dump(_plain("recipe", recipe), allow_unicode=True) if recipe else ""
    return os.fspath(recipe)


def overrides(settings: Mapping[str, Any], *, arguments: Iterable[str]) -> list[str]:
    """Return settings as the flag --set takes them, "key=value" each.

    Args:
        arguments: names that the caller has beside settings, to know a misspelled one again.

    Raises:
        WrongInput: for a name that is neither, or a value that a recipe can't hold.
    """
    from carryover.train import refused
    from carryover.train.recipe import keys

    known = keys()
    # (Of those that are refused, the recipe says why.)
    sections = {name.partition(".")[0] for name in [*known, *refused.KEYS]} | {"optim"}
    for name in settings:
        if name.partition(".")[0] not in sections:
            near = nearest(name, [*arguments, *sections, *known])
            hint = f"; did you mean {near}?" if near else ""
            raise WrongInput(f"{name}: neither an argument nor a key of a recipe{hint}", trouble="unknown-key")
    return [f"{name}={_yaml(_plain(name, value))}" for name, value in _flat(settings).items()]


def _flat(settings: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        where = f"{path}.{name}" if path else str(name)
        flat |= _flat(value, where) if isinstance(value, Mapping) and value else {where: value}
    return flat


def _plain(name: str, value: Any) -> Any:
    """Return a value as YAML has it: paths are text, tuples lists, numpy's numbers plain ones."""
    if isinstance(value, Mapping):
        return {str(key): _plain(f"{name}.{key}", one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, one) for one in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(item := getattr(value, "item", None)) and getattr(value, "ndim", 0) == 0:
        value = item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    words = "give text, a number, true or false, or a list"
    raise WrongInput(f"{name}: a {type(value).__name__} is not possible; {words}", trouble="wrong-value")


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
