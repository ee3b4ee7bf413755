"""Owns the recipe: one frozen tree of everything a person may choose, and what "the same run" means.

A recipe comes from YAML and `--set key=value`. Its dotted names are those of AutoMM; the newer `optim.*` spellings are
aliases. This module is read before torch is loaded.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from carryover.checkpoint.policy import CheckpointConfig
from carryover.data.config import DataConfig
from carryover.ground import config, yaml_text
from carryover.ground.config import KeyInfo, check, key
from carryover.ground.digests import Hasher, canonical, digest, same
from carryover.ground.errors import WrongInput
from carryover.models import assembly
from carryover.train import presets
from carryover.train.distiller import TEACHER, DistillerConfig, digest_of
from carryover.train.environment import PRECISIONS, Env
from carryover.train.refused import check_known
from carryover.train.remedy import RemedyConfig
from carryover.train.sections import Optimization, Resume

ALIASES = {
    "optimization.lr": "optimization.learning_rate",
    "optimization.efficient_finetune": "optimization.peft",
    "optimization.loss_function": "optimization.loss_func",
    "env.inference_batch_size_ratio": "env.eval_batch_size_ratio",
    "env.num_workers_inference": "env.num_workers_evaluation",
    "data.label.numerical_label_preprocessing": "data.label.numerical_preprocessing",
}
# Key -> another spelling of a value -> ours.
VALUE_ALIASES = {"env.precision": PRECISIONS, "optimization.lr_choice": {"single_stage": ""}}
# What a run had of keys that its version did not know yet, where that is not today's default.
FORMER = {
    "env.group_by_length": False,
    "optimization.lr_choice": "",
    "optimization.top_k_average_method": "best",
}
RUN_KEY_LENGTH = 24

Flat = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Every key of a run. Only `train/run.py`, the step that starts it and this module see it whole.

    `model` is of a class made from the registered families and the instances that the recipe names.
    """

    model: Any
    presets: str = key(
        "",
        help="A set of keys by name; keys that are given win over it. See the end of this page.",
        allowed=", ".join(presets.PRESETS),
        identity=False,
        mutable=True,
    )
    seed: int = key(0, help="Start of every random decision.", allowed=">= 0", mutable=False)
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    env: Env = dataclasses.field(default_factory=Env)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    distiller: DistillerConfig = dataclasses.field(default_factory=DistillerConfig)
    remedy: RemedyConfig = dataclasses.field(default_factory=RemedyConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    resume: Resume = dataclasses.field(default_factory=Resume)

    def __post_init__(self) -> None:
        check(self.seed >= 0, "seed", self.seed, "0 or above")

    def flat(self) -> Flat:
        """Return every key, resolved: dotted name -> plain value."""
        return config.flatten(self)


def given(recipe: str, overrides: Sequence[str] = ()) -> Flat:
    """Return the keys that a person gave: dotted canonical name -> value, names and values not yet checked.

    Args:
        recipe: path of a YAML file, YAML text, or "".
        overrides: "key=value" each; values are read as YAML. They win over the file, and both over a preset.

    Raises:
        WrongInput: for text that is no YAML mapping, or a key given twice with two values.
    """
    flat: Flat = {}
    for name, value in _flat_mapping(config.read_mapping(recipe, what="recipe")).items():
        canonical_name = _canonical_name(name)
        if canonical_name in flat and flat[canonical_name] != value:
            raise WrongInput(f"{name}: given twice in the recipe, as {flat[canonical_name]!r} and as {value!r}")
        flat[canonical_name] = value
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator or not name:
            raise WrongInput(
                f"--set {override}: must be KEY=VALUE, e.g. optimization.learning_rate=2e-5", trouble="wrong-flags"
            )
        try:
            flat[_canonical_name(name.strip())] = yaml_text.load(text)
        except yaml.YAMLError as error:
            raise WrongInput(
                f"--set {override}: the value is no YAML: {_one_line(error)}", trouble="no-yaml"
            ) from error
    return presets.expanded(flat)


def make(flat: Mapping[str, Any]) -> Recipe:
    """Return the recipe with these keys, defaults for all others.

    Raises:
        WrongInput: for an unknown key (with the nearest known one) or a value that is not possible.
    """
    flat = {name: _canonical_value(name, v) for name, v in flat.items() if not _is_empty_section(name, v)}
    flat = presets.expanded(flat)
    check_known(flat)
    values = config.nest(flat)
    model = values.get("model") or {}
    if not isinstance(model, Mapping):
        raise WrongInput(f"model: {model!r} is not possible; it must be a section with keys of its own")
    known = keys(assembly.instances_in(model))
    for name in flat:
        if name not in known:
            below = next((other for other in known if other.startswith(f"{name}.")), "")
            words = f"{name}: is a section; it needs keys below it, such as '{below}'"
            raise WrongInput(words if below else config.unknown_key(name, known), trouble="unknown-key")
    return config.build(Recipe, {**values, "model": assembly.build_config(model)})


def keys(instances: tuple[str, ...] = ()) -> dict[str, KeyInfo]:
    """Return every known key: dotted name -> what is known of it; `instances` are custom model names."""
    known = {name: info for name, info in config.fields_of(Recipe).items() if name != "model"}
    return {**known, **config.fields_of(assembly.config_class(instances), path="model")}


def keys_of(recipe: Recipe) -> dict[str, KeyInfo]:
    """Return every key that this recipe has."""
    known = {name: info for name, info in config.fields_of(Recipe).items() if name != "model"}
    return {**known, **config.fields_of(type(recipe.model), path="model")}


def identity(recipe: Recipe) -> Flat:
    """Return what makes this run another one than the default: keys that can change the result, where not default.

    A checkpoint named by a local folder or file counts by its content, and so does a teacher, so that a moved one is
    the same and a changed one is not.
    """
    flat, found = recipe.flat(), {}
    for name, info in keys_of(recipe).items():
        if info.identity and not _is_default(flat, name, info):
            value = flat[name]
            if is_place(name) and Path(str(value)).exists():
                value = f"content:{folder_digest(Path(value))}"
            if name == TEACHER and digest_of(value):
                value = f"model:{digest_of(value)}"
            found[name] = value
    return found


def asked(recipe: Recipe) -> Flat:
    """Return the same keys with the values that a person would give: names of places, not what is in them."""
    flat = recipe.flat()
    return {
        name: flat[name]
        for name, info in keys_of(recipe).items()
        if info.identity and not _is_default(flat, name, info)
    }


def is_place(name: str) -> bool:
    """Tell whether a key may name a folder, which counts by its content: another path to it is no change."""
    return name.endswith(".checkpoint_name") or name == TEACHER


def run_key(dataset: str, parent: str, identity: Mapping[str, Any]) -> str:
    """Return the name of "the same run": digest of dataset content, parent content and the identity of the recipe."""
    return digest(canonical({"dataset": dataset, "parent": parent, "recipe": dict(identity)}))[:RUN_KEY_LENGTH]


def settings_of(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> Flat:
    """Return every key as a run last had it, by run.json and what later attempts changed.

    Keys that it does not say had another default when it began: today's would alter it.
    """
    return {**FORMER, **recipe, **changes}


def check_changes(
    old: Mapping[str, Any], new: Recipe, *, run: str, was: Mapping[str, Any] = MappingProxyType({})
) -> Flat:
    """Return the keys in which a start differs from what the run was, name -> new value.

    Args:
        old: every key as the run last had it.
        run: its run key, for messages.
        was: the run's `identity`, to know a folder again that lies elsewhere now.

    Raises:
        WrongInput: when one of them must not change; names the field, both values and the way out.
    """
    known, changes, mine = keys_of(new), {}, identity(new)
    for name, value in new.flat().items():
        info = known[name]
        before = old.get(name, info.default)
        if same(before, value):
            continue
        moved = is_place(name) and name in was and same(was[name], mine.get(name))
        if info.identity and not info.mutable and not moved:
            raise WrongInput(
                f"{name}: run {run} has {before!r}, asked for {value!r}; this can't change in a run that exists. "
                "Leave out --run-key for a new run, or leave out the key to go on as before",
                trouble="fixed-setting",
            )
        changes[name] = value
    return changes


def folder_digest(folder: Path) -> str:
    """Return the digest of a folder's content: names and bytes of all files below it, in the order of their names.

    A single file counts by its bytes.
    """
    hasher = Hasher()
    for path in [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file()):
        hasher.update(canonical([path.relative_to(folder).as_posix(), path.stat().st_size]))
        hasher.update_mmap(path)
    return hasher.hexdigest()


def _is_default(flat: Flat, name: str, info: KeyInfo) -> bool:
    return flat[name] == (list(info.default) if isinstance(info.default, tuple) else info.default)


def _flat_mapping(values: Mapping[str, Any], path: str = "") -> Flat:
    flat: Flat = {}
    for name, value in values.items():
        where = f"{path}.{name}" if path else str(name)
        if isinstance(value, Mapping) and value:
            flat.update(_flat_mapping(value, where))
        else:
            flat[where] = value
    return flat


def _canonical_name(name: str) -> str:
    if name.startswith("optim."):
        name = "optimization." + name.removeprefix("optim.")
    return ALIASES.get(name) or assembly.canonical_key(name)


def _canonical_value(name: str, value: Any) -> Any:
    return VALUE_ALIASES.get(name, {}).get(str(value), value)


def _is_empty_section(name: str, value: Any) -> bool:
    """Allow "env:" with nothing below it, as a recipe that is being written has it."""
    return value in (None, {}) and any(other.startswith(f"{name}.") for other in keys())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
