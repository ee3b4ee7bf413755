"""Tiny image models as folders that timm opens, with or without weights, and images that tell two classes apart."""

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

ARGUMENTS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
    # It has BatchNorm.
    "test_resnet": {"channels": [4, 8, 8, 16], "stem_width": 4},
}


def save_tiny_timm(
    folder: Path, architecture: str = "vit_tiny_patch16_224", *, weights: str = "", size: int = 16, **more: Any
) -> Path:
    """Write one, as timm does.

    Args:
        weights: "model.safetensors", "pytorch_model.bin" or "" for none.
        more: keys for its pretrained_cfg.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cfg = {"input_size": [3, size, size], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "num_classes": 0}
    cfg |= {"fixed_input_size": architecture.startswith("vit"), "first_conv": "patch_embed.proj", **more}
    cfg |= {"first_conv": None} if architecture == "test_resnet" else {}
    described = {"architecture": architecture, "pretrained_cfg": cfg, "num_features": 16}
    (folder / "config.json").write_text(json.dumps({**described, "model_args": ARGUMENTS[architecture]}))
    if weights:
        _save_weights(folder / weights, architecture)
    return folder


def _save_weights(path: Path, architecture: str) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = timm.create_model(architecture, pretrained=False, num_classes=0, **ARGUMENTS[architecture])
    state = model.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


def photo(chance: random.Random, label: int, size: tuple[int, int] = (20, 18)) -> bytes:
    """Return a noisy PNG, the redder the truer."""
    from PIL import Image

    noise = np.random.default_rng(chance.getrandbits(32)).integers(0, 160, (size[1], size[0], 3))
    noise[..., 0 if label else 2] += 70
    sink = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).save(sink, "PNG")
    return sink.getvalue()
