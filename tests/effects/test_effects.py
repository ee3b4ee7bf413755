"""Every key of the recipe does something: set to another value, something else is seen."""

import importlib
from pathlib import Path

import pytest

from carryover.train import recipe as recipes
from tests.effects.effect import Effect

AREAS = sorted(
    path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "effect", "test_effects")
)
ALL: dict[str, Effect] = {}
for _area in AREAS:
    _found = importlib.import_module(f"tests.effects.{_area}").EFFECTS
    assert not ALL.keys() & _found.keys(), f"{_area}: {ALL.keys() & _found.keys()} stand twice"
    ALL |= _found


def test_every_key_has_an_effect_to_show() -> None:
    keys = recipes.keys().keys()
    assert keys - ALL.keys() == set(), "keys without an entry in tests/effects"
    assert ALL.keys() - keys == set(), "entries for keys that there are not"


@pytest.mark.parametrize("name", sorted(ALL))
def test_key_has_an_effect(name: str) -> None:
    effect = ALL[name]
    info = recipes.keys()[name]
    assert effect.base.get(name, info.default) != effect.other, "that is what it would be anyway"
    before, after = effect.observe(effect.base), effect.observe({**effect.base, name: effect.other})
    assert before != after
