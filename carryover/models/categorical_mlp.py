"""Owns the family `categorical_mlp`: an embedding and an MLP a column, then one MLP over all of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.config import check, key
from carryover.ground.console import warn
from carryover.ground.digests import canonical
from carryover.models import columns
from carryover.models.numerical_mlp import ACTIVATIONS, NORMALIZATIONS, check_mlp

if TYPE_CHECKING:
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


@dataclass(frozen=True)
class CategoricalPreprocessor:
    """Gives "ids" int64[B, N]: a kept value's place in its column's list; rare, unknown and missing are the last id.

    Attributes:
        columns: names, in the order of the array's second dimension.
        values: each column's kept values as text, most frequent first.
    """

    columns: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    @cached_property
    def _places(self) -> list[dict[str, int]]:
        return [{value: place for place, value in enumerate(kept)} for kept in self.values]

    @property
    def sizes(self) -> list[int]:
        """Return the number of ids of each column, the last one included."""
        return [len(kept) + 1 for kept in self.values]

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        columns.require(rows, self.columns)
        ids = np.empty((rows.num_rows, len(self.columns)), dtype=np.int64)
        for index, (name, places) in enumerate(zip(self.columns, self._places, strict=True)):
            last = len(places)
            ids[:, index] = [last if text is None else places.get(text, last) for text in columns.texts(rows, name)]
        return {"ids": ids}

    def files(self) -> dict[str, bytes]:
        return {"categorical.json": canonical(asdict(self))}


class CategoricalMLPFamily:
    """The family; see the module."""

    name = "categorical_mlp"
    Config = CategoricalMLPConfig

    def check(self, config: CategoricalMLPConfig) -> None:
        """Nothing outside the recipe is named."""

    def portable(self, config: CategoricalMLPConfig) -> CategoricalMLPConfig:
        return config

    def reads(self, schema: Schema, config: CategoricalMLPConfig) -> tuple[Column, ...]:
        return tuple(schema.features("categorical"))

    def preprocessor(self, config: CategoricalMLPConfig, schema: Schema, data: DataConfig) -> CategoricalPreprocessor:
        read = self.reads(schema, config)
        least, most = data.categorical.minimum_cat_count, data.categorical.maximum_num_cat
        kept = tuple(_kept(column, least=least, most=most) for column in read)
        for column, values in zip(read, kept, strict=True):
            if not values:
                warn(
                    f"column '{column.name}': no category stands in {least} rows, so it tells the model nothing; "
                    "data.categorical.minimum_cat_count can be lowered"
                )
        return CategoricalPreprocessor(tuple(column.name for column in read), kept)

    def restore(self, config: CategoricalMLPConfig, files: Mapping[str, bytes]) -> CategoricalPreprocessor:
        stored = json.loads(files["categorical.json"])
        return CategoricalPreprocessor(tuple(stored["columns"]), tuple(tuple(kept) for kept in stored["values"]))

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


def embedding_width(categories: int) -> int:
    """Return the width of a column's embedding: 1.6 n^0.56, from 2 to 100 (fastai's rule of thumb, as in AutoMM)."""
    return int(max(2, min(EMBEDDING_MOST, 1.6 * categories**0.56)))


def _kept(column: Column, *, least: int, most: int) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for value, count in column.statistics.get("counts", {}).items():
        counts[columns.as_text(value)] = counts.get(columns.as_text(value), 0) + int(count)
    frequent = [value for value, count in counts.items() if count >= least]
    # Equal counts are told apart by the value itself, so that the ids never depend on the order of a file.
    return tuple(sorted(frequent, key=lambda value: (-counts[value], value))[:most])


FAMILY = CategoricalMLPFamily()
