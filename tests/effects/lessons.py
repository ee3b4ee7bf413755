"""What the keys of data.mixup and distiller do: the images and targets that a network is given, and its weights."""

import functools
from typing import Any

import numpy as np
import torch

from carryover.data.loader import Batch, Micro
from carryover.ground.storage import open_store
from carryover.models.export import write_model
from carryover.train.mixup import Mixing
from carryover.train.outcome import model_of
from tests.effects.effect import Effect, Flat, recipe, scratch, trained, weights, weights_on
from tests.effects.timm_image import made
from tests.train.test_families import CASES, prepared

ON = {"data.mixup.turn_on": True}


@functools.cache
def photos() -> Any:
    """Return the card of a small dataset of images."""
    (scratch() / "photos").mkdir()
    return prepared(CASES["timm_image"], scratch() / "photos")


def photo_weights(settings: Flat) -> str:
    """Return a digest of the final weights of a training on images."""
    return weights_on(photos)({**made(), **settings})


def mixes(settings: Flat) -> list[Any]:
    """Return shares and targets of some micro-batches of eight rows, in the first epoch and in a later one."""
    mixing, chance = Mixing(recipe({**made(), **settings}).data.mixup, classes=2, seed=1), np.random.default_rng(0)
    pixels = torch.from_numpy(chance.integers(0, 255, (8, 1, 3, 16, 16)).astype(np.uint8))
    features = {"timm_image/pixels": pixels, "timm_image/count": torch.ones(8, dtype=torch.long)}
    seen = []
    for epoch, step in ((0, 0), (0, 1), (0, 2), (0, 3), (2, 4)):
        batch = Batch(Micro(epoch, 0, 8, 0, 8, True, True, 0), features, torch.arange(8) % 2, np.arange(8))
        given = mixing(batch, step)
        seen.append((given.features["timm_image/pixels"].tolist(), given.targets.tolist()))
    return seen


@functools.cache
def teacher() -> None:
    """Write the Model that `TAUGHT` names."""
    run = trained({"seed": 5})
    write_model(open_store(str(PLACE)), *model_of(run.home, run.finish()))


def taught(settings: Flat) -> str:
    """Return a digest of the final weights, with a teacher at hand."""
    teacher()
    return weights({"model.names": ["numerical_mlp"], **settings})


PLACE = scratch() / "teacher"
TAUGHT = {"distiller.teacher": str(PLACE)}
EFFECTS: dict[str, Effect] = {
    "data.mixup.turn_on": Effect(True, photo_weights),
    "data.mixup.mixup_alpha": Effect(0.2, mixes, ON),
    "data.mixup.cutmix_alpha": Effect(0.2, mixes, ON),
    "data.mixup.cutmix_minmax": Effect([0.2, 0.8], mixes, ON),
    "data.mixup.prob": Effect(0.3, mixes, ON),
    "data.mixup.switch_prob": Effect(0.0, mixes, ON),
    "data.mixup.mode": Effect("elem", mixes, ON),
    "data.mixup.label_smoothing": Effect(0.0, mixes, ON),
    "data.mixup.turn_off_epoch": Effect(1, mixes, ON),
    "distiller.teacher": Effect(str(PLACE), taught),
    "distiller.hard_label_weight": Effect(0.5, taught, TAUGHT),
    "distiller.soft_label_weight": Effect(0.5, taught, TAUGHT),
    "distiller.soft_label_loss_type": Effect("mse", taught, TAUGHT),
    "distiller.temperature": Effect(1.0, taught, TAUGHT),
}
