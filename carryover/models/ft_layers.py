"""Owns the torch modules of tabular tokens: numbers and categories as tokens, and a transformer over them.

    ids [B, M]     --CategoryTokens--> [B, M, T] --adapter--┐
    values [B, N]  --NumberTokens----> [B, N, T] --adapter--┴-> [B, M + N + 1, D] --blocks--> pooled [B, D]
                                                  cls_token --┘ (last)

After Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data" (2021), and "On Embeddings for Numerical
Features in Tabular Deep Learning" (2022). The blocks have the parameter names that AutoMM's checkpoints have.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from carryover.models.family import Output
from carryover.models.layers import init_weights

NORMALIZATIONS: Mapping[str, type[nn.Module]] = {"layer_norm": nn.LayerNorm, "rms_norm": nn.RMSNorm}
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}
# Half of the hidden layer opens or closes the other half (Shazeer, "GLU Variants Improve Transformer", 2020).
GATED: Mapping[str, type[nn.Module]] = {"geglu": nn.GELU, "reglu": nn.ReLU}


def _spread(shape: Sequence[int], width: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) / math.sqrt(width))


class LinearTokens(nn.Module):
    """[B, N] -> [B, N, T]: each column has a vector that its number scales, and one that is added."""

    def __init__(self, columns: int, width: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = _spread((columns, width), width)
        self.bias = _spread((columns, width), width) if bias else None

    def forward(self, values: Tensor) -> Tensor:
        tokens = values.unsqueeze(-1) * self.weight
        return tokens if self.bias is None else tokens + self.bias


class PeriodicTokens(nn.Module):
    """[B, N] -> [B, N, T]: cosines and sines of learned frequencies, T / 2 a column."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.randn(columns, width // 2))

    def forward(self, values: Tensor) -> Tensor:
        angles = 2 * math.pi * self.coefficients * values.unsqueeze(-1)
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ColumnLinear(nn.Module):
    """[B, N, T] -> [B, N, T]: a linear layer of its own for each column."""

    def __init__(self, columns: int, width: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(columns, width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound)) if bias else None

    def forward(self, tokens: Tensor) -> Tensor:
        mapped = torch.einsum("bni,nio->bno", tokens, self.weight)
        return mapped if self.bias is None else mapped + self.bias


