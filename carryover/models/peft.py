"""Owns efficient fine-tuning: which parameters of a pretrained part train, and the adapters that are put into it.

    bit_fit                  the biases
    norm_fit                 the norms and the biases
    lora, ia3                adapters beside chosen layers (Hu et al., arXiv:2106.09685; Liu et al., arXiv:2205.05638)
    …_bias, …_norm           adapters, and the biases or the norms

All else of a pretrained part is frozen, but for what a person names (optimization.extra_trainable_params: SAM's mask
decoder); heads, fusion and tables train as always. Adapters are those of the library
peft, which stay in the network as they are: a checkpoint and a Model hold base weights and adapters, so that the base
is stored once, and a loaded Model gives the same bits. `merged` gives plain layers. The config needs no torch.
"""

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carryover.ground.config import check, key
from carryover.ground.errors import WrongInput

if TYPE_CHECKING:
    from torch import nn

METHODS = ("bit_fit", "norm_fit", "lora", "lora_bias", "lora_norm", "ia3", "ia3_bias", "ia3_norm")
KEY = "optimization.peft"
EXTRA = "optimization.extra_trainable_params"
# The adapter's name stands in the names of its parameters.
_NAME = "default"
_SHOWN = 12


@dataclass(frozen=True)
class LoraConfig:
    """`optimization.lora.*`: the layers that get adapters, and how large they are."""

    r: int = key(8, help="Rank of the adapters; lora only.", allowed=">= 1", mutable=False)
    alpha: float = key(8.0, help="Adapters count alpha / r times; lora only.", allowed="> 0", mutable=False)
    filter: tuple[str, ...] = key(
        ("query", "value", "^q$", "^v$", "^k$", "^o$", "q_proj", "v_proj", "q_lin", "v_lin", "qkv", "Wqkv"),
        help="Layers (linear, or convolutions without groups) that get an adapter, by lora or ia3: regular expressions "
        "that match the start of a layer's own name. The default names attention in the usual backbones, more of them "
        "than AutoMM's.",
        allowed="regular expressions",
        mutable=False,
    )
    module_filter: tuple[str, ...] | None = key(
        None,
        help="Only layers within modules whose full name in the backbone, such as encoder.layer.0.attention.self, "
        "starts as one of these regular expressions says.",
        allowed="regular expressions",
        mutable=False,
    )

    def __post_init__(self) -> None:
        check(self.r >= 1, "r", self.r, "1 or more")
        check(self.alpha > 0, "alpha", self.alpha, "above 0")
        check(bool(self.filter), "filter", list(self.filter), "one regular expression or more")
        for name, patterns in (("filter", self.filter), ("module_filter", self.module_filter or ())):
            for pattern in patterns:
                check(is_pattern(pattern), name, pattern, "a regular expression")


@dataclass(frozen=True)
class Adaptation:
    """What trains of the pretrained parts of a model.

    Attributes:
        method: one of METHODS.
        extra: regular expressions; parameters whose full name in a backbone starts as one says train, without adapters.
    """

    method: str
    lora: LoraConfig = field(default_factory=LoraConfig)
    extra: tuple[str, ...] = ()

    @property
    def adapters(self) -> str:
        """Return the kind of adapters, "lora" or "ia3"; "" for none."""
        kind = self.method.partition("_")[0]
        return kind if kind in ("lora", "ia3") else ""

    @property
    def biases(self) -> bool:
        """Tell whether biases train."""
        return self.method in ("bit_fit", "norm_fit") or self.method.endswith("_bias")

    @property
    def norms(self) -> bool:
        """Tell whether norms train, their biases too."""
        return self.method == "norm_fit" or self.method.endswith("_norm")


def adapt(branch: "nn.Module", adaptation: Adaptation, *, name: str) -> None:
    """Freeze a branch's pretrained parts (`backbones`, see `family.Family.network`), but for what is to train.

    New adapters take torch's global random numbers. What the branch never reaches stays frozen.

    Args:
        name: the branch's, for messages.

    Raises:
        WrongInput: when nothing in it would train.
    """
    parts = {path: branch.get_submodule(path) for path in getattr(branch, "backbones", ())}
    chosen = {path: _layers(part, adaptation) for path, part in parts.items()}
    if parts and adaptation.adapters and not any(chosen.values()):
        raise WrongInput(_no_layer(adaptation.lora, parts.values(), name))
    for path, part in parts.items():
        learn = [parameter for parameter in _wanted(part, adaptation) if parameter.requires_grad]
        part.requires_grad_(False)
        if chosen[path]:
            _inject(part, adaptation, chosen[path])
        for parameter in learn:
            parameter.requires_grad_(True)
    if parts and not any(p.requires_grad for part in parts.values() for p in part.parameters()):
        what = "norms or biases" if adaptation.norms else "biases"
        raise WrongInput(f"{KEY}: '{adaptation.method}' is not possible; the backbone of {name} has no {what}")


