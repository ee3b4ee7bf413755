"""Owns the family `categorical_mlp`: an embedding and an MLP a column, then one MLP over all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.config import check, key
from carryover.models import dump_tables, table
from carryover.models.family import SPARED
from carryover.models.numerical_mlp import ACTIVATIONS, NORMALIZATIONS, check_mlp
from carryover.models.table import CategoricalPreprocessor

if TYPE_CHECKING:
    from torch import nn

    from carryover.models.layers import CategoricalMLP

EMBEDDING_MOST = 100


@dataclass(frozen=True)
class CategoricalMLPConfig:
    """Recipe section `model.categorical_mlp`."""

    hidden_size: int = key(64, help="width of every layer and of the features")
    num_layers: int = key(1, help="number of layers of each MLP")
    activation: str = key("leaky_relu", help="activation behind each layer", allowed=", ".join(ACTIVATIONS))
    drop_rate: float = key(0.1, help="dropout behind each activation", allowed="0 <= x < 1")
    normalization: str = key("layer_norm", help="normalization behind each layer", allowed=", ".join(NORMALIZATIONS))

    def __post_init__(self) -> None:
        check(self.hidden_size > 0, "hidden_size", self.hidden_size, "a positive number")
        check_mlp(self)


class CategoricalMLPFamily:
    """The family; see the module."""

    name = "categorical_mlp"
    imports = ("carryover.models.layers",)
    spared = SPARED
    Config = CategoricalMLPConfig

    def check(self, config: CategoricalMLPConfig) -> None:
        """Nothing outside the recipe is named."""

    def portable(self, config: CategoricalMLPConfig) -> CategoricalMLPConfig:
        return config

    def reads(self, schema: Schema, config: CategoricalMLPConfig) -> tuple[Column, ...]:
        return tuple(schema.features("categorical"))

    def preprocessor(self, config: CategoricalMLPConfig, schema: Schema, data: DataConfig) -> CategoricalPreprocessor:
        return table.fit_categories(self.reads(schema, config), data)

    def restore(self, config: CategoricalMLPConfig, files: Mapping[str, bytes]) -> CategoricalPreprocessor:
        return table.restore_categories(files)

    def network(
        self,
        config: CategoricalMLPConfig,
        preprocessor: CategoricalPreprocessor,
        *,
        num_outputs: int | None,
        pretrained: bool,
    ) -> "CategoricalMLP":
        from torch import nn

        from carryover.models import layers

        def body(width: int, *, inner: int) -> nn.Sequential:
            widths = [width] + [inner] * (config.num_layers - 1) + [config.hidden_size]
            return layers.mlp(
                widths,
                activation=config.activation,
                normalization=config.normalization,
                drop_rate=config.drop_rate,
            )

        width = config.hidden_size
        embeddings = [nn.Embedding(size, embedding_width(size)) for size in preprocessor.sizes]
        return layers.CategoricalMLP(
            embeddings,
            [body(embedding.embedding_dim, inner=width) for embedding in embeddings],
            body(width * len(embeddings), inner=width * len(embeddings)),
            out_features=width,
            num_outputs=num_outputs,
        )

    def dump(
        self,
        config: CategoricalMLPConfig,
        branch: "CategoricalMLP",
        preprocessor: CategoricalPreprocessor,
        folder: Path,
    ) -> None:
        dump_tables.write(self, config, branch, preprocessor, folder)

    def opened(self, branch: "CategoricalMLP", folder: Path) -> "nn.Module":
        return dump_tables.opened(self, folder)

    def samples(self, preprocessor: CategoricalPreprocessor) -> pa.Table:
        return table.samples(None, preprocessor)


def embedding_width(categories: int) -> int:
    """Return the width of a column's embedding: 1.6 n^0.56, from 2 to 100 (fastai's rule of thumb, as in AutoMM)."""
    return int(max(2, min(EMBEDDING_MOST, 1.6 * categories**0.56)))


FAMILY = CategoricalMLPFamily()
