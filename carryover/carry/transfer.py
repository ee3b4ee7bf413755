"""Owns what a new task takes from a source before a rank starts: which branch starts from which part of it.

    hf_text      <- hf_text       by the instance's name, then by the family
    hf_text_2    <- text_a? no    one part starts one branch
    timm_image   <- nothing       its own checkpoint_name, as in any training

A branch without a `checkpoint_name` of its own gets the part's folder: tokenizer and architecture come from the source,
not from a hub. A recipe names that folder by a word ("backbone:hf_text") that is the same on every machine. No torch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from carryover.carry.foreign import Part, Source
from carryover.data.config import DataConfig
from carryover.data.schema import Schema
from carryover.ground.errors import WrongInput
from carryover.models.assembly import ModelConfig, family_of
from carryover.models.family import fuses
from carryover.models.read_rows import as_read
from carryover.models.registry import DEFAULT_NAMES, FAMILIES, default_names

WORD = "backbone:"
FUSION = "fusion_mlp"


def paired(instances: Sequence[str], source: Source) -> dict[str, Part]:
    """Return branch of the new task -> the part that it starts from; branches that start from none are left out."""
    found = {part.name: part for part in source.parts if part.name in instances}
    left = [part for part in source.parts if part.name not in found]
    for name in instances:
        fitting = next((part for part in left if part.family == family_of(name)), None)
        if name not in found and fitting:
            found[name] = fitting
            left.remove(fitting)
    return {name: found[name] for name in instances if name in found}


def keys_from(source: Source, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe keys that come with a source: what a person gave stays.

    Raises:
        WrongInput: where a branch is to start from the source and with random weights.
    """
    keys: dict[str, Any] = {}
    names = given.get("model.names") or ()
    if not names and any(part.family not in DEFAULT_NAMES for part in source.parts):
        # These are never chosen by the columns alone: who starts from one wants it.
        names = [part.name for part in source.parts]
        keys["model.names"] = [*names, *([FUSION] if len(names) > 1 else [])]
    for name, part in paired([str(one) for one in names or DEFAULT_NAMES], source).items():
        checkpoint = f"model.{name}.checkpoint_name"
        has_key = any(
            field.name == "checkpoint_name" for field in dataclasses.fields(FAMILIES.load(part.family).Config)
        )
        if has_key and part.folder and given.get(f"model.{name}.pretrained") is False:
            raise WrongInput(
                f"model.{name}.pretrained: false asks for random weights, and the source has weights for it; leave one "
                "of the two out"
            )
        if has_key and checkpoint not in given and (part.folder or part.checkpoint):
            keys[checkpoint] = f"{WORD}{part.name}" if part.folder else part.checkpoint
    return keys


def placed(model: ModelConfig, source: Source) -> ModelConfig:
    """Return the section `model` with the local folders of a source instead of the words for them."""
    parts, changed = {part.name: part for part in source.parts}, {}
    for field in dataclasses.fields(model):
        config: Any = getattr(model, field.name)
        name = str(getattr(config, "checkpoint_name", ""))
        if not name.startswith(WORD):
            continue
        part = parts.get(name.removeprefix(WORD))
        if part is None or not part.folder:
            raise WrongInput(
                f"model.{field.name}.checkpoint_name: the source has no folder for '{name}'", trouble="nothing-fits"
            )
        # Weights in the form that a library wrote are best read by it; all others are matched by their names.
        opened = part.weights and opens_itself(part.family)
        folder = str(source.path(part.folder))
        changed[field.name] = dataclasses.replace(config, checkpoint_name=folder, pretrained=opened)
    return dataclasses.replace(model, **changed)


def opens_itself(family: str) -> bool:
    """Tell whether a family's library reads weights of a folder whole; of CLIP a folder may hold one tower."""
    return family in ("hf_text", "sam", "timm_image")


def readers(model: ModelConfig, schema: Schema, data: DataConfig) -> dict[str, str]:
    """Return branch -> family of those that have a column to read; no checkpoint is looked at."""
    seen, found = as_read(schema, data), {}
    for name in model.names or default_names(schema.problem_type):
        family = FAMILIES.load(family_of(name))
        if not fuses(family) and family.reads(seen, getattr(model, name)):
            found[name] = family.name
    return found


def left_open(source: Source, families: Mapping[str, str], given: Mapping[str, Any]) -> list[str]:
    """Return the branches of which a bare state dict leaves open what they are; [] where a person named one of them.

    Args:
        families: branch -> family.
        given: keys of the recipe that a person gave.
    """
    if source.parts:
        return []
    could = [name for name, family in families.items() if "checkpoint_name" in _keys(family)]
    return [] if any(f"model.{name}.checkpoint_name" in given for name in could) else could


def _keys(family: str) -> set[str]:
    return {field.name for field in dataclasses.fields(FAMILIES.load(family).Config)}
