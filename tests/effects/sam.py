"""What the keys of SAM do: model.sam.*."""

import functools
import random
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models.assembly import build_network, build_preprocessing, choose
from tests.effects.effect import Effect, Flat, recipe, scratch
from tests.support.tiny_sam import drawing, save_tiny_sam

SECTION = "model.sam"
SCHEMA = Schema(
    "mask",
    "semantic_segmentation",
    (0, 1, 2),
    (Column("picture", "image_path", "list<binary>", {}), Column("mask", "mask", "binary", {})),
)
KEYS = np.arange(2, dtype=np.uint64)


@functools.cache
def made() -> dict[str, Any]:
    """Write two tiny models; return the keys that all looks have."""
    save_tiny_sam(scratch() / "sam" / "other", num_hidden_layers=1)
    return {"model.names": ["sam"], f"{SECTION}.checkpoint_name": str(save_tiny_sam(scratch() / "sam" / "one"))}


@functools.cache
def rows() -> pa.Table:
    chance = random.Random(0)
    pictures, masks = zip(*(drawing(chance, squares=True) for _ in range(2)), strict=True)
    return pa.table({"picture": pa.array([[data] for data in pictures], pa.list_(pa.binary())), "mask": masks})


def arrays(settings: Flat, *, training: bool) -> dict[str, np.ndarray]:
    asked = recipe({**made(), **settings})
    preprocessing = build_preprocessing(choose(asked.model, SCHEMA), SCHEMA, asked.data)
    return preprocessing(rows(), training=training, keys=KEYS)


def in_training(settings: Flat) -> Any:
    """Return pictures and masks of training, or why there are none."""
    try:
        return {name: (array.shape, array.tobytes()) for name, array in arrays(settings, training=True).items()}
    except WrongInput as error:
        return str(error)


def in_prediction(settings: Flat) -> Any:
    return {name: (array.shape, array.tobytes()) for name, array in arrays(settings, training=False).items()}


def network(settings: Flat) -> torch.nn.Module:
    assembly = choose(recipe({**made(), **settings}).model, SCHEMA)
    torch.manual_seed(0)
    return build_network(assembly, build_preprocessing(assembly, SCHEMA, DataConfig()), 3).eval()


def logits(settings: Flat) -> Any:
    inputs = {name: torch.from_numpy(array) for name, array in arrays(settings, training=False).items()}
    with torch.no_grad():
        return network(settings)(inputs).logits.tolist()


def trains(settings: Flat) -> set[str]:
    return {name for name, parameter in network(settings).named_parameters() if parameter.requires_grad}


def other(settings: Flat) -> Any:
    """Look at the logits, with the other model where one is asked for by its name."""
    name = settings.get(f"{SECTION}.checkpoint_name")
    made()
    return logits({**settings, f"{SECTION}.checkpoint_name": str(scratch() / "sam" / name)} if name else settings)


EFFECTS: dict[str, Effect] = {
    f"{SECTION}.checkpoint_name": Effect("other", other),
    f"{SECTION}.pretrained": Effect(False, logits),
    f"{SECTION}.train_transforms": Effect(["random_vertical_flip(1.0)"], in_training),
    f"{SECTION}.img_transforms": Effect(["resize_to_square", "torchvision.transforms.v2:Grayscale(3)"], in_prediction),
    f"{SECTION}.gt_transforms": Effect(
        ["resize_gt_to_square", "torchvision.transforms.v2:RandomErasing(1.0)"], in_training
    ),
    f"{SECTION}.image_size": Effect(48, logits),
    f"{SECTION}.frozen_layers": Effect(["vision_encoder"], trains),
    f"{SECTION}.num_mask_tokens": Effect(6, logits),
    # Another id can't be ignored any more once masks are stored: that is said, not passed over.
    f"{SECTION}.ignore_label": Effect(0, in_training),
}
