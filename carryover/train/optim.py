"""Owns the optimizer: its groups, and its state by parameter name, so that order and wrapping play no part.

A group is the parameters of one rate and one decay. Its `scale` is its part of the step's learning rate:

    layerwise_decay    lr_decay ** depth       head and fusion 1, the last block lr_decay, embeddings the least
    two_stages         lr_mult for what is new (depth 0), 1 for the rest
    ""                 1 for all
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from carryover.models.depth import depths
from carryover.models.layers import is_norm
from carryover.train.sections import Optimization

PREFIX = "optim"
Groups = Iterable[dict[str, Any]]
OPTIMIZERS: Mapping[str, Callable[[Groups, float], Optimizer]] = {
    "adafactor": lambda groups, rate: torch.optim.Adafactor(groups, lr=rate),
    "adam": lambda groups, rate: torch.optim.Adam(groups, lr=rate),
    "adamw": lambda groups, rate: torch.optim.AdamW(groups, lr=rate, eps=1e-6),
    "sgd": lambda groups, rate: torch.optim.SGD(groups, lr=rate, momentum=0.9),
}
# Tokens and positions are places and not weights, and IA3's vectors are scales; the names are those of transformers,
# timm and peft.
_PLACES = re.compile(
    r"(cls|dist|iou|reg|mask|register)_tokens?|class_embedding|cls_embedding|pos(ition)?_embed(ding)?s?|embed_positions"
    r"|probe|wpe|rel_embeddings|rel_pos_[hw]|relative_attention_bias|relative_position_bias_table|pos_embed_\w+|ia3_l"
)


def build_optimizer(network: nn.Module, config: Optimization) -> Optimizer:
    """Return the optimizer over the parameters that train.

    Norms, biases, tokens, positions and the tokenizers of tables have no weight decay.
    """
    plain, deep = _without_decay(network), depths(network)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            depth = deep[name] if config.lr_choice == "layerwise_decay" else min(deep[name], 1)
            groups.setdefault((depth, name in plain), []).append(parameter)
    return OPTIMIZERS[config.optim_type](
        [
            {"params": found, "weight_decay": 0.0 if bare else config.weight_decay, "scale": _scale(config, depth)}
            for (depth, bare), found in sorted(groups.items(), key=lambda item: item[0])
        ],
        config.learning_rate,
    )


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of the next step; it is never taken from a restored optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def update_of(optimizer: Optimizer) -> Callable[[], object]:
    """Return what does one update: the optimizer's `step`, without what torch puts around it for profilers and hooks.

    Nobody registers a hook on ours, and a label that no profiler reads costs a sixth of a small network's update.
    """
    step: Any = type(optimizer).step
    return functools.partial(step.__wrapped__, optimizer) if getattr(step, "hooked", False) else optimizer.step


def state_tensors(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the optimizer's state as "optim/<parameter>/<what>" -> tensor, for parameters that have been stepped."""
    return {
        f"{PREFIX}/{name}/{what}": value
        for name, parameter in parameters.items()
        for what, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_state_tensors(
    optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `state_tensors` gave; parameters without saved state keep a fresh one."""
    for full_name, value in tensors.items():
        name, _, what = full_name.removeprefix(f"{PREFIX}/").rpartition("/")
        parameter = parameters[name]
        # The count of steps stays on the CPU; moments live beside their parameter, in its dtype.
        moved = value if what == "step" else value.to(device=parameter.device, dtype=parameter.dtype)
        optimizer.state[parameter][what] = moved.clone()


def _scale(config: Optimization, depth: int) -> float:
    if config.lr_choice == "layerwise_decay":
        return config.lr_decay**depth
    return config.lr_mult if config.lr_choice == "two_stages" and not depth else 1.0


def _without_decay(network: nn.Module) -> set[str]:
    names: set[str] = set()
    for path, module in network.named_modules():
        kind, start = type(module).__name__, f"{path}." if path else ""
        bare = is_norm(module) or kind.endswith("Tokenizer")
        for name, parameter in module.named_parameters(recurse=kind.endswith("Tokenizer")):
            if bare or name.endswith("bias") or parameter.dim() < 2 or _is_place(f"{start}{name}"):
                names.add(f"{start}{name}")
        # timm's models know theirs.
        said: Any = getattr(module, "no_weight_decay", set)
        names |= {f"{start}{name}" for name in said()}
    return names


def _is_place(name: str) -> bool:
    return any(_PLACES.fullmatch(word) for word in name.split("."))
