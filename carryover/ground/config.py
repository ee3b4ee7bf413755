"""Owns how plain values from YAML, JSON and flags become frozen dataclasses, and what an error about them says.

A config class is a frozen dataclass whose fields are made by `key(...)`. A value is checked where it is used, in the
owner's `__post_init__`, by `check(...)`; the dotted path in front of the field's name is added on the way out.
"""

import copy
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import yaml

from carryover.ground import yaml_text
from carryover.ground.errors import WrongInput

_MOST = 1 << 63


@dataclass(frozen=True)
class KeyInfo:
    """What is known of one key: its type, default and the words for people.

    Attributes:
        identity: whether the key can change the result, so that it is part of the run key.
        mutable: whether a run that exists may go on with another value.
        decided: whether its author said what becomes of it on resume; who says nothing gets a key that can't change.
    """

    path: str
    type: Any
    default: Any
    help: str
    allowed: str
    identity: bool
    mutable: bool
    decided: bool


def key(
    default: Any = MISSING, *, help: str, allowed: str = "", identity: bool = True, mutable: bool | None = None
) -> Any:
    """Declare one key of a config class; see `KeyInfo` for the words. Without a default the key is required."""
    decided = not identity or mutable is not None
    metadata = {"help": help, "allowed": allowed, "identity": identity, "mutable": bool(mutable), "decided": decided}
    if isinstance(default, (dict, list)) or dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check(condition: bool, path: str, value: Any, want: str) -> None:
    """Raise WrongInput that names the key, its value and what would be right, unless `condition` holds."""
    if not condition:
        raise WrongInput(f"{path}: {value!r} is not possible; it must be {want}")


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the known word that `word` was probably meant to be, or "" when none is near."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return found[0] if found else ""


def build(cls: type, values: Mapping[str, Any], *, path: str = "") -> Any:
    """Make a config object of `cls` from nested plain values.

    Raises:
        WrongInput: for an unknown key (with the nearest known one), a value of another type, or a missing key.
    """
    known = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in known:
            raise WrongInput(unknown_key(where, fields_of(cls, path=path)), trouble="unknown-key")
        arguments[name] = _convert(hints[name], value, where)
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in arguments:
            raise WrongInput(f"{path + '.' if path else ''}{name}: missing; it has no default")
    try:
        return cls(**arguments)
    except WrongInput as error:
        text = str(error)
        raise WrongInput(
            text if not path or text.startswith(path + ".") else f"{path}.{text}", trouble=error.trouble
        ) from None


def unknown_key(where: str, known: Iterable[str]) -> str:
    """Return the message for a key that does not exist, with the nearest one of `known` (dotted paths)."""
    names = list(known)
    section, _, last = where.rpartition(".")
    # A word misspelt in its own section, else the right word under another section, else anything alike.
    beside = {name.rpartition(".")[2]: name for name in names if name.rpartition(".")[0] == section}
    near = beside.get(nearest(last, beside), "")
    if not near:
        tail = nearest(last, [name.rpartition(".")[2] for name in names])
        alike = [name for name in names if tail and name.rpartition(".")[2] == tail]
        near = nearest(where, alike) or next(iter(alike), "") or nearest(where, names)
    return f"{where}: unknown key" + (f"; did you mean '{near}'?" if near else "")


def fields_of(cls: type, *, path: str = "") -> dict[str, KeyInfo]:
    """Return dotted path -> KeyInfo of every leaf key of a config class."""
    found: dict[str, KeyInfo] = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        where = f"{path}.{field.name}" if path else field.name
        if dataclasses.is_dataclass(hints[field.name]):
            found.update(fields_of(typing.cast(type, hints[field.name]), path=where))
            continue
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        words = field.metadata
        found[where] = KeyInfo(
            path=where,
            type=hints[field.name],
            default=default,
            help=words.get("help", ""),
            allowed=words.get("allowed", ""),
            identity=words.get("identity", True),
            mutable=words.get("mutable", False),
            decided=words.get("decided", False),
        )
    return found


def flatten(config: Any, *, path: str = "") -> dict[str, Any]:
    """Return dotted path -> plain value (tuples as lists) of a config object."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        where = f"{path}.{field.name}" if path else field.name
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat.update(flatten(value, path=where))
        else:
            flat[where] = list(value) if isinstance(value, tuple) else value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested form of dotted keys; the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for dotted, value in flat.items():
        *folders, last = dotted.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise WrongInput(f"{dotted}: '{folder}' has a value of its own, so it can't have keys below it")
        place[last] = value
    return tree


def read_mapping(given: str, *, what: str) -> Mapping[str, Any]:
    """Return the mapping that a person gave as the path of a YAML file or as YAML text; {} for "".

    Args:
        what: the word for it in errors, such as "recipe".

    Raises:
        WrongInput: when it can't be read, and for anything but a mapping.
    """
    if not given.strip():
        return {}
    text = given
    if not _is_yaml(given):
        what = f"{what} {given}"
        try:
            text = Path(given).read_text(encoding="utf-8")
        except OSError as error:
            raise WrongInput(f"{what}: can't be read: {error.strerror}", trouble="no-yaml") from error
        except UnicodeDecodeError as error:
            raise WrongInput(f"{what}: can't be read: it is no UTF-8 text", trouble="no-yaml") from error
    try:
        values = yaml_text.load(text)
    except yaml.YAMLError as error:
        raise WrongInput(f"{what}: no YAML: {' '.join(str(error).split())}", trouble="no-yaml") from error
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise WrongInput(f"{what}: must be a YAML mapping of keys, not {type(values).__name__}", trouble="no-yaml")
    return values


def _is_yaml(given: str) -> bool:
    """Tell YAML text from a path: no path of ours has a line break or a key in it."""
    return "\n" in given or ": " in given or given.rstrip().endswith(":") or given.lstrip().startswith("{")


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
        if not isinstance(value, Mapping):
            raise WrongInput(f"{where}: {value!r} is not possible; it must be a section with keys of its own")
        return build(typing.cast(type, hint), value, path=where)
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(options, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise WrongInput(f"{where}: {value!r} is not possible; it must be a list")
        return tuple(_convert(options[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise WrongInput(f"{where}: {value!r} is not possible; it must be a mapping")
        return dict(value)
    if hint is Any:
        return value
    return _scalar(hint, value, where)


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """Take the option whose type the value already has, else the first that it can become (int before float)."""
    if value is None and types.NoneType in options:
        return None
    rest = [option for option in options if option is not types.NoneType]
    for option in rest:
        if isinstance(option, type) and type(value) is option:
            return value
    for option in rest:
        try:
            return _convert(option, value, where)
        except WrongInput:
            continue
    names = " or ".join(getattr(option, "__name__", str(option)) for option in rest)
    raise WrongInput(f"{where}: {value!r} is not possible; it must be {names}")


def _scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and not isinstance(value, bool):
        # YAML reads 1e-4 as text, because its floats need a dot.
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = None
        if number is not None:
            check(math.isfinite(number), where, number, "a finite number")
            return number
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif hint is str and type(value) is int:
        # Digits that mean a word, such as env.precision: 32, are a number to YAML.
        return str(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        if hint is int:
            check(-_MOST <= value < _MOST, where, value, "a whole number of at most 64 bits")
        return value
    raise WrongInput(f"{where}: {value!r} is not possible; it must be {hint.__name__}")
