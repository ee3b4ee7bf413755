"""Owns near twins: runs in the store that differ only in keys a run may change, so that a person may have meant one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import RUNS, Damaged
from carryover.ground.digests import same
from carryover.ground.storage import Store
from carryover.train import recipe as recipes
from carryover.train.parent import Parent, identity_of
from carryover.train.recipe import Recipe

MOST = 3
# A hint must not cost a store with thousands of runs a long look at every start.
MOST_LOOKED_AT = 200


@dataclass(frozen=True)
class Twin:
    """One such run, and the words for what is different."""

    run_key: str
    words: str


def near_twins(store: Store, dataset: str, recipe: Recipe, *, parent: Parent | None = None) -> list[Twin]:
    """Return up to `MOST` runs on the same data and from the same parent that this one could have been meant to be.

    Their recipe differs from this one only in keys that may change.
    """
    mine, known, twins = recipes.identity(recipe), recipes.keys_of(recipe), []
    began = parent.identity if parent else ""
    for run_key in store.folders(RUNS)[:MOST_LOOKED_AT]:
        try:
            run = RunHome.open(store, run_key).run_alone()
        except Damaged:
            continue  # A folder that is no run is nobody's twin.
        if run.get("dataset", {}).get("digest") != dataset or identity_of(run.get("parent")) != began:
            continue
        other = run["identity"]
        different = sorted(name for name in {*mine, *other} if not same(mine.get(name), other.get(name)))
        if different and all(name in known and known[name].mutable for name in different):
            twins.append(Twin(run_key, ", ".join(_words(name, run["recipe"], recipe.flat()) for name in different)))
        if len(twins) == MOST:
            break
    return twins


def _words(name: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    return f"{name} ({theirs.get(name)!r} there, {mine.get(name)!r} here)"
