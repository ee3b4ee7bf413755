"""Owns the plan of a training step: everything a person gave, checked, and which run it is. No torch, nothing started.

recipe, dataset, store   checked                          wrong input ends here, with one line
parent                   found, held against the data     --init-from, --backbone
run key                  the run this is, and the settings that it goes on with
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from carryover.carry.foreign import Sought
from carryover.checkpoint.home import RunHome
from carryover.data.manifest import DatasetCard, load_card
from carryover.data.mix import Mixture
from carryover.data.schema import Schema
from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.digests import same
from carryover.ground.errors import WrongInput
from carryover.ground.storage import Store
from carryover.steps import parent as parents
from carryover.steps import transfer as transfers
from carryover.steps.results import probe, resolve_store
from carryover.steps.teacher import named_teacher
from carryover.tasks.metrics import find_metric
from carryover.train import recipe as recipes
from carryover.train.limits import Limits, is_finished, limits_of
from carryover.train.parent import EXTEND, Parent, parent_from_json
from carryover.train.recipe import Recipe
from carryover.train.remedy import AUTO


@dataclass(frozen=True)
class Plan:
    """One start, with everything that could be wrong about it checked.

    Attributes:
        schema: of the data as the model has it: the classes of a Model that is extended.
        changes: recipe key -> value, where this start differs from the one before; `before` has the values of then.
        parent: what the run starts from; None for nothing.
        rows: what to train on, where it is not just the dataset's own rows.
        sought: of a transfer, what `--backbone` names; None where a run goes on without it.
    """

    store: Store
    home: RunHome
    run_key: str
    recipe: Recipe
    changes: Mapping[str, Any]
    before: Mapping[str, Any]
    card: DatasetCard
    schema: Schema
    parent: Parent | None
    limits: Limits
    time_limit: float | None
    rows: Mixture | None
    sought: Sought | None = None


def make_plan(
    dataset: str,
    store: str,
    recipe: str,
    overrides: Sequence[str],
    run_key: str,
    init_from: str,
    time_limit: float | None,
    *,
    scratch: Path,
    backbone: str = "",
    grow_classes: bool = False,
) -> Plan:
    """Check everything a person gave, and say which run it is.

    Args:
        backbone: what a new task starts from, see `transfers.sought`; "" for nothing.
        scratch: an empty local folder for the files of it, and the rows.
        grow_classes: whether data may bring classes that the Model to extend does not know.

    Raises:
        NothingNew: when a Model is to be extended by what is new, and nothing is.
    """
    given = recipes.given(recipe, overrides)
    # A recipe that is wrong by itself is said before anything is looked up.
    recipes.make(given)
    card = load_card(dataset)
    if not card.splits["train"].rows:
        raise WrongInput(
            f"dataset {dataset}: its train split is empty; give more rows or another fraction", trouble="too-few-rows"
        )
    where = storage.open_store(resolve_store(store))
    probe(where)
    given, parent, found_there = named_teacher(given, store=where.uri), None, None
    if grow_classes and not init_from:
        raise WrongInput("--grow-classes: there is no Model whose classes could grow; name it by --init-from")
    if backbone:
        found_there = transfers.sought(backbone, scratch, store=where)
        parent = transfers.parent_of(found_there.source)
        given = given if run_key else transfers.with_keys(found_there.source, given, card)
    if init_from:
        parent, found = parents.extended(init_from, card, store=where.uri, grow_classes=grow_classes)
        if not run_key:
            given = parents.inherited(found.card, given, problem_type=parent.problem_type or "")
    if run_key:
        home, made, changes, parent = _named_run(where, run_key, given, card, parent)
    else:
        made = recipes.make(given)
        run_key = recipes.run_key(card.digest, parent.identity if parent else "", recipes.identity(made))
        home = RunHome.open(where, run_key)
        home.log.remember()
        made, changes = _this_run(home, run_key, given, made)
    schema = parents.schema_of(parent, card.schema)
    _check(made, parent, schema, card)
    limits, rows = _rows(made, parent, card, home, scratch, where=where, time_limit=time_limit)
    known, was = recipes.keys_of(made), settings_of(home) if changes else {}
    before = {name: was.get(name, known[name].default) for name in changes}
    return Plan(
        where, home, run_key, made, changes, before, card, schema, parent, limits, time_limit, rows, found_there
    )


def _check(made: Recipe, parent: Parent | None, schema: Schema, card: DatasetCard) -> None:
    """Raise WrongInput for keys that don't suit the data, or what the run starts from."""
    extends = parent is not None and parent.kind == EXTEND
    made.remedy.check_parent(extends=extends, teacher=bool(made.distiller.teacher))
    made.remedy.check_problem(schema.problem_type)
    if made.remedy.wise_ft == AUTO and not card.splits["validation"].rows:
        raise WrongInput(
            f"remedy.wise_ft: {AUTO} is not possible; dataset {card.at} has no validation rows", trouble="too-few-rows"
        )
    try:
        find_metric(made.optimization.val_metric, schema.problem_type)
    except WrongInput as error:
        raise WrongInput(f"optimization.val_metric: {error}", trouble=error.trouble) from None


