"""Owns what train-ddp decides about a run's parent before a rank starts: that it fits, and what is taken from it.

--init-from --open_model--> Found --check_fit--> Parent
                            card.recipe, card.assembly  + keys given now --inherited--> the run's keys
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from carryover.carry.lineage import chain
from carryover.data.config import DELTA
from carryover.data.manifest import DatasetCard, find_dataset
from carryover.data.mix import Mixture, check_parentless, needs_parent, training_rows
from carryover.data.rows import materialise
from carryover.data.schema import Schema
from carryover.ground import config as configs
from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.digests import same
from carryover.ground.errors import WrongInput
from carryover.models.assembly import Assembly, assembly_from_json
from carryover.models.card import ModelCard
from carryover.models.export import Found, find_model
from carryover.steps.fit import check_fit
from carryover.steps.model_source import kept, open_model
from carryover.tasks.task import restore_task
from carryover.train import recipe as recipes
from carryover.train.parent import EXTEND, Parent
from carryover.train.recipe import Flat, Recipe
from carryover.train.remedy import RemedyConfig

# What makes the Model's preprocessing and outputs: it comes with the Model, ready made.
FIXED = ("data.numerical.", "data.categorical.", "data.text.", "data.image.", "data.label.", "data.pos_label")
# What belongs to one run and not to the model it made.
NOT_INHERITED = ("distiller.", "data.mode", "data.replay.", "remedy.", "model.", "optimization.carry_optimizer")


def extended(source: str, card: DatasetCard, *, store: str, grow_classes: bool = False) -> tuple[Parent, Found]:
    """Return the Model that a new run is to extend, checked against the data that it is to learn.

    Args:
        grow_classes: whether the data may have classes that the Model does not know.

    Raises:
        WrongInput: when there is none, or it doesn't fit the data; all reasons at once.
    """
    try:
        found = open_model(source, store=store)
        check_fit(found.card, card, "train", new_classes=grow_classes)
        task = restore_task(found.files()).grown(card.schema)
    except WrongInput as error:
        hint = "" if grow_classes or "does not know" not in str(error) else "; --grow-classes lets the model learn them"
        raise WrongInput(f"--init-from {source}: {error}{hint}", trouble=error.trouble) from None
    model = found.card
    if new := (task.classes or ())[len(model.schema.classes or ()) :]:
        say(f"new classes, behind the Model's {len(model.schema.classes or ())}: {', '.join(map(repr, new))}")
    parent = Parent(
        kind=EXTEND,
        uri=kept(found, storage.open_store(store)),
        digest=model.digest,
        run_key=model.run_key,
        step=model.step,
        checkpoint_uri=model.checkpoint_uri,
        dataset=dict(model.dataset),
        problem_type=task.problem_type,
        classes=task.classes,
        lineage=tuple(chain(model)),
    )
    return parent, found


def schema_of(parent: Parent | None, schema: Schema) -> Schema:
    """Return the schema of the data as the run has it: a Model that is extended keeps its classes, in its order."""
    if parent is None or parent.problem_type is None:
        return schema
    return replace(schema, problem_type=parent.problem_type, classes=parent.classes)


def inherited(model: ModelCard, given: Mapping[str, Any], *, problem_type: str) -> Flat:
    """Return the keys of a run that extends a Model: those given now, and for all others what the Model was made with.

    Args:
        problem_type: of the run; a binary Model that grows has no positive class any more.

    Raises:
        WrongInput: for a key given that the Model has fixed, with both values and the way out.
    """
    own = _model_keys(assembly_from_json(model.assembly))
    made = recipes.make({**_settings(model), **own})
    known = recipes.keys_of(made)
    taken = {
        name: value
        for name, value in made.flat().items()
        if known[name].identity and not name.startswith(NOT_INHERITED)
    }
    if problem_type != model.schema.problem_type:
        taken.pop("data.pos_label", None)
    base = {**taken, **own}
    for name, value in recipes.make({**own, **given}).flat().items():
        fixed = name.startswith((*FIXED, "model.")) and known[name].identity and not recipes.is_place(name)
        if name in given and fixed and not same(base.get(name, known[name].default), value):
            raise WrongInput(
                f"{name}: Model {model.digest} has {base.get(name, known[name].default)!r}, asked for {value!r}; a "
                "Model that is extended stays what it is. Leave out the key, or use transfer-train for a new model",
                trouble="fixed-setting",
            )
    # Its weights come from the Model, so where a checkpoint of that name lies plays no part.
    now = {name: value for name, value in given.items() if not (name.startswith("model.") and recipes.is_place(name))}
    return {**base, **now}


def mixture(parent: Parent | None, recipe: Recipe, card: DatasetCard, scratch: Path, *, store: str) -> Mixture | None:
    """Return the rows to train on where they are not just the dataset's own; nothing is read otherwise.

    Raises:
        NothingNew: when only what is new is wanted, and nothing is.
        WrongInput: for `data.mode` or `data.replay` without a Model to extend, or when its dataset is gone.
    """
    if parent is None or parent.kind != EXTEND:
        check_parentless(recipe.data)
        return None
    if not needs_parent(recipe.data):
        return None
    old = dataset_of(parent, store=store, why=_why(recipe))
    found = training_rows(card, recipe.data, scratch, parent=old, seed=recipe.seed)
    say(found.words)
    return found


def _why(recipe: Recipe) -> str:
    return "data.mode delta" if recipe.data.mode == DELTA else "data.replay.fraction"


def old_rows(parent: Parent | None, remedy: RemedyConfig, scratch: Path, *, store: str) -> dict[str, str]:
    """Return split -> Arrow file of the rows that remedies need of the dataset of the Model that is extended.

    Raises:
        WrongInput: when that dataset is gone, or has no such rows.
    """
    if parent is None or not remedy.old_rows:
        return {}
    card = dataset_of(parent, store=store, why=f"remedy.{remedy.asked[0]}")
    for split in remedy.old_rows:
        if not card.splits[split].rows:
            raise WrongInput(
                f"remedy.{remedy.asked[0]}: dataset {card.at} of the Model has no {split} rows", trouble="too-few-rows"
            )
    return {split: str(materialise(card, split, scratch)) for split in remedy.old_rows}


def dataset_of(parent: Parent, *, store: str, why: str) -> DatasetCard:
    """Return the dataset that the Model was trained on: in this store, which may have been moved, or where it was.

    Raises:
        WrongInput: when it is in neither place.
    """
    known = parent.dataset or {}
    card, places = find_dataset(known, store=store) if known.get("digest") else (None, ())
    if card is None:
        looked = " nor at ".join(places) or "a known place"
        raise WrongInput(
            f"{why}: needs the dataset that Model {parent.digest} was trained on, and it is not at {looked}",
            trouble="not-a-dataset",
        )
    return card


def assembly_of(parent: Parent) -> Assembly:
    """Return what the Model that is extended is made of."""
    return assembly_from_json(find_model(parent.uri).card.assembly)


def _settings(model: ModelCard) -> Flat:
    """Return the keys that a Model was made with, but for those of `model`; those of another version are left out."""
    known = recipes.keys()
    settings = recipes.settings_of(model.recipe, {})
    return {name: value for name, value in settings.items() if name in known and not name.startswith("model.")}


def _model_keys(assembly: Assembly) -> Flat:
    """Return the section `model` that gives this assembly."""
    parts = [*assembly.branches, *([assembly.fusion] if assembly.fusion else [])]
    keys: Flat = {"model.names": [part.name for part in parts]}
    for part in parts:
        keys |= {f"model.{part.name}.{name}": value for name, value in configs.flatten(part.config).items()}
    return keys
