"""A tiny SAM model as the folder that transformers opens, and drawn pictures with their masks."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np

VISION: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 64}
VISION |= {"patch_size": 8, "window_size": 3, "global_attn_indexes": [1], "output_channels": 32, "num_pos_feats": 16}
DECODER: dict[str, Any] = {"hidden_size": 32, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DECODER |= {"iou_head_hidden_dim": 16}
# Colours of the ground, of circles and of squares.
COLOURS = ((40, 60, 40), (200, 60, 60), (60, 60, 210))


def save_tiny_sam(folder: Path, *, size: int = 64, weights: bool = True, **vision: Any) -> Path:
    """Write one that reads pictures of `size` pixels, with a processor of its own.

    Args:
        vision: keys for the config of its vision encoder.
    """
    import torch
    import transformers as hf

    config = hf.SamConfig(
        vision_config={**VISION, "image_size": size, **vision},
        prompt_encoder_config={"hidden_size": 32, "image_size": size, "patch_size": 8, "mask_input_channels": 8},
        mask_decoder_config=DECODER,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = hf.SamModel(config)
        for value in model.parameters():
            # Their own start is so small that all logits are nearly 0, and tables of positions start from there.
            if value.dim() > 1:
                torch.nn.init.normal_(value, std=0.15)
    if weights:
        model.save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    hf.SamImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2] * 3).save_pretrained(folder)
    return folder


def drawing(chance: random.Random, *, size: tuple[int, int] = (72, 60), squares: bool = False) -> tuple[bytes, bytes]:
    """Return a noisy picture of a circle (id 1) and maybe a square (id 2) on the ground (id 0), and its mask: PNGs."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    ids = np.zeros((height, width), np.uint8)
    for identifier in (1, 2) if squares else (1,):
        across, down = abs(x - chance.uniform(14, width - 14)), abs(y - chance.uniform(14, height - 14))
        ids[(across**2 + down**2 < 169) if identifier == 1 else (np.maximum(across, down) < 10)] = identifier
    noise = np.random.default_rng(chance.getrandbits(32)).integers(-30, 30, (height, width, 3))
    return _png(np.clip(np.array(COLOURS)[ids] + noise, 0, 255).astype(np.uint8)), _png(ids)


def _png(array: np.ndarray) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(array).save(sink, "PNG")
    return sink.getvalue()
