"""What optimization.peft and optimization.lora do: to what trains, and how large adapters are."""

from typing import Any

from tests.effects.effect import Effect, Flat
from tests.effects.hf_text import adapted

LORA = {"optimization.peft": "lora"}


def trains(settings: Flat) -> dict[str, Any]:
    """Return the shapes of the parameters that train, by name."""
    named = adapted(settings).named_parameters()
    return {name: list(parameter.shape) for name, parameter in named if parameter.requires_grad}


def scales(settings: Flat) -> set[float]:
    """Return by how much adapters count."""
    modules: Any = adapted(settings).modules()
    return {module.scaling["default"] for module in modules if hasattr(module, "lora_A")}


EFFECTS: dict[str, Effect] = {
    "optimization.peft": Effect("bit_fit", trains),
    "optimization.lora.r": Effect(4, trains, LORA),
    "optimization.lora.alpha": Effect(2.0, scales, LORA),
    "optimization.lora.filter": Effect(["key"], trains, LORA),
    "optimization.extra_trainable_params": Effect([r".*LayerNorm"], trains, LORA),
    "optimization.lora.module_filter": Effect([r".*layer\.0\."], trains, LORA),
}
