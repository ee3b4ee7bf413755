"""Owns WiSE-FT (Wortsman et al., arXiv:2109.01903): final weights between those of the Model a run extends and its own.

    weights = part * new + (1 - part) * old          what only the new ones have stays: grown rows, new adapters' bases
    auto: part of 0, 0.1, ... 1 with the best mean of two scores, on the new validation rows and on the Model's own

Nothing of it is saved on the way: a run that was killed here has its checkpoints still, and they give the same blend.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from carryover.ground import dist
from carryover.ground.console import say
from carryover.train.loop import Validator
from carryover.train.pull import first_rows
from carryover.train.remedy import AUTO

PARTS = tuple(tenth / 10 for tenth in range(11))
# What an adapter begins as, which is as if it were not there.
_BEGINNINGS = {"lora_B": 0.0, "ia3_l": 1.0}


@dataclass(frozen=True)
class Blend:
    """What was chosen: the part of the new weights, and the scores on the new and the old validation rows.

    Attributes:
        score, old_score: None where they were not measured.
    """

    part: float
    score: float | None = None
    old_score: float | None = None


def blend(
    network: nn.Module,
    old: Mapping[str, Tensor],
    part: float | str,
    *,
    new_rows: Validator | None,
    old_rows: Validator | None,
) -> Blend:
    """Put the blended weights into the network, the same on every rank. Collective.

    Args:
        network: with its final weights.
        old: the Model's state_dict, by names of the network's; what it lacks stays as it is.
        part: of the new weights, or "auto".
        new_rows: scores the network on the run's validation rows.
        old_rows: on the Model's own; needed for "auto".
    """
    new = {name: value.clone() for name, value in network.state_dict().items()}
    if part != AUTO:
        _serve(network, new, old, float(part))
        return Blend(float(part), None if new_rows is None else new_rows.score())
    assert new_rows is not None and old_rows is not None
    found: list[Blend] = []
    for each in PARTS:
        _serve(network, new, old, each)
        found.append(Blend(each, new_rows.score(), old_rows.score()))
    sign = 1 if new_rows.greater_is_better else -1
    # Of equal means, the one with the most of what was learned now.
    best = max(found, key=lambda one: (_mean(one, sign), one.part))
    _serve(network, new, old, best.part)
    if dist.rank() == 0:
        shown = ", ".join(f"{one.part:g}: {one.score:.4f}/{one.old_score:.4f}" for one in found)
        say(f"wise_ft: {best.part:g} of the new weights (part: score on new/old rows: {shown})")
    return best


def _mean(one: Blend, sign: int) -> float:
    assert one.score is not None and one.old_score is not None
    mean = sign * (one.score + one.old_score) / 2
    return mean if mean == mean else float("-inf")


@torch.no_grad()
def _serve(network: nn.Module, new: Mapping[str, Tensor], old: Mapping[str, Tensor], part: float) -> None:
    for name, live in network.state_dict().items():
        live.copy_(new[name])
        if not live.is_floating_point():
            continue
        if name in old:
            there = first_rows(old[name])
            live[there] = part * new[name][there] + (1 - part) * old[name].to(live)
        else:
            beginning = next((value for word, value in _BEGINNINGS.items() if word in name), None)
            if beginning is not None:
                live.copy_(part * new[name] + (1 - part) * beginning)
