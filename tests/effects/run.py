"""What the keys of the run itself do: seed, env, checkpoint, resume."""

import re
from typing import Any

import pytest
import torch

from carryover.checkpoint.policy import Due
from carryover.checkpoint.retention import Keep
from carryover.data import loader
from carryover.train import run as runs
from carryover.train.limits import limits_of
from carryover.train.setup import choose_device, choose_precision
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
    found.taken(step=1, now=0.0, blocked=2.0)
    return [found.due(step=2, now=float(now)) for now in range(0, 400, 5)]


def micros(settings: Flat) -> list[int]:
    """Return how many samples each micro-batch of the first optimizer step has."""
    env = recipe(settings).env
    cut = loader.micros_of_step(
        rows=100,
        epoch=0,
        position=0,
        batch_size=env.batch_size,
        micro_size=runs.micro_size(env),
        rank=0,
        world=1,
    )
    return [one.last - one.first for one in cut]


def loaders(settings: Flat) -> list[Any]:
    """Return the size of batches and the number of processes that training and validation ask for."""
    seen: list[Any] = []
    load = loader.load

    def watched(micros: Any, batches: Any, *, workers: int) -> Any:
        listed = list(micros) if not batches.training else micros
        seen.append((batches.training, workers, [one.size for one in listed] if not batches.training else 0))
        return load(listed, batches, workers=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "load", watched)
        trained(settings)
    return seen


def device(settings: Flat) -> str:
    """Return where it would train, or why not."""
    try:
        return str(choose_device(recipe(settings).env))
    except Exception as error:
        return str(error)


def precision(settings: Flat) -> str:
    """Return the precision on a CPU."""
    return choose_precision(recipe(settings).env, torch.device("cpu"), "")


def deterministic(settings: Flat) -> int:
    """Return whether PyTorch was asked for deterministic operations."""
    before = torch.get_deterministic_debug_mode()
    try:
        torch.set_deterministic_debug_mode("default")
        trained(settings)
        return torch.get_deterministic_debug_mode()
    finally:
        torch.set_deterministic_debug_mode(before)


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


def _words(settings: Flat) -> dict[str, Any]:
    return {re.sub(r"\.", "__", name): value for name, value in settings.items()}


_DUE = {"checkpoint.max_lost_seconds": 300.0}
EFFECTS: dict[str, Effect] = {
    "seed": Effect(1, weights),
    "env.batch_size": Effect(8, weights),
    "env.per_gpu_batch_size": Effect(2, micros),
    "env.eval_batch_size_ratio": Effect(1.0, loaders),
    "env.precision": Effect("64", precision),
    "env.num_workers": Effect(3, loaders),
    "env.num_workers_evaluation": Effect(3, loaders),
    "env.accelerator": Effect("gpu", device),
    "env.deterministic": Effect(False, deterministic),
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
