"""Owns the family `numerical_mlp`: numbers, gaps filled with the mean, scaled, through an MLP."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.config import check, key
from carryover.ground.digests import canonical
from carryover.models import columns

if TYPE_CHECKING:
    from carryover.models.layers import NumericalMLP

ACTIVATIONS = ("elu", "gelu", "leaky_relu", "relu", "silu", "tanh")
NORMALIZATIONS = ("layer_norm", "none")


@dataclass(frozen=True)
class NumericalMLPConfig:
    """Recipe section `model.numerical_mlp`."""

    hidden_size: int = key(128, help="width of every layer and of the features")
    num_layers: int = key(1, help="number of layers")
    activation: str = key("leaky_relu", help="activation behind each layer", allowed=", ".join(ACTIVATIONS))
    drop_rate: float = key(0.1, help="dropout behind each activation", allowed="0 <= x < 1")
    normalization: str = key("layer_norm", help="normalization behind each layer", allowed=", ".join(NORMALIZATIONS))

    def __post_init__(self) -> None:
        check(self.hidden_size > 0, "hidden_size", self.hidden_size, "a positive number")
        check_mlp(self)


def check_mlp(config: Any) -> None:
    """Check the keys that every MLP has; `num_layers` where there is one."""
    layers = getattr(config, "num_layers", 1)
    check(layers > 0, "num_layers", layers, "a positive number")
    check(config.activation in ACTIVATIONS, "activation", config.activation, f"one of {', '.join(ACTIVATIONS)}")
    check(0 <= config.drop_rate < 1, "drop_rate", config.drop_rate, "at least 0 and below 1")
    want = f"one of {', '.join(NORMALIZATIONS)}"
    check(config.normalization in NORMALIZATIONS, "normalization", config.normalization, want)


@dataclass(frozen=True)
class NumericalPreprocessor:
    """Gives "values" float32[B, N]: (x - shift) / scale, with `fill` where a number is missing.

    Attributes:
        columns: names, in the order of the array's second dimension.
        fill, shift, scale: one number a column.
    """

    columns: tuple[str, ...]
    fill: tuple[float, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        columns.require(rows, self.columns)
        values = np.stack([columns.numbers(rows, name) for name in self.columns], axis=1)
        values = np.where(np.isnan(values), np.asarray(self.fill), values)
        return {"values": ((values - np.asarray(self.shift)) / np.asarray(self.scale)).astype(np.float32)}

    def files(self) -> dict[str, bytes]:
        return {"numerical.json": canonical(asdict(self))}


class NumericalMLPFamily:
    """The family; see the module."""

    name = "numerical_mlp"
    Config = NumericalMLPConfig

    def check(self, config: NumericalMLPConfig) -> None:
        """Nothing outside the recipe is named."""

    def portable(self, config: NumericalMLPConfig) -> NumericalMLPConfig:
        return config

    def reads(self, schema: Schema, config: NumericalMLPConfig) -> tuple[Column, ...]:
        return tuple(schema.features("numerical"))

    def preprocessor(self, config: NumericalMLPConfig, schema: Schema, data: DataConfig) -> NumericalPreprocessor:
        read = self.reads(schema, config)
        means = [float(column.statistics.get("mean") or 0.0) for column in read]
        scales = [_spread(column) if data.numerical.scaler_with_std else 1.0 for column in read]
        shifts = means if data.numerical.scaler_with_mean else [0.0] * len(read)
        return NumericalPreprocessor(tuple(column.name for column in read), tuple(means), tuple(shifts), tuple(scales))

    def restore(self, config: NumericalMLPConfig, files: Mapping[str, bytes]) -> NumericalPreprocessor:
        stored = json.loads(files["numerical.json"])
        return NumericalPreprocessor(**{name: tuple(value) for name, value in stored.items()})

    def network(
        self,
        config: NumericalMLPConfig,
        preprocessor: NumericalPreprocessor,
        *,
        num_outputs: int | None,
        pretrained: bool,
    ) -> "NumericalMLP":
        from carryover.models import layers

        widths = [len(preprocessor.columns)] + [config.hidden_size] * config.num_layers
        body = layers.mlp(
            widths,
            activation=config.activation,
            normalization=config.normalization,
            drop_rate=config.drop_rate,
        )
        return layers.NumericalMLP(body, config.hidden_size, num_outputs)


def _spread(column: Column) -> float:
    """Return the standard deviation after gaps were filled with the mean (imputer, then scaler); 1 instead of 0."""
    count, missing = int(column.statistics.get("count") or 0), int(column.statistics.get("missing") or 0)
    if count == 0:
        return 1.0
    spread = float(column.statistics.get("std") or 0.0) * (count / (count + missing)) ** 0.5
    return spread if spread > 0 else 1.0


FAMILY = NumericalMLPFamily()
