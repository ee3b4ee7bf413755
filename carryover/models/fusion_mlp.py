"""Owns the family `fusion_mlp`: joins the features of all branches, and lets each branch learn by a loss of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carryover.ground.config import check, key
from carryover.models.family import SPARED
from carryover.models.numerical_mlp import ACTIVATIONS, NORMALIZATIONS, check_mlp

if TYPE_CHECKING:
    from carryover.models.layers import FusionMLP

ADAPT = ("max", "min", "none")


@dataclass(frozen=True)
class FusionMLPConfig:
    """Recipe section `model.fusion_mlp`."""

    weight: float | None = key(
        0.1, help="weight of each branch's own loss beside the fused one; 0 or null for none", allowed="x >= 0"
    )
    adapt_in_features: str | None = key(
        "max", help="width that every branch's features are mapped to before they are joined", allowed=", ".join(ADAPT)
    )
    hidden_sizes: tuple[int, ...] = key((128,), help="widths of the layers behind the joined features")
    activation: str = key("leaky_relu", help="activation behind each layer", allowed=", ".join(ACTIVATIONS))
    drop_rate: float = key(0.1, help="dropout behind each activation", allowed="0 <= x < 1")
    normalization: str = key("layer_norm", help="normalization behind each layer", allowed=", ".join(NORMALIZATIONS))

    def __post_init__(self) -> None:
        # AutoMM's spelling of both is null.
        object.__setattr__(self, "weight", self.weight or 0.0)
        object.__setattr__(self, "adapt_in_features", self.adapt_in_features or "none")
        assert self.weight is not None
        check(self.weight >= 0, "weight", self.weight, "0 or more")
        check(
            self.adapt_in_features in ADAPT, "adapt_in_features", self.adapt_in_features, f"one of {', '.join(ADAPT)}"
        )
        sizes = self.hidden_sizes
        check(bool(sizes) and min(sizes) > 0, "hidden_sizes", sizes, "a list of positive numbers")
        check_mlp(self)


class FusionMLPFamily:
    """The family; see the module."""

    name = "fusion_mlp"
    imports = ("carryover.models.layers",)
    spared = SPARED
    Config = FusionMLPConfig
    fuses = True

    def auxiliary_weight(self, config: FusionMLPConfig) -> float:
        return config.weight or 0.0

    def network(self, config: FusionMLPConfig, widths: Sequence[int], *, num_outputs: int) -> "FusionMLP":
        from carryover.models import layers

        adapted = {"max": max(widths), "min": min(widths), "none": None}[config.adapt_in_features or "none"]
        joined = sum(widths) if adapted is None else adapted * len(widths)
        hidden = layers.mlp(
            [joined, *config.hidden_sizes],
            activation=config.activation,
            normalization=config.normalization,
            drop_rate=config.drop_rate,
        )
        return layers.FusionMLP(widths, adapted, hidden, out_features=config.hidden_sizes[-1], num_outputs=num_outputs)


FAMILY = FusionMLPFamily()
