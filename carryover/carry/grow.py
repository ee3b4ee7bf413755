"""Owns how a network gets outputs for classes that its Model did not know: old rows as they were, new ones as at first.

    head of the Model          [old, ...]   w0 w1
    head of the new network    [new, ...]   f0 f1 f2 f3        fresh from its seed
    grown                      [new, ...]   w0 w1 f2 f3

A head is every tensor that differs in its first dimension only, from the old number of classes to the new one: weights
and biases of a branch's head, of the fusion's, and of each auxiliary one.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from carryover.ground.errors import WrongInput

if TYPE_CHECKING:
    from torch import Tensor, nn


def grow_head(old: "Mapping[str, Tensor]", network: "nn.Module", *, old_classes: int) -> "dict[str, Tensor]":
    """Return the state_dict of a network with more outputs: a Model's weights, and new rows as the network has them.

    Args:
        old: the Model's state_dict.
        network: built for the new number of classes, fresh from its seed; it is left as it is.
        old_classes: number of classes of the Model.

    Raises:
        WrongInput: when something else differs than the number of classes.
    """
    import torch

    fresh = network.state_dict()
    odd = sorted(old.keys() ^ fresh.keys())
    grown: dict[str, Tensor] = {}
    for name in old.keys() & fresh.keys():
        before, after = old[name], fresh[name]
        if before.shape == after.shape:
            grown[name] = before
        elif _is_head(before, after, old_classes):
            grown[name] = torch.cat([before, after[old_classes:].to(before)])
        else:
            odd.append(f"{name} {list(before.shape)} -> {list(after.shape)}")
    if odd:
        raise WrongInput(
            f"--grow-classes: the Model and the network differ in more than the number of classes: {', '.join(odd[:5])}"
        )
    return {name: grown[name] for name in fresh}


def _is_head(before: "Tensor", after: "Tensor", old_classes: int) -> bool:
    if not before.dim() or before.dim() != after.dim():
        return False
    return before.shape[0] == old_classes < after.shape[0] and before.shape[1:] == after.shape[1:]
