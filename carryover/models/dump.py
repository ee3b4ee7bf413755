"""Owns how the branches of a trained network become folders that their own libraries open, and how that is proved.

    branch --merged--> plain branch --family.dump--> folder/ --family.opened--> branch around what the library opened
       │                    └────────── every weight: the same bits ───────────────────────────┤
       └──────── features of made-up rows: the same bits, of merged adapters within a tolerance ┘

Nothing here needs torch before a branch is dumped.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from carryover.ground.errors import CarryoverError, WrongInput
from carryover.models import peft
from carryover.models.backbone_card import LEARNED, RoundTrip
from carryover.models.family import can_dump, dumped_parts
from carryover.models.registry import FAMILIES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from carryover.models.assembly import Assembly, Preprocessing
    from carryover.models.layers import Network

# Of the largest number: a merged adapter's product is rounded once instead of at every use of it. MiniLM differs by
# 1e-6 of it, and by 6e-5 with adapters far larger than training makes them.
MERGED_RTOL = 1e-4
_HEAD = "head."


def dump(
    assembly: "Assembly", preprocessing: "Preprocessing", network: "Network", folder: Path
) -> dict[str, RoundTrip]:
    """Write each branch of a network in evaluation mode to `folder`/<branch>, and open it again.

    Returns:
        branch -> how it compares; a comparison that fails is an error.

    Raises:
        WrongInput: for a family that can't be dumped, or a branch whose name can't be a folder's.
        CarryoverError: when a dump is not what was trained.
    """
    _check(assembly)
    adapters = assembly.adaptation.adapters if assembly.adaptation else ""
    found: dict[str, RoundTrip] = {}
    for branch in assembly.branches:
        family, preprocessor = FAMILIES.load(branch.family), preprocessing.branches[branch.name]
        trained: Any = network.get_submodule(branch.name)
        kind = adapters if getattr(trained, "backbones", ()) else ""
        plain: Any = peft.merged(trained) if kind else trained
        place = folder / branch.name
        place.mkdir(parents=True)
        family.dump(branch.config, plain, preprocessor, place)
        _write_learned(plain, place)
        opened = family.opened(plain, place)
        rows = family.samples(preprocessor)
        arrays = preprocessor(rows, training=False, keys=np.zeros(rows.num_rows, np.uint64))
        _compare_weights(branch.name, plain, opened)
        found[branch.name] = _compared(branch.name, trained, opened, arrays, merged=kind)
    return found


def _check(assembly: "Assembly") -> None:
    silent = [f"{one.name} ({one.family})" for one in assembly.branches if not can_dump(FAMILIES.load(one.family))]
    if silent:
        raise WrongInput(
            f"{', '.join(silent)}: this model family has no dump; its package would have to add it",
            trouble="not-supported",
        )
    # Recipes check names; a Model or a commit may come from anywhere.
    strange = [branch.name for branch in assembly.branches if not branch.name.isidentifier()]
    if strange:
        raise WrongInput(f"{strange[0]!r} is no name of a branch; nothing is written", trouble="bad-uri")


def with_part(branch: "nn.Module", path: str, part: "nn.Module") -> "nn.Module":
    """Return a module that shares everything with `branch` but the submodule at `path`, which is `part`."""
    name, _, rest = path.partition(".")
    inner: Any = branch._modules[name]
    changed = copy.copy(branch)
    changed._modules = {**branch._modules, name: with_part(inner, rest, part) if rest else part}
    return changed


def _write_learned(branch: Any, folder: Path) -> None:
    """Write what a branch has learned beside its pretrained part and its head, where there is any."""
    from safetensors.torch import save_file

    pretrained = tuple(f"{path}." for path in dumped_parts(branch))
    if not pretrained:
        # All of it is one part, which the family writes whole.
        return
    own = _weights(branch)
    beside = {name: value.contiguous() for name, value in own.items() if not name.startswith(pretrained)}
    if beside:
        save_file(beside, folder / LEARNED, metadata={"format": "pt"})


def _weights(branch: "nn.Module") -> "dict[str, Tensor]":
    return {name: value for name, value in branch.state_dict().items() if not name.startswith(_HEAD)}


def _compare_weights(name: str, plain: "nn.Module", opened: "nn.Module") -> None:
    import torch

    there = _weights(opened)
    for weight, value in _weights(plain).items():
        # (Libraries may open what was trained in 64 bits in 32.)
        if weight not in there or not torch.equal(value.to(there[weight].dtype), there[weight]):
            raise CarryoverError(
                f"dump of {name}: the weight '{weight}' is another one when it is opened again; nothing was published",
                trouble="dump-differs",
            )


def _compared(name: str, trained: Any, opened: Any, arrays: "dict[str, np.ndarray]", *, merged: str) -> RoundTrip:
    """Return how the features compare; raises CarryoverError when they differ by more than they may."""
    import torch

    inputs = {feature: torch.from_numpy(array) for feature, array in arrays.items()}
    dtype = next(trained.parameters()).dtype
    for parameter in opened.to(dtype).parameters():
        # Those of a mapped file lie at any address, on which the order of a sum may depend.
        parameter.data = parameter.data.clone()
    with torch.no_grad():
        want, got = trained(inputs).features, opened(inputs).features
    difference, largest = float((want - got).abs().max()), float(want.abs().max())
    rtol = MERGED_RTOL if merged or dtype == torch.float64 else 0.0
    # Not-a-number is within no tolerance.
    if not (torch.equal(want, got) or difference <= rtol * largest):
        raise CarryoverError(
            f"dump of {name}: its features differ from the trained ones by {difference:.3g} (of {largest:.3g}, "
            f"allowed {rtol:g} of it); nothing was published",
            trouble="dump-differs",
        )
    return RoundTrip(torch.equal(want, got), difference, largest, rtol, merged)
