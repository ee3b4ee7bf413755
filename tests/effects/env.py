"""What the keys of env do."""

import functools
from typing import Any

import pytest
import torch

from carryover.data import loader
from carryover.train import run as runs
from carryover.train.environment import ranks_of
from carryover.train.setup import choose_device, choose_precision
from tests.data.support import prepared, write
from tests.effects.effect import Effect, Flat, recipe, scratch, trained, weights, weights_on
from tests.effects.hf_text import encoder


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

    def watched(micros: Any, batches: Any, *, workers: int, pinned: bool) -> Any:
        listed = list(micros) if not batches.training else micros
        sizes = [] if batches.training else [one.last - one.first for one in listed]
        seen.append((batches.training, workers, sizes))
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


def ranks(settings: Flat) -> int:
    """Return the ranks that a machine with 4 GPUs starts."""
    return ranks_of(recipe(settings).env, None, gpus=lambda: 4)


def said(settings: Flat) -> str:
    """Return what is said of the strategy at a start."""
    return recipe(settings).env.strategy_words()


def compiling(settings: Flat) -> list[Any]:
    """Return what the compiler is asked for in a training; nothing is compiled."""
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", lambda _, **words: seen.append(words))
        patch.setenv("CXX", "true")
        trained(settings)
    return seen


def last_step(settings: Flat) -> int:
    """Return how many optimizer steps a training took."""
    return trained(settings).state()["step"]


@functools.cache
def sentences() -> Any:
    """Return the card of a small dataset of short and long texts."""
    rows = [{"text": f"{number}" + " good bad" * (number % 9), "label": "ab"[number % 2]} for number in range(60)]
    return prepared(scratch() / "sentences", write(scratch() / "sentences.csv", rows), column_types={"text": "text"})


def texts(settings: Flat) -> str:
    """Return the weights after one step of a text model."""
    model = {"model.names": ["hf_text"], "model.hf_text.checkpoint_name": encoder("tiny")}
    return weights_on(sentences)({**model, "optimization.max_steps": 1, **settings})


_ON = {"env.compile.turn_on": True}
EFFECTS: dict[str, Effect] = {
    "env.num_gpus": Effect(2, ranks),
    "env.batch_size": Effect(8, weights),
    "env.per_gpu_batch_size": Effect(2, micros),
    "env.eval_batch_size_ratio": Effect(1.0, loaders),
    "env.group_by_length": Effect(False, texts),
    "env.precision": Effect("64", precision),
    "env.num_workers": Effect(3, loaders),
    "env.num_workers_evaluation": Effect(3, loaders),
    "env.accelerator": Effect("gpu", device),
    "env.strategy": Effect("dp", said),
    "env.compile.turn_on": Effect(True, compiling),
    "env.compile.mode": Effect("max-autotune", compiling, _ON),
    "env.compile.dynamic": Effect(False, compiling, _ON),
    "env.compile.backend": Effect("aot_eager", compiling, _ON),
    "env.deterministic": Effect(False, deterministic),
    "env.fast_dev_run": Effect(2, last_step),
}