def merged(module: "nn.Module") -> "nn.Module":
    """Return a copy of a module whose adapters are in the weights of their layers: none is left, outputs stay.

    Equal up to rounding; a module without adapters gives an equal one. The module itself stays as it is.
    """
    whole = copy.deepcopy(module)
    adapters: list[tuple[str, Any]] = [found for found in whole.named_modules() if _is_adapter(found[1])]
    for name, layer in adapters:
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(whole.get_submodule(parent), own, layer.get_base_layer())
    for part in whole.modules():
        # The tuner's note of what it did; a part without adapters has no use for it.
        vars(part).pop("peft_config", None)
    return whole


def check_extra(branches: "Iterable[nn.Module]", adaptation: Adaptation) -> None:
    """Raise WrongInput for what shall train besides and is nowhere in the backbones of any of the branches."""
    parts = [branch.get_submodule(path) for branch in branches for path in getattr(branch, "backbones", ())]
    names = [name for part in parts for name, _ in part.named_parameters()]
    for pattern in adaptation.extra:
        if not _fits_any(names, pattern):
            shown = ", ".join(sorted({".".join(name.split(".")[:2]) for name in names})[:_SHOWN])
            raise WrongInput(f"{EXTRA}: '{pattern}' is the start of no name in the backbones; they have {shown}")


def _wanted(part: "nn.Module", adaptation: Adaptation) -> "Iterator[nn.Parameter]":
    from carryover.models.layers import is_norm

    for path, module in part.named_modules():
        norm = adaptation.norms and is_norm(module)
        for name, parameter in module.named_parameters(recurse=False):
            extra = _fits(f"{path}.{name}" if path else name, adaptation.extra)
            if norm or extra or (adaptation.biases and name.endswith("bias")):
                yield parameter


def _layers(part: "nn.Module", adaptation: Adaptation) -> list[str]:
    """Return the full names of the layers that get an adapter."""
    if not adaptation.adapters:
        return []
    lora, found = adaptation.lora, []
    for path, module in part.named_modules():
        if lora.module_filter is None or _fits(path, lora.module_filter):
            for own, child in module.named_children():
                full = f"{path}.{own}" if path else own
                if _fits(own, lora.filter) and _can_adapt(child) and not _fits(full, adaptation.extra):
                    found.append(full)
    return found


def _can_adapt(layer: "nn.Module") -> bool:
    """Tell whether a layer takes an adapter that gets a gradient; a subclass may use its weight in its own way."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    known = type(layer) in (nn.Linear, Conv1D) or (type(layer) is nn.Conv2d and layer.groups == 1)
    return known and any(parameter.requires_grad for parameter in layer.parameters())


def _inject(part: "nn.Module", adaptation: Adaptation, layers: list[str]) -> None:
    import peft

    # Whole names: peft takes a list's as ends of names.
    names = "|".join(map(re.escape, layers))
    lora = adaptation.lora
    config: Any = peft.IA3Config(target_modules=names, feedforward_modules=[])
    if adaptation.adapters == "lora":
        config = peft.LoraConfig(target_modules=names, r=lora.r, lora_alpha=lora.alpha, lora_dropout=0.0)  # type: ignore[arg-type]
    peft.inject_adapter_in_model(config, part, _NAME)


def _no_layer(lora: LoraConfig, parts: "Iterable[nn.Module]", name: str) -> str:
    found = {path.rpartition(".")[2] for part in parts for path, layer in part.named_modules() if _can_adapt(layer)}
    shown = ", ".join(sorted(found)[:_SHOWN]) or "none"
    where = f" within module_filter {', '.join(lora.module_filter)}" if lora.module_filter else ""
    return (
        f"optimization.lora.filter: {', '.join(lora.filter)} match no layer of {name}{where}; those that can have an "
        f"adapter are called {shown}"
    )


def _is_adapter(layer: "nn.Module") -> bool:
    return type(layer).__module__.startswith("peft.tuners.") and hasattr(layer, "get_base_layer")


def _fits_any(names: Iterable[str], pattern: str) -> bool:
    return any(re.match(pattern, name) for name in names)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(re.match(pattern, name) for pattern in patterns)


def is_pattern(text: str) -> bool:
    """Tell whether a text is a regular expression."""
    try:
        re.compile(text)
    except re.error:
        return False
    return True
