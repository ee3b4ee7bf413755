"""Owns near twins: runs in the store that differ only in keys a run may change, so that a person may have meant one."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import RUNS, Damaged
from carryover.ground.digests import same
from carryover.ground.errors import WrongInput
from carryover.ground.listing import some_folders
from carryover.ground.storage import Store
from carryover.train import recipe as recipes
from carryover.train.parent import Parent, identity_of
from carryover.train.recipe import Recipe

MOST = 3
# A hint must not cost a store with thousands of runs a long look at every start.
MOST_LOOKED_AT = 200
_READERS = 16


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
    for run_key, run in _runs(store):
        if run.get("dataset", {}).get("digest") != dataset or identity_of(run.get("parent")) != began:
            continue
        other = run["identity"]
        different = sorted(name for name in {*mine, *other} if not same(mine.get(name), other.get(name)))
        if different and all(name in known and known[name].mutable for name in different):
            twins.append(Twin(run_key, ", ".join(_words(name, run["recipe"], recipe.flat()) for name in different)))
        if len(twins) == MOST:
            break
    return twins


def _runs(store: Store) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield key and run.json of the first `MOST_LOOKED_AT` runs of a store, in order."""
    keys = some_folders(store, RUNS, MOST_LOOKED_AT)
    with ThreadPoolExecutor(_READERS) as pool:
        for run_key, run in zip(keys, pool.map(lambda key: _run(store, key), keys), strict=True):
            if run is not None:
                yield run_key, run


def _run(store: Store, run_key: str) -> Mapping[str, Any] | None:
    try:
        return RunHome.open(store, run_key).run_alone()
    except (Damaged, WrongInput):
        return None  # A folder that is no run is nobody's twin.


def _words(name: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    return f"{name} ({theirs.get(name)!r} there, {mine.get(name)!r} here)"
