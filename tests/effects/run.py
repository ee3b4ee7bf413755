"""What the keys of the run itself do: seed, checkpoint, resume."""

import re
from typing import Any

import pytest

from carryover.checkpoint.policy import Due
from carryover.checkpoint.retention import Keep
from carryover.train import recipe as recipes
from carryover.train import run as runs
from carryover.train.limits import limits_of
from tests.effects.effect import Effect, Flat, recipe, trained, weights


def steps(settings: Flat) -> list[int]:
    """Return the steps of the commits that were made, or are kept."""
    return [record.step for record in trained({"optimization.max_epochs": 2, **settings}).home.commits()]


def kept(settings: Flat) -> Keep:
    """Return which commits stay."""
    return recipe(settings).checkpoint.keep(greater_is_better=True)


def due(settings: Flat) -> list[bool]:
    """Tell at which seconds of a training with saves of 2 s a save is due."""
    found = Due(recipe({"checkpoint.every_steps": None, **settings}).checkpoint, step=0, now=0.0)
    found.taken(step=1, now=0.0)
    found.blocked(2.0)
    return [found.due(step=2, now=float(now)) for now in range(0, 400, 5)]


def gives_up(settings: Flat) -> float:
    """Return how long a saver of this recipe tries a failing save again."""
    seen: list[float] = []
    behind = runs.CommitSaver

    class Watched(behind):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            seen.append(self._behind._give_up)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "CommitSaver", Watched)
        trained(settings)
    return seen[0]


def sample_records(settings: Flat) -> bool:
    """Tell whether it was written down which rows each step saw."""
    return bool(trained(settings).home.store.names("samples"))


def changed_rate(settings: Flat) -> list[float]:
    """Return the learning rates of a run that is stopped, and goes on with more epochs."""
    run = trained({"optimization.max_epochs": 2, "optimization.log_every_n_steps": 1})
    run.go(optimization__max_epochs=4, optimization__log_every_n_steps=1, **_words(settings))
    return [line["learning_rate"] for line in run.curve() if "learning_rate" in line]


def time_left(settings: Flat) -> float:
    """Return the deadline of an attempt of 10 s of a run that has trained for 8 s."""
    made = recipe(settings)
    limits = limits_of(made.optimization, made.env, made.resume, rows=10, validates=True, time_limit=10.0, spent=8.0)
    return limits.deadline


def learning_rate(settings: Flat) -> float:
    """Return the learning rate that a recipe ends with."""
    return recipes.make(settings).optimization.learning_rate


def _words(settings: Flat) -> dict[str, Any]:
    return {re.sub(r"\.", "__", name): value for name, value in settings.items()}


_DUE = {"checkpoint.max_lost_seconds": 300.0}
EFFECTS: dict[str, Effect] = {
    "presets": Effect("medium_quality", learning_rate),
    "seed": Effect(1, weights),
    "data.record_samples": Effect(True, sample_records),
    "checkpoint.every_steps": Effect(1, due),
    "checkpoint.every_seconds": Effect(20.0, due),
    "checkpoint.max_lost_seconds": Effect(30.0, due),
    "checkpoint.preemption_mtbf_seconds": Effect(100.0, due, _DUE),
    "checkpoint.give_up_seconds": Effect(5.0, gives_up),
    "checkpoint.keep_last": Effect(4, steps),
    "checkpoint.keep_best": Effect(5, kept),
    "resume.schedule": Effect("constant", changed_rate),
    "resume.time_limit": Effect("attempt", time_left),
}
