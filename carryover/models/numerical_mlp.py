"""Owns the family `numerical_mlp`: numbers, gaps filled with the mean, scaled, through an MLP."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.config import check, key
from carryover.models import dump_tables, table
from carryover.models.family import SPARED
from carryover.models.table import NumericalPreprocessor

if TYPE_CHECKING:
    from torch import nn

    from carryover.models.layers import NumericalMLP

ACTIVATIONS = ("elu", "gelu", "leaky_relu", "relu", "silu", "tanh")
NORMALIZATIONS = ("batch_norm", "ghost_batch_norm", "layer_norm", "none")
# How a number becomes a token: the first word makes it, the others change it.
FIRST = ("autodis", "linear", "positional")
LATER = ("layernorm", "leaky_relu", "linear", "relu", "shared_linear")
ARCHITECTURE = f"{', '.join(FIRST)}; then any of {', '.join(LATER)}"


@dataclass(frozen=True)
class NumericalMLPConfig:
    """Recipe section `model.numerical_mlp`."""

    hidden_size: int = key(128, help="width of every layer and of the features")
    num_layers: int = key(1, help="number of layers")
    activation: str = key("leaky_relu", help="activation behind each layer", allowed=", ".join(ACTIVATIONS))
    drop_rate: float = key(0.1, help="dropout behind each activation", allowed="0 <= x < 1")
    normalization: str = key("layer_norm", help="normalization behind each layer", allowed=", ".join(NORMALIZATIONS))
    embedding_arch: tuple[str, ...] | None = key(
        None, help="how a number becomes a token; null: numbers as they are", allowed=ARCHITECTURE
    )
    token_dim: int = key(8, help="width of the tokens, with embedding_arch", allowed="x >= 1, even with positional")

    def __post_init__(self) -> None:
        check(self.hidden_size > 0, "hidden_size", self.hidden_size, "a positive number")
        check(self.token_dim > 0, "token_dim", self.token_dim, "a positive number")
        check_mlp(self)
        if not self.embedding_arch:
            object.__setattr__(self, "embedding_arch", None)
        else:
            check_tokens(self)


def check_mlp(config: Any) -> None:
    """Check the keys that every MLP has; `num_layers` where there is one."""
    layers = getattr(config, "num_layers", 1)
    check(layers > 0, "num_layers", layers, "a positive number")
    check(config.activation in ACTIVATIONS, "activation", config.activation, f"one of {', '.join(ACTIVATIONS)}")
    check(0 <= config.drop_rate < 1, "drop_rate", config.drop_rate, "at least 0 and below 1")
    want = f"one of {', '.join(NORMALIZATIONS)}"
    check(config.normalization in NORMALIZATIONS, "normalization", config.normalization, want)


def check_tokens(config: Any) -> None:
    """Check `embedding_arch` and the `token_dim` that goes with it."""
    first, *later = config.embedding_arch or ("",)
    possible = first in FIRST and set(later) <= set(LATER)
    check(possible, "embedding_arch", list(config.embedding_arch), f"a list of one of {ARCHITECTURE}")
    even = first != "positional" or config.token_dim % 2 == 0
    check(even, "token_dim", config.token_dim, "even, because embedding_arch is positional")


class NumericalMLPFamily:
    """The family; see the module."""

    name = "numerical_mlp"
    imports = ("carryover.models.layers",)
    spared = SPARED
    Config = NumericalMLPConfig

    def check(self, config: NumericalMLPConfig) -> None:
        """Nothing outside the recipe is named."""

    def portable(self, config: NumericalMLPConfig) -> NumericalMLPConfig:
        return config

    def reads(self, schema: Schema, config: NumericalMLPConfig) -> tuple[Column, ...]:
        return tuple(schema.features("numerical"))

    def preprocessor(self, config: NumericalMLPConfig, schema: Schema, data: DataConfig) -> NumericalPreprocessor:
        return table.fit_numbers(self.reads(schema, config), data)

    def restore(self, config: NumericalMLPConfig, files: Mapping[str, bytes]) -> NumericalPreprocessor:
        return table.restore_numbers(files)

    def network(
        self,
        config: NumericalMLPConfig,
        preprocessor: NumericalPreprocessor,
        *,
        num_outputs: int | None,
        pretrained: bool,
    ) -> "NumericalMLP":
        from carryover.models import layers

        columns, tokens = len(preprocessor.columns), None
        if config.embedding_arch:
            from carryover.models.ft_layers import number_tokens

            tokens = number_tokens(columns, config.token_dim, config.embedding_arch)
        width = columns * config.token_dim if tokens is not None else columns
        widths = [width] + [config.hidden_size] * config.num_layers
        body = layers.mlp(
            widths,
            activation=config.activation,
            normalization=config.normalization,
            drop_rate=config.drop_rate,
        )
        return layers.NumericalMLP(body, config.hidden_size, num_outputs, tokens=tokens)

    def dump(
        self, config: NumericalMLPConfig, branch: "NumericalMLP", preprocessor: NumericalPreprocessor, folder: Path
    ) -> None:
        dump_tables.write(self, config, branch, preprocessor, folder)

    def opened(self, branch: "NumericalMLP", folder: Path) -> "nn.Module":
        return dump_tables.opened(self, folder)

    def samples(self, preprocessor: NumericalPreprocessor) -> pa.Table:
        return table.samples(preprocessor, None)


FAMILY = NumericalMLPFamily()
