"""Owns how an image model of timm is dumped, as a folder that timm opens alone, and how it is opened again.

    folder/config.json           {"architecture", "num_classes": 0, "num_features", "model_args", "pretrained_cfg"}
           model.safetensors     the headless model: images [K, 3, S, S] -> features [K, F]

`timm.create_model("local-dir:<folder>", pretrained=True)` gives it; with `num_classes=N` it gets a new head.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.models.pixels import VALIDATION, Pixels
from carryover.models.timm_source import ImageModel

if TYPE_CHECKING:
    from torch import nn

# What a checkpoint says of another way to read it: it was trained for one size, and has our names and no classes.
_GONE = (
    *("test_input_size", "test_pool_size", "test_crop_pct", "min_input_size", "pool_size"),
    *("label_names", "label_descriptions", "label_offset", "custom_load"),
)


def write(encoder: Any, model: ImageModel, pixels: Pixels, folder: Path) -> None:
    """Write an image model, with the size and the norm that it was trained with."""
    from safetensors.torch import save_file
    from timm.models import get_pretrained_cfg

    save_file(
        {name: value.clone().contiguous() for name, value in encoder.state_dict().items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    cfg = {name: value for name, value in model.pretrained_cfg.items() if name not in _GONE}
    usual = get_pretrained_cfg(model.architecture)
    for name in ("classifier", "first_conv"):
        # By these timm tells what of the weights depends on the classes and the channels.
        cfg.setdefault(name, getattr(usual, name, None))
    cfg |= {"num_classes": 0, "input_size": [3, pixels.size, pixels.size]}
    cfg |= {"mean": list(pixels.mean), "std": list(pixels.std)}
    if pixels.validation == VALIDATION:
        # What resize_shorter_side and center_crop do, in timm's words.
        cfg |= {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bicubic"}
    described = {
        "architecture": model.architecture,
        "num_classes": 0,
        "num_features": encoder.num_features,
        "model_args": {**model.arguments, "num_classes": 0},
        "pretrained_cfg": cfg,
    }
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")


def opened(folder: Path) -> "nn.Module":
    """Return what timm alone makes of a folder, in evaluation mode."""
    import timm

    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
