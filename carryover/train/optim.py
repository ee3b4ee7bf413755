"""Owns the optimizer: its groups, and its state by parameter name, so that order and wrapping play no part."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from carryover.train.sections import Optimization

PREFIX = "optim"
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.RMSNorm)


def build_optimizer(network: nn.Module, config: Optimization) -> Optimizer:
    """Return the optimizer over the parameters that train; norms and biases have no weight decay."""
    plain = _without_decay(network)
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in named if name not in plain], "weight_decay": config.weight_decay},
        {"params": [p for name, p in named if name in plain], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optim_type == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9)
    if config.optim_type == "adam":
        return torch.optim.Adam(groups, lr=config.learning_rate)
    return torch.optim.AdamW(groups, lr=config.learning_rate, eps=1e-6)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of the next step; it is never taken from a restored optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def state_tensors(optimizer: Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as "optim/<parameter>/<what>" -> tensor, for parameters that have been stepped."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        for what, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{PREFIX}/{name}/{what}"] = value
    return tensors


def load_state_tensors(optimizer: Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` gave; parameters without saved state keep a fresh one."""
    parameters = dict(network.named_parameters())
    for full_name, value in tensors.items():
        name, _, what = full_name.removeprefix(f"{PREFIX}/").rpartition("/")
        parameter = parameters[name]
        # Adam keeps its step count on the CPU; moments live beside their parameter, in its dtype.
        moved = value if value.dim() == 0 else value.to(device=parameter.device, dtype=parameter.dtype)
        optimizer.state[parameter][what] = moved.clone()


def _without_decay(network: nn.Module) -> set[str]:
    names: set[str] = set()
    for module_name, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            norm = isinstance(module, _NORMS) or "norm" in type(module).__name__.lower()
            if norm or name.endswith("bias") or parameter.dim() < 2:
                names.add(f"{module_name}.{name}" if module_name else name)
    return names
