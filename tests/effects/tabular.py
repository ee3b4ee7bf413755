"""What the keys of the models of tables do, and of what joins models."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file

from carryover.models.assembly import build_network, build_preprocessing, choose
from tests.effects.effect import Effect, Flat, recipe, scratch, table

ROWS = pa.table({"x": [0.1, None, -2.0, 3.0], "y": [1.0, 2.0, 0.5, -1.0], "kind": ["a", "b", "c", None]})
KEYS = np.arange(4, dtype=np.uint64)


def network(settings: Flat) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """Return the network, its new weights from a fixed seed, and a batch for it."""
    made, schema = recipe(settings), table().schema
    assembly = choose(made.model, schema, made.data)
    preprocessing = build_preprocessing(assembly, schema, made.data)
    torch.manual_seed(0)
    built = build_network(assembly, preprocessing, 2)
    arrays = preprocessing(ROWS, training=True, keys=KEYS)
    return built, {name: torch.from_numpy(array) for name, array in arrays.items()}


def answers(settings: Flat) -> list[Any]:
    """Return what the network says in training, its branches' own answers with their weights among it."""
    built, batch = network(settings)
    torch.manual_seed(0)
    outputs = built.train()(batch)
    auxiliary = [(weight, logits.tolist()) for weight, logits in outputs.auxiliary]
    return [outputs.logits.tolist(), *auxiliary]


def columns(settings: Flat) -> list[Any]:
    """Return which columns each branch reads."""
    made = recipe(settings)
    return [(branch.name, branch.columns) for branch in choose(made.model, table().schema, made.data).branches]


def only_numbers(settings: Flat) -> str:
    """Return whether a family finds something to read where there are numbers only."""
    made, schema = recipe(settings), table().schema
    kept = tuple(column for column in schema.columns if column.type == "numerical" or column.name == schema.label)
    try:
        return str(choose(made.model, type(schema)(schema.label, schema.problem_type, schema.classes, kept)).branches)
    except ValueError as error:
        return str(error)


@functools.cache
def weights_of_others() -> Path:
    """Return a file with the blocks of a tiny transformer."""
    path = scratch() / "blocks.safetensors"
    save_file({name: value + 0.1 for name, value in network(TOKENS)[0].state_dict().items()}, path)
    return path


def from_others(settings: Flat) -> list[Any]:
    """The same as `answers`, once there are weights to start from."""
    weights_of_others()
    return answers(settings)


def _section(name: str, effects: dict[str, Effect]) -> dict[str, Effect]:
    return {f"model.{name}.{key}": effect for key, effect in effects.items()}


def _mlp(name: str) -> dict[str, Effect]:
    base = {"model.names": [name]}
    others = {"hidden_size": 16, "num_layers": 2, "activation": "tanh", "drop_rate": 0.5, "normalization": "none"}
    return _section(name, {key: Effect(other, answers, base) for key, other in others.items()})


NUMBERS = {"model.names": ["numerical_mlp"]}
TOKENS: dict[str, Any] = {
    "model.names": ["ft_transformer"],
    **{
        f"model.ft_transformer.{key}": value
        for key, value in {"token_dim": 8, "hidden_size": 16, "ffn_hidden_size": 16, "num_blocks": 2}.items()
    },
}
ADDITIVE = {**TOKENS, "model.ft_transformer.additive_attention": True}
FUSED = {"model.names": ["numerical_mlp", "categorical_mlp", "fusion_mlp"]}
EFFECTS: dict[str, Effect] = {
    "model.names": Effect(["ft_transformer"], columns),
    **_mlp("numerical_mlp"),
    **_mlp("categorical_mlp"),
    **_section(
        "numerical_mlp",
        {
            "embedding_arch": Effect(["linear"], answers, NUMBERS),
            "token_dim": Effect(4, answers, {**NUMBERS, "model.numerical_mlp.embedding_arch": ["linear"]}),
        },
    ),
    **_section(
        "ft_transformer",
        {
            "checkpoint_name": Effect(str(scratch() / "blocks.safetensors"), from_others, TOKENS),
            "data_types": Effect(["numerical"], columns, TOKENS),
            "requires_all_dtypes": Effect(True, only_numbers, TOKENS),
            "share_qv_weights": Effect(True, answers, ADDITIVE),
            **{
                key: Effect(other, answers, TOKENS)
                for key, other in {
                    "embedding_arch": ["positional"],
                    "token_dim": 4,
                    "hidden_size": 24,
                    "num_blocks": 1,
                    "attention_num_heads": 4,
                    "attention_dropout": 0.5,
                    "residual_dropout": 0.5,
                    "ffn_hidden_size": 20,
                    "ffn_dropout": 0.5,
                    "ffn_activation": "relu",
                    "head_activation": "gelu",
                    "normalization": "rms_norm",
                    "additive_attention": True,
                    "pooling_mode": "mean",
                }.items()
            },
        },
    ),
    **_section(
        "fusion_mlp",
        {
            key: Effect(other, answers, FUSED)
            for key, other in {
                "weight": 0.5,
                "adapt_in_features": "min",
                "hidden_sizes": [32, 16],
                "activation": "tanh",
                "drop_rate": 0.5,
                "normalization": "none",
            }.items()
        },
    ),
}