class ColumnNorm(nn.Module):
    """[B, N, T] -> [B, N, T]: layer norm with weights of its own for each column."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(columns, width))
        self.bias = nn.Parameter(torch.zeros(columns, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.layer_norm(tokens, tokens.shape[-1:]) * self.weight + self.bias


class AutoDis(nn.Module):
    """[B, N] -> [B, N, T]: a soft choice among learned vectors (Guo et al., arXiv 2012.08986v2)."""

    def __init__(self, columns: int, width: int, *, temperature: float = 3.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.first = LinearTokens(columns, width, bias=False)
        self.second = ColumnLinear(columns, width, bias=False)
        self.vectors = ColumnLinear(columns, width, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        scores = self.second(functional.leaky_relu(self.first(values)))
        return self.vectors(torch.softmax(scores / self.temperature, dim=-1))


FIRST: Mapping[str, Callable[[int, int], nn.Module]] = {
    "autodis": AutoDis,
    "linear": LinearTokens,
    "positional": PeriodicTokens,
}
LATER: Mapping[str, Callable[[int, int], nn.Module]] = {
    "layernorm": ColumnNorm,
    "leaky_relu": lambda columns, width: nn.LeakyReLU(),
    "linear": ColumnLinear,
    "relu": lambda columns, width: nn.ReLU(),
    "shared_linear": lambda columns, width: nn.Linear(width, width),
}


def number_tokens(columns: int, width: int, arch: Sequence[str]) -> nn.Sequential:
    """Return [B, N] -> [B, N, T] as `embedding_arch` says: its first word makes the tokens, the others change them."""
    return nn.Sequential(FIRST[arch[0]](columns, width), *(LATER[word](columns, width) for word in arch[1:]))


class CategoryTokens(nn.Module):
    """[B, M] ids -> [B, M, T]: one table for all columns, each with its own rows, and a vector a column."""

    offsets: Tensor

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)
        self.embeddings = nn.Embedding(sum(sizes), width)
        nn.init.normal_(self.embeddings.weight, std=1 / math.sqrt(width))
        self.bias = _spread((len(sizes), width), width)

    def forward(self, ids: Tensor) -> Tensor:
        return self.embeddings(ids + self.offsets) + self.bias


class Attention(nn.Module):
    """[B, L, D] -> [B, L, D]: every token attends to all; written out, so that it is deterministic on GPUs too."""

    def __init__(self, width: int, heads: int, drop_rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.W_q, self.W_k, self.W_v = (_linear(width, width) for _ in range(3))
        self.W_out = _linear(width, width) if heads > 1 else nn.Identity()
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (self._split(through(tokens)) for through in (self.W_q, self.W_k, self.W_v))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        mixed = self.dropout(torch.softmax(scores, dim=-1)) @ value
        return self.W_out(mixed.transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class AdditiveAttention(nn.Module):
    """[B, L, D] -> [B, L, D] in time linear in L (Wu et al., "Fastformer", 2021)."""

    def __init__(self, width: int, heads: int, drop_rate: float, *, share: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qv_proj = _linear(width, width) if share else None
        self.q_proj = None if share else _linear(width, width)
        self.v_proj = None if share else _linear(width, width)
        self.k_proj = _linear(width, width)
        self.W_q, self.W_k = _linear(width, heads), _linear(width, heads)
        self.r_out = _linear(width, width)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.qv_proj is not None:
            query = value = self.qv_proj(tokens)
        else:
            assert self.q_proj is not None and self.v_proj is not None
            query, value = self.q_proj(tokens), self.v_proj(tokens)
        keys = self.k_proj(tokens) * self._summary(query, self.W_q(query))
        return query + self.dropout(self.r_out(value * self._summary(keys, self.W_k(keys))))

    def _summary(self, states: Tensor, scores: Tensor) -> Tensor:
        """Return [B, 1, D], for each head the mean of its part of all tokens, weighted by scores [B, L, H]."""
        parts = states.unflatten(-1, (self.heads, -1))
        weights = torch.softmax(scores / math.sqrt(parts.shape[-1]), dim=1)
        return torch.einsum("blh,blhd->bhd", weights, parts).flatten(1).unsqueeze(1)


class FeedForward(nn.Module):
    """[B, L, D] -> [B, L, D] through one hidden layer."""

    def __init__(self, width: int, hidden: int, *, activation: str, drop_rate: float) -> None:
        super().__init__()
        self.gated = activation in GATED
        self.linear_first = nn.Linear(width, 2 * hidden if self.gated else hidden)
        self.activation = (GATED | ACTIVATIONS)[activation]()  # type: ignore[operator]
        self.dropout = nn.Dropout(drop_rate)
        self.linear_second = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.linear_first(tokens)
        if self.gated:
            open_, gate = hidden.chunk(2, dim=-1)
            hidden = open_ * self.activation(gate)
        else:
            hidden = self.activation(hidden)
        return self.linear_second(self.dropout(hidden))


class Block(nn.Module):
    """Attention and a hidden layer, each behind a norm and added to what came in; the first block has no first norm."""

    def __init__(self, attention: nn.Module, ffn: FeedForward, norms: Sequence[nn.Module], drop_rate: float) -> None:
        super().__init__()
        self.attention, self.ffn = attention, ffn
        self.attention_normalization, self.ffn_normalization = norms
        self.residual_dropout = nn.Dropout(drop_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.residual_dropout(self.attention(self.attention_normalization(tokens)))
        return tokens + self.residual_dropout(self.ffn(self.ffn_normalization(tokens)))


class TokenTransformer(nn.Module):
    """[B, L, D] -> [B, L, D] through blocks."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class FTTransformer(nn.Module):
    """Reads "values" and "ids", or one of them; features are the CLS token's state, or the mean over all.

    Args:
        numbers, categories: tokenizers; None where there are no such columns.
    """

    def __init__(
        self,
        numbers: nn.Module | None,
        categories: CategoryTokens | None,
        transformer: TokenTransformer,
        *,
        token_width: int,
        width: int,
        pooling: str,
        head: nn.Module | None,
    ) -> None:
        super().__init__()
        self.out_features = width
        self.pooling = pooling
        self.categorical_feature_tokenizer = categories
        self.numerical_feature_tokenizer = numbers
        self.categorical_adapter = nn.Linear(token_width, width) if categories is not None else None
        self.numerical_adapter = nn.Linear(token_width, width) if numbers is not None else None
        for adapter in (self.categorical_adapter, self.numerical_adapter):
            if adapter is not None:
                init_weights(adapter)
        bound = 1 / math.sqrt(width)
        self.cls_token = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        self.transformer = transformer
        self.head = head

    def forward(self, features: Mapping[str, Tensor]) -> Output:
        parts: list[Tensor] = []
        if self.categorical_feature_tokenizer is not None and self.categorical_adapter is not None:
            parts.append(self.categorical_adapter(self.categorical_feature_tokenizer(features["ids"])))
        if self.numerical_feature_tokenizer is not None and self.numerical_adapter is not None:
            values = features["values"].to(self.cls_token.dtype)
            parts.append(self.numerical_adapter(self.numerical_feature_tokenizer(values)))
        parts.append(self.cls_token.expand(len(parts[0]), 1, -1))
        states = self.transformer(torch.cat(parts, dim=1))
        pooled = states[:, -1] if self.pooling == "cls" else states.mean(dim=1)
        return Output(pooled, None if self.head is None else self.head(pooled))


def token_head(width: int, num_outputs: int | None, *, normalization: str, activation: str) -> nn.Module | None:
    """Return norm, activation and linear layer to the logits, or None where no logits are asked for."""
    if num_outputs is None:
        return None
    linear = nn.Linear(width, num_outputs)
    init_weights(linear)
    parts = (NORMALIZATIONS[normalization](width), ACTIVATIONS[activation](), linear)
    return nn.Sequential(OrderedDict(zip(("normalization", "activation", "linear"), parts, strict=True)))


def _linear(narrow: int, wide: int) -> nn.Linear:
    layer = nn.Linear(narrow, wide)
    nn.init.zeros_(layer.bias)
    return layer
