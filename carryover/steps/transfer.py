"""Owns what transfer-train decides before a rank starts: what the new task starts from, and which keys come with it.

--backbone --sought--> Sought --parent_of--> the run's identity (kind and content, never a place)
                          |    --with_keys--> model.<branch>.checkpoint_name where a person gave none
                          +------fetch------> local files, for a run that has no commit yet
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.carry import tables
from carryover.carry.foreign import Sought, Source, open_source
from carryover.carry.transfer import keys_from, left_open, readers
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import RUNS, Damaged
from carryover.data.manifest import DatasetCard
from carryover.ground import storage
from carryover.ground.errors import WrongInput
from carryover.ground.storage import Store
from carryover.steps.model_source import open_model
from carryover.train import recipe as recipes
from carryover.train.parent import TRANSFER, Parent, parent_from_json
from carryover.train.presets import PRESETS

if TYPE_CHECKING:
    from carryover.steps.plan import Plan

_MOST_LOOKED_AT = 200


def sought(backbone: str, scratch: Path, *, store: Store) -> Sought:
    """Find what a new task is to start from; `scratch` is a local folder that lives as long as the step.

    Raises:
        WrongInput: when there is nothing; names the run that has started from it, where there is one.
    """
    try:
        return open_source(backbone, scratch / "source", models=lambda source: open_model(source, store=store.uri))
    except WrongInput as error:
        where = "" if backbone in str(error) else f"{backbone}: "
        raise WrongInput(f"{where}{error}{_begun(backbone, store)}", trouble=error.trouble) from None


def _begun(backbone: str, store: Store) -> str:
    """Return the words for a run in the store that started from a place that is now empty."""
    place = storage.normal(backbone)
    for run_key in store.folders(RUNS)[:_MOST_LOOKED_AT]:
        home = RunHome.open(store, run_key)
        try:
            parent = parent_from_json(home.run_alone().get("parent"))
        except Damaged:
            continue
        if parent and parent.kind == TRANSFER and parent.uri == place and home.commits():
            return f". Run {run_key} started from it and needs it no more: train-ddp --run-key {run_key} goes on"
    return ""


def parent_of(source: Source) -> Parent:
    """Return what the run is said to start from."""
    return Parent(kind=TRANSFER, uri=source.uri, digest=source.digest, **source.lineage)


def with_keys(source: Source, given: Mapping[str, Any], card: DatasetCard) -> dict[str, Any]:
    """Return the keys of the run: a person's, then those that come with the source, then a preset's.

    Raises:
        WrongInput: where a bare state dict leaves open what a branch is.
    """
    preset = PRESETS.get(str(given.get("presets") or ""), {})
    own = {name: value for name, value in given.items() if preset.get(name, given) != value}
    keys = keys_from(source, own)
    made = recipes.make({**given, **keys})
    if not source.parts:
        families = readers(made.model, card.schema, made.data)
        if names := left_open(source, families, own):
            raise WrongInput(_which(source, {name: families[name] for name in names}))
    return {**given, **keys}


def _which(source: Source, families: Mapping[str, str]) -> str:
    """Return the words for weights of which it is not known what they are of; torch is loaded to look for names."""
    from carryover.carry.candidates import fitting
    from carryover.carry.tensors import read_file

    try:
        shapes = {name: tuple(value.shape) for name, value in read_file(source.path(source.weights)).items()}
    except WrongInput as error:
        return str(error)
    found = fitting(shapes, families.values())
    keys = " or ".join(f"model.{name}.checkpoint_name" for name in families)
    hint = f"shapes fit {', '.join(found)}" if found else "none that is known on this machine has these shapes"
    return (
        f"{source.uri}: holds weights and not what they are weights of; name the checkpoint that they were "
        f"trained from by {keys} ({hint})"
    )


def fetch(plan: "Plan") -> Source | None:
    """Bring the files that a run begins with, None for a run that goes on from a commit or starts from none.

    Raises:
        WrongInput: for a transfer that has not begun, without what it starts from.
    """
    if plan.parent is None or plan.parent.kind != TRANSFER or plan.home.commits():
        return None
    if plan.sought is None:
        raise WrongInput(
            f"--run-key {plan.run_key}: that transfer has no commit yet, so it needs what it starts from: "
            f"transfer-train --backbone {plan.parent.uri}",
            trouble="no-such-run",
        )
    plan.sought.copy()
    return plan.sought.source


def check_gaps(home: RunHome, *, strict: bool) -> None:
    """Raise WrongInput where a strict transfer is asked for, and the run took weights that left gaps."""
    if strict and home.store.exists(tables.FILE):
        noted = json.loads(home.store.read(tables.FILE))
        if noted["gaps"]:
            raise tables.refuse(noted["source"], noted["gaps"])
