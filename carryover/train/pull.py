"""Owns L2-SP and EWC: a force in every step that pulls weights back to those of the Model that a run extends.

    Model --load--> its weights, by name                      anchors of the parameters that train
    Model, some of its rows --backward, squared, mean-->      Fisher information of each weight (EWC)
    step: backward --> gradient + (l2_sp + ewc * Fisher) * (weight - anchor) --> clip, update

It is the gradient of the penalty, added after those of the losses: the same on every rank, however a batch is cut.
Only the Model is needed, so nothing of it is in a checkpoint: every start makes the same anchors again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from carryover.data.order import mix
from carryover.data.rows import Rows
from carryover.ground import dist
from carryover.ground.console import say
from carryover.models.export import LoadedModel
from carryover.models.layers import Network
from carryover.models.peft import merged
from carryover.tasks.task import Task, restore_task
from carryover.train.remedy import RemedyConfig

_CHOSEN = 0xF15E


@dataclass(frozen=True)
class Anchor:
    """One parameter, where it came from, and how hard it is pulled back there.

    Attributes:
        value: [n, ...] of the parameter's first n rows; a head that has grown has more.
        strength: of the same shape, or one number.
    """

    parameter: nn.Parameter
    value: Tensor
    strength: Tensor


@dataclass(frozen=True)
class Pull:
    """The force on all anchored parameters."""

    anchors: tuple[Anchor, ...]

    @torch.no_grad()
    def __call__(self) -> None:
        """Add the penalty's gradient to that of the parameters."""
        for anchor in self.anchors:
            grad, there = anchor.parameter.grad, first_rows(anchor.value)
            if grad is not None:
                grad[there] += anchor.strength * (anchor.parameter[there] - anchor.value)


def first_rows(old: Tensor) -> Any:
    """Return the place of an old tensor in one that may have grown: its first rows, or all of a single number."""
    return slice(len(old)) if old.dim() else ...


def before_training(old: Network, new: nn.Module) -> Network:
    """Return a Model's network with the names that a network made from it has: adapters that it lacks are merged."""
    there = {name for name, _ in new.named_parameters()}
    return old if {name for name, _ in old.named_parameters()} <= there else cast(Network, merged(old))


def pull_of(
    config: RemedyConfig, network: nn.Module, old: LoadedModel, rows: Mapping[str, str], *, seed: int
) -> Pull | None:
    """Return what `remedy.l2_sp` and `remedy.ewc` ask for; None where that is nothing.

    Args:
        network: the one that learns, on its device.
        old: the Model that it began as.
        rows: split of the Model's own Dataset -> Arrow file; "train" for EWC.
        seed: chooses rows and labels.
    """
    if not (config.l2_sp or config.ewc):
        return None
    before = before_training(old.network, network)
    values = before.state_dict()
    fisher: Mapping[str, Tensor] = {}
    if config.ewc:
        if dist.rank() == 0:
            say(f"ewc: Fisher information from up to {config.ewc_rows} of the Model's own rows")
        fisher = fisher_information(before, old, Path(rows["train"]), count=config.ewc_rows, seed=seed)
    anchors = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and name in values and values[name].shape[1:] == parameter.shape[1:]:
            value = values[name].to(parameter.device, parameter.dtype)
            strength = torch.full_like(value, config.l2_sp)
            if name in fisher:
                strength += config.ewc * fisher[name].to(value)
            anchors.append(Anchor(parameter, value, strength))
    return Pull(tuple(anchors))


def fisher_information(
    network: nn.Module, model: LoadedModel, path: Path, *, count: int, seed: int
) -> dict[str, Tensor]:
    """Return the diagonal of the Fisher information: the mean square of each weight's gradient of log p(y | row).

    y is drawn from what the network itself says, so it is the information and not its empirical cousin
    (Kunstner et al., arXiv:1905.12558). The same arguments give the same bits.

    Args:
        network: with parameters by the names that are wanted; put into evaluation mode.
        path: Arrow file of rows.
        count: rows to use, chosen by `seed`; all where there are fewer.
    """
    network, task = network.eval().requires_grad_(True), restore_task(model.files)
    rows = Rows.open(path)
    keys = mix(np.arange(len(rows), dtype=np.uint64), _CHOSEN, seed)
    chosen = np.sort(np.argsort(keys, kind="stable")[:count])
    chance = torch.Generator().manual_seed(seed)
    sums = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    device, dtype = (value := next(network.parameters())).device, value.dtype
    for row in chosen:
        arrays = model.preprocessing(rows.take(np.array([row])), training=False, keys=keys[[row]])
        features = {name: _as(torch.from_numpy(array), device, dtype) for name, array in arrays.items()}
        network.zero_grad(set_to_none=True)
        _surprise(network(features).logits, task, chance).backward()
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                sums[name] += parameter.grad.square()
    network.zero_grad(set_to_none=True)
    return {name: value / max(1, len(chosen)) for name, value in sums.items()}


def _surprise(logits: Tensor, task: Task, chance: torch.Generator) -> Tensor:
    """Return -log p of a label drawn from logits [1, C], or of pixels [1, C, h, w].

    A number has a normal distribution of spread 1 around its logit.
    """
    if task.classes is None:
        drawn = logits.detach() + torch.randn(logits.shape, generator=chance).to(logits)
        return (logits - drawn).square().sum() / 2
    each = logits.movedim(1, -1).flatten(0, -2)
    probabilities = each.detach().float().softmax(dim=1).cpu()
    drawn = torch.multinomial(probabilities, 1, generator=chance)[:, 0].to(logits.device)
    # Of pixels the loss is a mean, so that their information has to be one: of a sum of N squares, one Nth.
    return nn.functional.cross_entropy(each, drawn, reduction="sum") / len(each) ** 0.5


def _as(value: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return value.to(device, dtype) if value.is_floating_point() else value.to(device)
