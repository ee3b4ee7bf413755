"""Owns the torch modules that several families share, and the network that joins branches."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carryover.models.family import Output, Outputs

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class BatchNorm(nn.Module):
    """[B, F] -> [B, F]: batch norm over the rows of a micro-batch, or of each `size` rows of it (ghost batch norm).

    A single row has no spread: it is normalised with the running statistics, as at evaluation.
    """

    def __init__(self, width: int, *, size: int | None = None, momentum: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, momentum=momentum)
        self.size = size

    def forward(self, rows: Tensor) -> Tensor:
        return torch.cat([self._one(part) for part in rows.split(self.size or max(1, len(rows)))])

    def _one(self, rows: Tensor) -> Tensor:
        if len(rows) > 1 or not self.training:
            return self.norm(rows)
        norm = self.norm
        return nn.functional.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias)


NORMALIZATIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "batch_norm": BatchNorm,
    "ghost_batch_norm": lambda width: BatchNorm(width, size=64, momentum=0.01),
    "layer_norm": nn.LayerNorm,
    "none": nn.Identity,
}
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.RMSNorm)


def mlp(widths: Sequence[int], *, activation: str, normalization: str, drop_rate: float) -> nn.Sequential:
    """Return linear layers through `widths`, each followed by normalization, activation and dropout.

    AutoMM normalises before the linear layer; a LayerNorm over one raw number is a constant, so a table with a single
    numerical column would reach its network as nothing. Here the norm stands behind the layer.
    """
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(widths):
        layers += [nn.Linear(narrow, wide), NORMALIZATIONS[normalization](wide), ACTIVATIONS[activation]()]
        layers += [nn.Dropout(drop_rate)]
    network = nn.Sequential(*layers)
    network.apply(init_weights)
    return network


def head(features: int, num_outputs: int | None) -> nn.Linear | None:
    """Return the linear layer from features to logits, or None where no logits are asked for."""
    if num_outputs is None:
        return None
    layer = nn.Linear(features, num_outputs)
    init_weights(layer)
    return layer


def init_weights(module: nn.Module) -> None:
    """Start linear and embedding weights from N(0, 0.02) and biases from 0, as AutoMM does."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, mean=0.0, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class NumericalMLP(nn.Module):
    """[B, N] numbers, or a token for each ([B, N, T]), through an MLP; reads the feature "values"."""

    def __init__(
        self, body: nn.Sequential, out_features: int, num_outputs: int | None, *, tokens: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self.numerical_feature_tokenizer = tokens
        self.mlp = body
        self.head = head(out_features, num_outputs)

    def forward(self, features: Mapping[str, Tensor]) -> Output:
        values = features["values"].to(next(self.mlp.parameters()).dtype)
        if self.numerical_feature_tokenizer is not None:
            values = self.numerical_feature_tokenizer(values).flatten(1)
        hidden = self.mlp(values)
        return Output(hidden, None if self.head is None else self.head(hidden))


class CategoricalMLP(nn.Module):
    """[B, N] category numbers: an embedding and an MLP a column, then one MLP over all; reads the feature "ids"."""

    def __init__(
        self,
        embeddings: Sequence[nn.Embedding],
        columns: Sequence[nn.Sequential],
        joined: nn.Sequential,
        *,
        out_features: int,
        num_outputs: int | None,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self.column_embeddings = nn.ModuleList(embeddings)
        self.column_mlps = nn.ModuleList(columns)
        self.aggregator_mlp = joined
        self.head = head(out_features, num_outputs)
        self.column_embeddings.apply(init_weights)

    def forward(self, features: Mapping[str, Tensor]) -> Output:
        ids = features["ids"]
        columns = zip(self.column_embeddings, self.column_mlps, strict=True)
        parts = [through(embed(ids[:, index])) for index, (embed, through) in enumerate(columns)]
        hidden = self.aggregator_mlp(torch.cat(parts, dim=1))
        return Output(hidden, None if self.head is None else self.head(hidden))


class FusionMLP(nn.Module):
    """Features of all branches, each adapted to one width, concatenated and put through an MLP."""

    def __init__(
        self, widths: Sequence[int], adapted: int | None, hidden: nn.Sequential, *, out_features: int, num_outputs: int
    ) -> None:
        super().__init__()
        self.out_features = out_features
        adapters = [nn.Identity() if adapted is None else nn.Linear(width, adapted) for width in widths]
        self.adapter = nn.ModuleList(adapters)
        self.adapter.apply(init_weights)
        self.fusion_mlp = hidden
        layer = head(out_features, num_outputs)
        assert layer is not None
        self.head = layer

    def forward(self, features: Sequence[Tensor]) -> Output:
        adapted = [adapt(part) for adapt, part in zip(self.adapter, features, strict=True)]
        hidden = self.fusion_mlp(torch.cat(adapted, dim=1))
        return Output(hidden, self.head(hidden))


def is_norm(module: nn.Module) -> bool:
    """Tell whether a module's own parameters are those of a normalization, torch's or another library's."""
    return isinstance(module, _NORMS) or "norm" in type(module).__name__.lower()


def frozen_names(network: nn.Module) -> set[str]:
    """Return the names of the parameters that no step changes, as the state_dict has them: shared ones by each name."""
    named = network.named_parameters(remove_duplicate=False)
    return {name for name, parameter in named if not parameter.requires_grad}


def freeze_unreached(module: nn.Module, output: Tensor) -> None:
    """Freeze the parameters that `output` does not depend on, found in its autograd graph; no backward pass is run."""
    for parameter in unreached(module, output):
        parameter.requires_grad_(False)


def unreached(module: nn.Module, output: Tensor) -> list[nn.Parameter]:
    """Return the trainable parameters that `output` does not depend on, found as `freeze_unreached` finds them."""
    reached = set(_leaves(output))
    return [parameter for parameter in module.parameters() if parameter.requires_grad and id(parameter) not in reached]


def _leaves(output: Tensor) -> Iterator[int]:
    seen, todo = set(), [output.grad_fn]
    while todo:
        node: Any = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield id(node.variable)
        todo += [parent for parent, _ in node.next_functions]


class Network(nn.Module):
    """All branches and, where there are several, what joins them; parameters are named "<branch>.…" and "<fusion>.…".

    Args:
        branches: instance name -> module with `out_features` and `forward(features) -> Output`.
        fusion: (name, module that maps a list of features to Output); None for a single branch, which has a head.
        weight: weight of each branch's own loss; 0 where branches have no heads.
    """

    def __init__(
        self, branches: Mapping[str, nn.Module], fusion: tuple[str, nn.Module] | None, *, weight: float
    ) -> None:
        super().__init__()
        self.branch_names = tuple(branches)
        self.fusion_name = fusion[0] if fusion else None
        self.weight = weight
        for name, module in branches.items():
            self.add_module(name, module)
        if fusion:
            self.add_module(*fusion)

    def forward(self, batch: Mapping[str, Tensor]) -> Outputs:
        outputs: list[Output] = []
        for name in self.branch_names:
            start = f"{name}/"
            features = {key.removeprefix(start): value for key, value in batch.items() if key.startswith(start)}
            outputs.append(self.get_submodule(name)(features))
        if self.fusion_name is None:
            only = outputs[0]
            logits = only.features if only.logits is None else only.logits
            return Outputs(logits, losses=only.losses)
        fused = self.get_submodule(self.fusion_name)([output.features for output in outputs])
        return Outputs(fused.logits, tuple((self.weight, out.logits) for out in outputs if out.logits is not None))
