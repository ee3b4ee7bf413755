"""What the keys of detectors do: model.mmdet_image.*."""

import functools
import io
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from carryover.data.config import DataConfig
from carryover.data.rows import BOXES
from carryover.data.schema import Column, Schema
from carryover.models import dump_mmdet
from carryover.models.assembly import build_network, build_preprocessing, choose
from carryover.models.mmdet_image import FAMILY, MmdetImageConfig
from carryover.tasks.detection import DetectionTask
from carryover.train.kinds.boxes import Boxes
from carryover.train.kinds.kind import Pass
from carryover.train.validate import Predicted
from tests.effects.effect import Effect, Flat, recipe, scratch
from tests.support.tiny_mmdet import drawn, write_config

SECTION = "model.mmdet_image"
CLASSES = ("red", "blue")
SCHEMA = Schema(
    "rois",
    "object_detection",
    CLASSES,
    (Column("image", "image_path", "list<binary>", {}), Column("rois", "boxes", "list", {})),
)
KEYS = np.arange(2, dtype=np.uint64)


@functools.cache
def folder(name: str) -> str:
    """Return the folder of a tiny detector with weights of its own."""
    made = scratch() / "mmdet" / name
    config = MmdetImageConfig(str(write_config(made / "config.py", name).parent), pretrained=False)
    preprocessor = FAMILY.preprocessor(config, SCHEMA, DataConfig())
    torch.manual_seed(1)
    network = FAMILY.network(config, preprocessor, num_outputs=2, pretrained=False)
    dump_mmdet.write(network.detector, preprocessor.config, CLASSES, made)
    return str(made)


@functools.cache
def rows() -> pa.Table:
    """Return two pictures of coloured squares."""
    chance, images, boxes = random.Random(0), [], []
    for _ in range(2):
        picture, squares = drawn(chance, CLASSES)
        sink = io.BytesIO()
        Image.fromarray(picture).save(sink, "PNG")
        images.append([sink.getvalue()])
        corners = [(float(x), float(y), float(x + w), float(y + h), name) for x, y, w, h, name in squares]
        boxes.append([dict(zip(("x1", "y1", "x2", "y2", "class"), one, strict=True), crowd=False) for one in corners])
    return pa.table({"image": pa.array(images, pa.list_(pa.binary())), "rois": pa.array(boxes, BOXES)})


def placed(settings: Flat) -> Flat:
    """Return a recipe's keys with the name of a detector as its folder."""
    name = f"{SECTION}.checkpoint_name"
    return {**settings, "model.names": ["mmdet_image"], name: folder(str(settings.get(name, "yolox")))}


def arrays(settings: Flat, *, training: bool) -> dict[str, np.ndarray]:
    asked = recipe(placed(settings))
    return build_preprocessing(choose(asked.model, SCHEMA), SCHEMA, asked.data)(rows(), training=training, keys=KEYS)


def in_training(settings: Flat) -> Any:
    return {name: (array.shape, array.tobytes()) for name, array in arrays(settings, training=True).items()}


def network(settings: Flat) -> torch.nn.Module:
    assembly = choose(recipe(placed(settings)).model, SCHEMA)
    torch.manual_seed(0)
    return build_network(assembly, build_preprocessing(assembly, SCHEMA, DataConfig()), len(CLASSES)).eval()


def found(settings: Flat) -> Any:
    """Return the boxes that the detector finds."""
    inputs = {name: torch.from_numpy(array) for name, array in arrays(settings, training=False).items()}
    with torch.no_grad():
        return network(settings)(inputs).logits.tolist()


def trains(settings: Flat) -> set[str]:
    return {name for name, parameter in network(settings).named_parameters() if parameter.requires_grad}


def told(settings: Flat) -> Any:
    """Return a table of predictions as evaluate writes it, of one picture with one box."""
    task = DetectionTask("rois", CLASSES)
    predicted = Predicted(np.array([[10.0, 20, 40, 60, 0.9, 1]]), np.array([[10.0, 20, 40, 60, 1, 0]]), np.arange(1))
    card: Any = SimpleNamespace(schema=SCHEMA)
    assembly = choose(recipe(placed(settings)).model, SCHEMA).to_json()
    stored: Any = SimpleNamespace()
    return Boxes().table(Pass(card, task, stored, predicted, task, assembly)).to_pylist()


EFFECTS: dict[str, Effect] = {
    f"{SECTION}.checkpoint_name": Effect("retina", found),
    f"{SECTION}.pretrained": Effect(False, found),
    f"{SECTION}.train_transforms": Effect([], in_training),
    f"{SECTION}.image_size": Effect(96, in_training),
    f"{SECTION}.max_predictions": Effect(3, found),
    f"{SECTION}.output_bbox_format": Effect("xywh", told),
    f"{SECTION}.frozen_layers": Effect(["backbone"], trains),
}