def _rows(
    made: Recipe,
    parent: Parent | None,
    card: DatasetCard,
    home: RunHome,
    scratch: Path,
    *,
    where: Store,
    time_limit: float | None,
) -> tuple[Limits, Mixture | None]:
    """Return when training ends, and the rows to train on where they are not just the dataset's own."""
    limits = limits_of(
        made.optimization,
        made.env,
        made.resume,
        rows=card.splits["train"].rows,
        validates=card.splits["validation"].rows > 0,
        time_limit=time_limit,
    )
    finish, rows = home.finish_record(), None
    # A finished run gives its Model again, whatever became of the data of its parent.
    if not finish or not is_finished(finish.body, limits):
        rows = parents.mixture(parent, made, card, scratch, store=where.uri)
    return replace(limits, rows=rows.new + rows.replayed) if rows else limits, rows


def _named_run(
    store: Store, run_key: str, given: Mapping[str, Any], card: DatasetCard, asked: Parent | None
) -> tuple[RunHome, Recipe, dict[str, Any], Parent | None]:
    """Return the run that a person named, the recipe it goes on with, and what it started from."""
    home = RunHome.open(store, run_key)
    home.log.remember()
    if not home.exists():
        raise WrongInput(
            f"--run-key {run_key}: {store.uri} has no such run; leave it out to start a new one", trouble="no-such-run"
        )
    there = home.run()["dataset"]["digest"]
    if there != card.digest:
        raise WrongInput(
            f"--run-key {run_key}: that run was trained on dataset {there[:32]}, not on {card.digest[:32]}; "
            "a run can't change its data: leave out --run-key for a new run",
            trouble="dataset-changed",
        )
    parent = parent_from_json(home.run()["parent"])
    if asked and (not parent or parent.identity != asked.identity):
        began = f"from {parent.digest} ({parent.kind})" if parent else "from nothing"
        way = "leave out --init-from" if asked.kind == EXTEND else "use train-ddp"
        raise WrongInput(
            f"--run-key {run_key}: that run started {began}, not from {asked.digest} ({asked.kind}); {way} to go on "
            "with it, or leave out --run-key for a new run",
            trouble="resume-refused",
        )
    before = settings_of(home)
    made = recipes.make({**before, **given})
    return home, made, recipes.check_changes(before, made, run=run_key, was=home.run()["identity"]), parent


def _this_run(home: RunHome, run_key: str, given: Mapping[str, Any], made: Recipe) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe to go on with: what run.json says, with the keys given now that leave the run what it is."""
    if not home.exists():
        return made, {}
    before, known = settings_of(home), recipes.keys_of(made)
    # The same run key means the same content of folders, but they may lie elsewhere now.
    now = {name: value for name, value in given.items() if not known[name].identity or recipes.is_place(name)}
    merged = recipes.make({**before, **now})
    if not same(recipes.identity(merged), recipes.identity(made)):
        say(f"run {run_key} was continued with other settings; it goes on with those")
    return merged, recipes.check_changes(before, merged, run=run_key, was=home.run()["identity"])


def settings_of(home: RunHome) -> dict[str, Any]:
    """Return every key as the run last had it: run.json, and what later attempts changed."""
    last = home.latest_claim()
    return recipes.settings_of(home.run()["recipe"], last.body["changes"] if last else {})
