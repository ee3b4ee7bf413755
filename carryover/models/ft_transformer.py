"""Owns the family `ft_transformer`: each number and category of a row as a token, and a transformer over the tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.config import check, key
from carryover.models import dump_tables, table, token_weights
from carryover.models.family import SPARED
from carryover.models.numerical_mlp import ARCHITECTURE, check_tokens
from carryover.models.table import CategoricalPreprocessor, NumericalPreprocessor

if TYPE_CHECKING:
    from torch import nn

    from carryover.models.ft_layers import Block, FTTransformer

KINDS = ("categorical", "numerical")
POOLING = ("cls", "mean")
ACTIVATIONS = ("gelu", "leaky_relu", "relu", "silu")
FFN_ACTIVATIONS = ("geglu", "reglu", *ACTIVATIONS)
NORMALIZATIONS = ("layer_norm", "rms_norm")
SWITCH = (True, False, "auto")
# From more columns on, "auto" takes the attention whose cost grows with their number and not with its square.
MANY_COLUMNS = 300


@dataclass(frozen=True)
class FTTransformerConfig:
    """Recipe section `model.ft_transformer`."""

    checkpoint_name: str | None = key(
        None,
        help="start the blocks from these weights: a Model or another folder with safetensors, or a file of AutoMM's",
    )
    data_types: tuple[str, ...] = key(KINDS, help="columns that it reads", allowed=", ".join(KINDS))
    requires_all_dtypes: bool = key(False, help="read nothing unless there are columns of each of data_types")
    embedding_arch: tuple[str, ...] = key(("linear",), help="how a number becomes a token", allowed=ARCHITECTURE)
    token_dim: int = key(192, help="width of the tokens", allowed="x >= 1, even with positional")
    hidden_size: int = key(
        192, help="width of the blocks and of the features", allowed="a multiple of attention_num_heads"
    )
    num_blocks: int = key(3, help="number of blocks", allowed="x >= 1")
    attention_num_heads: int = key(8, help="heads of each attention", allowed="x >= 1")
    attention_dropout: float = key(0.2, help="dropout of attention's weights", allowed="0 <= x < 1")
    residual_dropout: float = key(0.0, help="dropout of what each half of a block adds", allowed="0 <= x < 1")
    ffn_hidden_size: int = key(192, help="width of the hidden layer of each block", allowed="x >= 1")
    ffn_dropout: float = key(0.1, help="dropout of the hidden layer", allowed="0 <= x < 1")
    ffn_activation: str = key("geglu", help="activation of the hidden layer", allowed=", ".join(FFN_ACTIVATIONS))
    head_activation: str = key("relu", help="activation before the logits", allowed=", ".join(ACTIVATIONS))
    normalization: str = key("layer_norm", help="norm of blocks and head", allowed=", ".join(NORMALIZATIONS))
    additive_attention: bool | str = key(
        False,
        help=f"attention whose cost is linear in the number of columns; auto: from more than {MANY_COLUMNS} on",
        allowed="true, false, auto",
    )
    share_qv_weights: bool | str = key(
        False, help="one layer for queries and values of additive attention; auto: as it", allowed="true, false, auto"
    )
    pooling_mode: str = key("cls", help="features: the CLS token's, or the mean over all", allowed=", ".join(POOLING))

    def __post_init__(self) -> None:
        known = bool(self.data_types) and set(self.data_types) <= set(KINDS)
        check(known, "data_types", list(self.data_types), f"a list of {' and '.join(KINDS)}")
        check_tokens(self)
        for name in ("token_dim", "num_blocks", "attention_num_heads", "ffn_hidden_size"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("attention_dropout", "residual_dropout", "ffn_dropout"):
            check(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0 and below 1")
        heads = self.attention_num_heads
        fits = self.hidden_size >= 1 and self.hidden_size % heads == 0
        check(fits, "hidden_size", self.hidden_size, f"a multiple of attention_num_heads, {heads}")
        words: dict[str, tuple[object, ...]] = {
            "ffn_activation": FFN_ACTIVATIONS, "head_activation": ACTIVATIONS, "normalization": NORMALIZATIONS,
            "pooling_mode": POOLING, "additive_attention": SWITCH, "share_qv_weights": SWITCH,
        }  # fmt: skip
        for name, allowed in words.items():
            want = f"one of {', '.join(str(word) for word in allowed)}"
            check(getattr(self, name) in allowed, name, getattr(self, name), want)
        shares = self.share_qv_weights is True and self.additive_attention is False
        check(not shares, "share_qv_weights", True, "false, or additive_attention true or auto: nothing else shares")


@dataclass(frozen=True)
class TablePreprocessor:
    """Gives "values" of the numerical and "ids" of the categorical columns; a part that is None gives nothing."""

    numbers: NumericalPreprocessor | None
    categories: CategoricalPreprocessor | None

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        parts = [part(rows, training=training, keys=keys) for part in (self.numbers, self.categories) if part]
        return {name: array for part in parts for name, array in part.items()}

    def files(self) -> dict[str, bytes]:
        parts = [part.files() for part in (self.numbers, self.categories) if part]
        return {name: data for part in parts for name, data in part.items()}


class FTTransformerFamily:
    """The family; see the module."""

    name = "ft_transformer"
    imports = ("carryover.models.ft_layers",)
    spared = SPARED
    Config = FTTransformerConfig

    def check(self, config: FTTransformerConfig) -> None:
        if config.checkpoint_name:
            token_weights.check_source(config.checkpoint_name)

    def portable(self, config: FTTransformerConfig) -> FTTransformerConfig:
        return replace(config, checkpoint_name=None)

    def reads(self, schema: Schema, config: FTTransformerConfig) -> tuple[Column, ...]:
        kinds = {column.type for column in schema.features() if column.type in config.data_types}
        if config.requires_all_dtypes and kinds != set(config.data_types):
            return ()
        return tuple(column for column in schema.features() if column.type in kinds)

    def preprocessor(self, config: FTTransformerConfig, schema: Schema, data: DataConfig) -> TablePreprocessor:
        read = self.reads(schema, config)
        numerical = [column for column in read if column.type == "numerical"]
        categorical = [column for column in read if column.type == "categorical"]
        return TablePreprocessor(
            table.fit_numbers(numerical, data) if numerical else None,
            table.fit_categories(categorical, data) if categorical else None,
        )

    def restore(self, config: FTTransformerConfig, files: Mapping[str, bytes]) -> TablePreprocessor:
        return TablePreprocessor(
            table.restore_numbers(files) if table.NUMBERS in files else None,
            table.restore_categories(files) if table.CATEGORIES in files else None,
        )

    def network(
        self, config: FTTransformerConfig, preprocessor: TablePreprocessor, *, num_outputs: int | None, pretrained: bool
    ) -> "FTTransformer":
        from carryover.models import ft_layers

        numbers, categories = preprocessor.numbers, preprocessor.categories
        width, count = config.token_dim, len(numbers.columns) if numbers else 0
        count += len(categories.columns) if categories else 0
        network = ft_layers.FTTransformer(
            ft_layers.number_tokens(len(numbers.columns), width, config.embedding_arch) if numbers else None,
            ft_layers.CategoryTokens(categories.sizes, width) if categories else None,
            ft_layers.TokenTransformer([_block(config, index, count) for index in range(config.num_blocks)]),
            token_width=width,
            width=config.hidden_size,
            pooling=config.pooling_mode,
            head=ft_layers.token_head(
                config.hidden_size,
                num_outputs,
                normalization=config.normalization,
                activation=config.head_activation,
            ),
        )
        if pretrained and config.checkpoint_name:
            token_weights.load_blocks(network.transformer, config.checkpoint_name)
        return network

    def dump(
        self, config: FTTransformerConfig, branch: "FTTransformer", preprocessor: TablePreprocessor, folder: Path
    ) -> None:
        dump_tables.write(self, config, branch, preprocessor, folder)

    def opened(self, branch: "FTTransformer", folder: Path) -> "nn.Module":
        return dump_tables.opened(self, folder)

    def samples(self, preprocessor: TablePreprocessor) -> pa.Table:
        return table.samples(preprocessor.numbers, preprocessor.categories)


def _block(config: FTTransformerConfig, index: int, columns: int) -> "Block":
    from torch import nn

    from carryover.models import ft_layers

    width, heads = config.hidden_size, config.attention_num_heads
    additive = config.additive_attention is True or (config.additive_attention == "auto" and columns > MANY_COLUMNS)
    if additive:
        share = config.share_qv_weights is not False
        attention = ft_layers.AdditiveAttention(width, heads, config.attention_dropout, share=share)
    else:
        attention = ft_layers.Attention(width, heads, config.attention_dropout)
    ffn = ft_layers.FeedForward(
        width, config.ffn_hidden_size, activation=config.ffn_activation, drop_rate=config.ffn_dropout
    )
    norm = ft_layers.NORMALIZATIONS[config.normalization]
    # The tokens come as they are made; a norm before the first attention would take their scale away.
    norms = [norm(width) if index else nn.Identity(), norm(width)]
    return ft_layers.Block(attention, ffn, norms, config.residual_dropout)


FAMILY = FTTransformerFamily()
