"""What the keys of model.hf_text and data.text do: to the arrays that a row becomes, and to the network's answers."""

import functools
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from carryover.data.order import mix
from carryover.data.schema import Column, Schema
from carryover.models.assembly import Preprocessing, build_network, choose
from tests.effects.effect import Effect, Flat, preprocessing, recipe, scratch
from tests.support.tiny_bert import save_tiny_bert

SCHEMA = Schema(
    "y",
    "binary",
    (0, 1),
    (Column("a", "text", "string", {}), Column("b", "text", "string", {}), Column("y", "categorical", "int64", {})),
)
ROWS = pa.table(
    {
        "a": ["The best movie was not the worst film and the sound is great", "Great — café"] * 4,
        "b": ["an excellent story, but a very boring and slow place to be in", "bad"] * 4,
    }
)
KEYS = mix(0, 0, np.arange(ROWS.num_rows))


@functools.cache
def encoder(name: str) -> str:
    """Return the folder of a tiny BERT; "cased" has a tokenizer.json that keeps capitals, unlike its class."""
    folder = save_tiny_bert(scratch() / name)
    if name == "cased":
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokenizer["normalizer"]["lowercase"] = False
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return str(folder)


def _placed(settings: Flat) -> Flat:
    name = settings.get("model.hf_text.checkpoint_name", "tiny")
    return {**settings, "model.names": ["hf_text"], "model.hf_text.checkpoint_name": encoder(str(name))}


def _prepared(settings: Flat) -> Preprocessing:
    return preprocessing(_placed(settings), SimpleNamespace(schema=SCHEMA))


def arrays(settings: Flat) -> dict[str, Any]:
    """Return what rows become at inference."""
    found = _prepared(settings)(ROWS, training=False, keys=KEYS)
    return {name: array.tolist() for name, array in found.items()}


def training_arrays(settings: Flat) -> dict[str, Any]:
    """Return what rows become in training."""
    found = _prepared(settings)(ROWS, training=True, keys=KEYS)
    return {name: array.tolist() for name, array in found.items()}


def adapted(settings: Flat) -> torch.nn.Module:
    """Return the network with what optimization.peft makes of it."""
    made = recipe(_placed(settings))
    assembly = choose(made.model, SCHEMA, adaptation=made.optimization.adaptation)
    return build_network(assembly, _prepared(settings), 2)


def _network(settings: Flat) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    prepared = _prepared(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(choose(recipe(_placed(settings)).model, SCHEMA), prepared, 2)
    inputs = prepared(ROWS, training=False, keys=KEYS)
    return network, {name: torch.from_numpy(array) for name, array in inputs.items()}


def logits(settings: Flat) -> list[Any]:
    """Return what the network answers before any training."""
    network, inputs = _network(settings)
    with torch.no_grad():
        return network.eval()(inputs).logits.tolist()


def kept_bytes(settings: Flat) -> int:
    """Return how much a forward pass keeps for the backward pass."""
    network, inputs = _network(settings)
    sizes: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(inputs)
    return sum(sizes)


_SHORT = {"model.hf_text.max_text_len": 12, "model.hf_text.text_trivial_aug_maxscale": 0.0}
EFFECTS: dict[str, Effect] = {
    "model.hf_text.checkpoint_name": Effect("cased", arrays, {"model.hf_text.checkpoint_name": "tiny"}),
    "model.hf_text.pretrained": Effect(False, logits),
    "model.hf_text.tokenizer_name": Effect("bert", arrays, {"model.hf_text.checkpoint_name": "cased"}),
    "model.hf_text.pooling_mode": Effect("mean", logits),
    "model.hf_text.pair_mode": Effect("siamese", arrays),
    "model.hf_text.max_text_len": Effect(12, arrays),
    "model.hf_text.insert_sep": Effect(False, arrays),
    "model.hf_text.text_segment_num": Effect(1, arrays),
    "model.hf_text.gradient_checkpointing": Effect(True, kept_bytes),
    "model.hf_text.stochastic_chunk": Effect(True, training_arrays, _SHORT),
    "model.hf_text.text_trivial_aug_maxscale": Effect(0.0, training_arrays),
    "model.hf_text.text_aug_detect_length": Effect(20, training_arrays),
    "model.hf_text.text_train_augment_types": Effect(["random_delete(0.5)"], training_arrays),
    "data.text.normalize_text": Effect(True, arrays),
}
