"""What the keys of model.clip do: to the arrays that a row becomes, and to the network's answers."""

import functools
import json
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from carryover.data.schema import Column, Schema
from carryover.models.assembly import Preprocessing, build_network, choose
from tests.effects.effect import Effect, Flat, preprocessing, recipe, scratch
from tests.support.tiny_clip import save_tiny_clip
from tests.support.tiny_timm import photo

SECTION = "model.clip"
COLUMNS = (Column("photo", "image_path", "list<binary>", {}), Column("said", "text", "string", {}))
SCHEMA = Schema("y", "binary", ("a", "b"), (*COLUMNS, Column("y", "categorical", "string", {})))
LONG = "the best movie was not the worst film and the sound is great but it is a very boring and slow place"
KEYS = np.arange(1, 5, dtype=np.uint64)


@functools.cache
def encoder(name: str) -> str:
    """Return the folder of a tiny CLIP; "cased" has a tokenizer.json that keeps capitals, unlike its class."""
    folder = save_tiny_clip(scratch() / "clip" / name)
    if name == "cased":
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokenizer["normalizer"] = None
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return str(folder)


@functools.cache
def rows() -> pa.Table:
    """Return a row with two images, one with one, one whose image could not be read, and one without."""
    chance = random.Random(0)
    photos = [photo(chance, row % 2) for row in range(3)]
    shown = pa.array([photos[:2], photos[2:], [None], None], pa.list_(pa.binary()))
    return pa.table({"photo": shown, "said": [LONG, "Good Movie", LONG, None]})


def _placed(settings: Flat) -> Flat:
    name = settings.get(f"{SECTION}.checkpoint_name", "tiny")
    return {**settings, "model.names": ["clip"], f"{SECTION}.checkpoint_name": encoder(str(name))}


def _prepared(settings: Flat) -> Preprocessing:
    return preprocessing(_placed(settings), SimpleNamespace(schema=SCHEMA))


def _arrays(settings: Flat, *, training: bool) -> dict[str, Any]:
    found = _prepared(settings)(rows(), training=training, keys=KEYS)
    return {name: (array.shape, array.tobytes()) for name, array in found.items()}


def in_training(settings: Flat) -> dict[str, Any]:
    """Return what rows become in training."""
    return _arrays(settings, training=True)


def in_prediction(settings: Flat) -> dict[str, Any]:
    """Return what rows become in validation and prediction."""
    return _arrays(settings, training=False)


def logits(settings: Flat) -> list[Any]:
    """Return what an untrained network says of the rows."""
    prepared = _prepared(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(choose(recipe(_placed(settings)).model, SCHEMA), prepared, 2).eval()
    inputs = prepared(rows(), training=False, keys=KEYS)
    with torch.no_grad():
        return network({name: torch.from_numpy(array) for name, array in inputs.items()}).logits.tolist()


_SHORT = {f"{SECTION}.max_text_len": 8}
_CHANGED = {f"{SECTION}.text_trivial_aug_maxscale": 0.5}
EFFECTS: dict[str, Effect] = {
    f"{SECTION}.checkpoint_name": Effect("cased", in_prediction, {f"{SECTION}.checkpoint_name": "tiny"}),
    f"{SECTION}.pretrained": Effect(False, logits),
    f"{SECTION}.train_transforms": Effect(["resize_to_square", "randaug(1, 5)"], in_training),
    f"{SECTION}.val_transforms": Effect(["resize_to_square", "random_horizontal_flip(1.0)"], in_prediction),
    f"{SECTION}.image_size": Effect(24, in_prediction),
    f"{SECTION}.image_norm": Effect("imagenet", logits),
    f"{SECTION}.max_image_num_per_column": Effect(2, in_prediction),
    f"{SECTION}.use_learnable_image": Effect(True, logits),
    f"{SECTION}.tokenizer_name": Effect("clip", in_prediction, {f"{SECTION}.checkpoint_name": "cased"}),
    f"{SECTION}.max_text_len": Effect(8, in_prediction),
    f"{SECTION}.stochastic_chunk": Effect(True, in_training, _SHORT),
    f"{SECTION}.text_trivial_aug_maxscale": Effect(0.5, in_training),
    f"{SECTION}.text_aug_detect_length": Effect(30, in_training, _CHANGED),
    f"{SECTION}.text_train_augment_types": Effect(["random_delete(0.5)"], in_training, _CHANGED),
}
