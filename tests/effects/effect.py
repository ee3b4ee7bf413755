"""What shows that a key of the recipe does something, and the observers that several areas share.

An area's module has a dict `EFFECTS`: key -> `Effect`. `test_effects.py` finds the modules by their name, asks for an
entry of every key there is, and looks twice: with `base`, and with the key set to `other` on top. What is seen differs.
"""

import functools
import itertools
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carryover.ground.digests import Hasher
from carryover.models.assembly import Preprocessing, build_preprocessing, choose
from carryover.train import recipe as recipes
from carryover.train.recipe import Recipe
from tests.train.attempts import SMALL, Run, dataset

Flat = Mapping[str, Any]
_numbers = itertools.count()


@dataclass(frozen=True)
class Effect:
    """How to see that a key does something.

    Attributes:
        other: a value that is not the default (nor the one in `base`).
        observe: maps a recipe's keys to what they lead to; compared by ==.
        base: keys that both looks have.
    """

    other: Any
    observe: Callable[[Flat], Any]
    base: Flat = field(default_factory=dict)


@functools.cache
def scratch() -> Path:
    """Return a folder that lives as long as this process."""
    _HELD.append(tempfile.TemporaryDirectory(prefix="effects-"))
    return Path(_HELD[0].name)


_HELD: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def table() -> Any:
    """Return the card of a small dataset: two numbers, a category, a binary label."""
    return dataset(scratch() / "table", count=60)


def recipe(settings: Flat) -> Recipe:
    """Return the recipe of a small run with these keys."""
    return recipes.make({**SMALL, "optimization.max_epochs": 1, **settings})


def trained(settings: Flat, card: Any = None) -> Run:
    """Train to the end with these keys, one rank in this process; return the run.

    Args:
        card: the dataset, else `table()`.
    """
    folder = scratch() / f"run-{next(_numbers)}"
    values = {"optimization.max_epochs": 1, **settings}
    run = Run(card or table(), str(folder / "store"), values, folder / "scratch")
    run.go()
    return run


def weights(settings: Flat) -> str:
    """Return a digest of the final weights of a training."""
    home = trained(settings).home
    finish = home.finish_record()
    assert finish
    entries = home.objects.load_table(finish.table).tensors
    return digest({name: (entry.shape, entry.digest) for name, entry in entries.items()})


def weights_on(card: Callable[[], Any]) -> Callable[[Flat], str]:
    """Return the observer `weights` for another dataset; `card` makes it, or gives it again."""

    def observe(settings: Flat) -> str:
        home = trained(settings, card()).home
        finish = home.finish_record()
        assert finish
        return digest({name: entry.digest for name, entry in home.objects.load_table(finish.table).tensors.items()})

    return observe


def preprocessing(settings: Flat, card: Any = None) -> Preprocessing:
    """Return what turns rows into arrays with these keys."""
    made, schema = recipe(settings), (card or table()).schema
    return build_preprocessing(choose(made.model, schema, made.data), schema, made.data)


def digest(value: Any) -> str:
    """Return a digest of plain values."""
    return Hasher(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
