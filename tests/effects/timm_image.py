"""What the keys of images do: model.timm_image.* and data.image.*."""

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from carryover.data.config import DataConfig
from carryover.data.images import NotUsable
from carryover.data.schema import Column, Schema
from carryover.models.assembly import build_network, build_preprocessing, choose
from tests.effects.effect import Effect, Flat, recipe, scratch
from tests.support.tiny_timm import ARGUMENTS, photo, save_tiny_timm

SECTION = "model.timm_image"
SCHEMA = Schema(
    "y",
    "binary",
    ("a", "b"),
    (Column("photo", "image_path", "list<binary>", {}), Column("y", "categorical", "string", {})),
)


def place(architecture: str) -> Path:
    """Return where the folder of a tiny model is, once `made` has written it."""
    return scratch() / "timm" / architecture


@functools.cache
def made() -> dict[str, Any]:
    """Write the tiny models; return the keys that all looks have."""
    for architecture in ARGUMENTS:
        save_tiny_timm(place(architecture), architecture, weights="model.safetensors")
    return {"model.names": ["timm_image"], f"{SECTION}.checkpoint_name": str(place("vit_tiny_patch16_224"))}


@functools.cache
def rows() -> pa.Table:
    """Return a row with two images, one with one, and one whose image could not be read."""
    chance = random.Random(0)
    photos = [photo(chance, row % 2) for row in range(3)]
    return pa.table({"photo": pa.array([photos[:2], photos[2:], [None]], pa.list_(pa.binary()))})


def prepared(settings: Flat, *, training: bool) -> dict[str, np.ndarray]:
    """Return the arrays of the three rows."""
    asked = recipe({**made(), **settings})
    preprocessing = build_preprocessing(choose(asked.model, SCHEMA), SCHEMA, asked.data)
    return preprocessing(rows(), training=training, keys=np.arange(3, dtype=np.uint64))


def in_training(settings: Flat) -> Any:
    """Return the pixels of training, or why its rows are refused."""
    try:
        arrays = prepared(settings, training=True)
    except NotUsable as error:
        return error.places
    return {name: (array.shape, array.tobytes()) for name, array in arrays.items()}


def in_prediction(settings: Flat) -> Any:
    """Return the pixels of validation and prediction."""
    return {name: (array.shape, array.tobytes()) for name, array in prepared(settings, training=False).items()}


def logits(settings: Flat) -> list[Any]:
    """Return what an untrained network says of the rows."""
    assembly = choose(recipe({**made(), **settings}).model, SCHEMA)
    preprocessing = build_preprocessing(assembly, SCHEMA, DataConfig())
    torch.manual_seed(0)
    network = build_network(assembly, preprocessing, 2).eval()
    for parameter in network.parameters():
        if parameter.shape == (3, 16, 16):
            torch.nn.init.normal_(parameter)
    arrays = preprocessing(rows(), training=False, keys=np.arange(3, dtype=np.uint64))
    with torch.no_grad():
        return network({name: torch.from_numpy(array) for name, array in arrays.items()}).logits.tolist()


TWO = {f"{SECTION}.max_image_num_per_column": 2}
EFFECTS: dict[str, Effect] = {
    "data.image.missing_value_strategy": Effect("skip", in_training),
    f"{SECTION}.checkpoint_name": Effect(str(place("test_resnet")), logits),
    f"{SECTION}.pretrained": Effect(False, logits),
    f"{SECTION}.train_transforms": Effect(["resize_to_square", "randaug(1, 5)"], in_training),
    f"{SECTION}.val_transforms": Effect(["resize_to_square", "random_horizontal_flip(1.0)"], in_prediction),
    f"{SECTION}.image_size": Effect(24, in_prediction),
    f"{SECTION}.image_norm": Effect("clip", logits),
    f"{SECTION}.mix_choice": Effect("all_images", logits, TWO),
    f"{SECTION}.max_image_num_per_column": Effect(2, in_prediction),
    f"{SECTION}.use_learnable_image": Effect(True, logits),
}
