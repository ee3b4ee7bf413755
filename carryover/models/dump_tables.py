"""Owns how a branch over a table's columns is dumped and opened again: no library but this one has such a network.

folder/config.json           {"family", "config": the recipe's section, "out_features"}
       model.safetensors     by the names of the branch, without its head
       numerical.json, categorical.json     what its preprocessing needs
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.ground import config as configs
from carryover.models.family import Family

if TYPE_CHECKING:
    from torch import nn

HEAD = "head."


def write(family: Family, config: Any, branch: Any, preprocessor: Any, folder: Path) -> None:
    """Write a branch's config, weights and preprocessing."""
    from safetensors.torch import save_file

    weights = {
        name: value.clone().contiguous() for name, value in branch.state_dict().items() if not name.startswith(HEAD)
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    described = {"family": family.name, "config": configs.flatten(config), "out_features": branch.out_features}
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    for name, data in preprocessor.files().items():
        (folder / name).write_bytes(data)


def opened(family: Family, folder: Path) -> "nn.Module":
    """Return the branch, without a head, that its folder alone describes, in evaluation mode."""
    import torch
    from safetensors.torch import load_file

    described = json.loads((folder / "config.json").read_text())
    config = configs.build(family.Config, configs.nest(described["config"]), path=f"model.{family.name}")
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".json"}
    network = family.network(config, family.restore(config, files), num_outputs=None, pretrained=False)
    weights = load_file(folder / "model.safetensors")
    wide = any(value.dtype == torch.float64 for value in weights.values())
    (network.double() if wide else network).load_state_dict(weights)
    return network.eval()
