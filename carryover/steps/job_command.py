"""Owns the command that the pods of a TrainJob run: what a person asked for, in words that mean the same in a pod.

artifact folders, run:KEY, champion:NAME   become canonical URIs: a pod has none of the folders, a champion may change
recipe file and --set                      become one YAML text of the keys that were given
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from carryover.ground import storage, yaml_text
from carryover.ground.errors import WrongInput
from carryover.models.backbone_card import CARD as BACKBONE
from carryover.models.card import CARD as MODEL
from carryover.steps.plan import Plan
from carryover.steps.results import is_of_machine
from carryover.train import recipe as recipes
from carryover.train.distiller import TEACHER


@dataclass(frozen=True)
class Wish:
    """What a person asked of train-ddp or transfer-train, beside what is in the plan; see there for each."""

    recipe: str
    overrides: Sequence[str]
    run_key: str
    init_from: str
    grow_classes: bool
    backbone: str
    strict: bool
    takeover: bool
    resume: str
    time_limit: float | None
    grace_seconds: float
    trust_pickle: bool


def command_of(plan: Plan, wish: Wish) -> list[str]:
    """Return the words after `carryover`.

    Raises:
        WrongInput: for what only this machine has.
    """
    words = ["transfer-train", "--backbone", _backbone(plan, wish)] if wish.backbone else ["train-ddp"]
    words += ["--dataset", _reachable(plan.card.at, "--dataset"), "--store", plan.store.uri]
    if given := _keys(plan, wish):
        words += ["--recipe", yaml.safe_dump(given, sort_keys=True, allow_unicode=True)]
    for flag, value in (
        ("--run-key", wish.run_key),
        ("--init-from", plan.parent.uri if wish.init_from and plan.parent else ""),
        ("--time-limit", wish.time_limit),
    ):
        words += [flag, str(value)] if value else []
    for flag, is_set in (
        ("--grow-classes", wish.grow_classes),
        ("--strict", wish.strict),
        ("--takeover", wish.takeover),
        ("--trust-pickle", wish.trust_pickle),
    ):
        words += [flag] if is_set else []
    return [*words, "--resume", wish.resume, "--grace-seconds", f"{wish.grace_seconds:g}"]


def _keys(plan: Plan, wish: Wish) -> dict[str, Any]:
    given = recipes.given(wish.recipe, wish.overrides)
    if given.get(TEACHER):
        given[TEACHER] = plan.recipe.distiller.teacher
    for name, value in given.items():
        if recipes.is_place(name) and isinstance(value, str) and os.path.exists(os.path.expanduser(value)):
            raise WrongInput(
                f"{name}: {value!r} is a folder of this machine, which the pods of a TrainJob don't have; give a "
                "name of the hub, or put it into the store and use transfer-train --backbone URI"
            )
        if name == TEACHER and value:
            _reachable(value, name)
    return given


def _backbone(plan: Plan, wish: Wish) -> str:
    assert plan.sought is not None
    source = plan.sought.source
    if source.form == "hub":
        return wish.backbone
    if not is_of_machine(source.uri):
        return source.uri
    return _reachable(_place_of_card(source.uri), "--backbone", shown=wish.backbone)


def _place_of_card(uri: str) -> str:
    """Return where the card of an artifact's folder says that its files lie, "" without a card."""
    store = storage.open_store(uri)
    for name in (BACKBONE, MODEL):
        if store.exists(name):
            return str((yaml_text.load(store.read(name).decode()) or {}).get("at", ""))
    return ""


def _reachable(uri: str, flag: str, *, shown: str = "") -> str:
    if not uri or is_of_machine(uri):
        raise WrongInput(
            f"{flag}: {shown or uri} lies on this machine, which the pods of a TrainJob can't read; give its URI in "
            "the object store"
        )
    return uri
