"""Owns small detectors for tests: configs as files, and drawn pictures with coloured squares as COCO's JSON."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from carryover.models import mmdet_config

SIZE = 64
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 160, 30)}
_NORM = {"type": "BN", "momentum": 0.03, "eps": 0.001}
_SWISH = {"type": "Swish"}
YOLOX: dict[str, Any] = {
    "type": "YOLOX",
    "data_preprocessor": {
        "type": "DetDataPreprocessor",
        "pad_size_divisor": 32,
        "batch_augments": [{"type": "BatchSyncRandomResize", "random_size_range": (64, 128), "interval": 1}],
    },
    "backbone": {
        "type": "CSPDarknet", "deepen_factor": 0.33, "widen_factor": 0.125, "out_indices": (2, 3, 4),
        "norm_cfg": _NORM, "act_cfg": _SWISH,
    },
    "neck": {
        "type": "YOLOXPAFPN", "in_channels": [32, 64, 128], "out_channels": 32, "num_csp_blocks": 1,
        "upsample_cfg": {"scale_factor": 2, "mode": "nearest"}, "norm_cfg": _NORM, "act_cfg": _SWISH,
    },
    "bbox_head": {
        "type": "YOLOXHead", "num_classes": 80, "in_channels": 32, "feat_channels": 32,
        "norm_cfg": _NORM, "act_cfg": _SWISH,
    },
    "train_cfg": {"assigner": {"type": "SimOTAAssigner", "center_radius": 2.5}},
    "test_cfg": {"score_thr": 0.0, "nms": {"type": "nms", "iou_threshold": 0.65}},
}  # fmt: skip
RETINA: dict[str, Any] = {
    "type": "RetinaNet",
    "data_preprocessor": {
        "type": "DetDataPreprocessor", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
        "bgr_to_rgb": True, "pad_size_divisor": 32,
    },
    "backbone": {
        "type": "ResNet", "depth": 18, "base_channels": 8, "num_stages": 4, "out_indices": (0, 1, 2, 3),
        "frozen_stages": 1, "norm_cfg": {"type": "BN", "requires_grad": True}, "norm_eval": True, "style": "pytorch",
        "init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet18"},
    },
    "neck": {
        "type": "FPN", "in_channels": [8, 16, 32, 64], "out_channels": 16, "start_level": 1,
        "add_extra_convs": "on_input", "num_outs": 5,
    },
    "bbox_head": {
        "type": "RetinaHead", "num_classes": 80, "in_channels": 16, "stacked_convs": 1, "feat_channels": 16,
        "anchor_generator": {
            "type": "AnchorGenerator", "octave_base_scale": 2, "scales_per_octave": 2, "ratios": [0.5, 1.0, 2.0],
            "strides": [8, 16, 32, 64, 128],
        },
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder"},
        "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    },
    "train_cfg": {
        "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0},
        "sampler": {"type": "PseudoSampler"}, "allowed_border": -1, "pos_weight": -1, "debug": False,
    },
    "test_cfg": {
        "nms_pre": 1000, "min_bbox_size": 0, "score_thr": 0.0, "nms": {"type": "nms", "iou_threshold": 0.5},
        "max_per_img": 100,
    },
}  # fmt: skip
PADS: dict[str, list[dict[str, Any]]] = {
    "yolox": [{"type": "Pad", "pad_to_square": True, "pad_val": {"img": (114.0, 114.0, 114.0)}}],
    "retina": [],
}
MODELS = {"yolox": YOLOX, "retina": RETINA}


def write_config(path: Path, name: str = "yolox") -> Path:
    """Write a config as mmengine's dump has it, for 80 classes that have no names."""
    steps = [{"type": "Resize", "scale": (SIZE, SIZE), "keep_ratio": True}, *PADS[name]]
    pipeline = [{"type": "LoadImageFromFile"}, *steps, {"type": "PackDetInputs"}]
    config = {"model": MODELS[name], "test_dataloader": {"dataset": {"type": "CocoDataset", "pipeline": pipeline}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(mmdet_config.written(config))
    return path


def drawn(chance: random.Random, names: Sequence[str]) -> tuple[np.ndarray, list[tuple[int, int, int, int, str]]]:
    """Return a picture, uint8[H, W, 3], and its squares: x, y, width, height, colour."""
    width, height = chance.choice([(64, 64), (80, 60), (56, 72)])
    picture = np.random.default_rng(chance.getrandbits(32)).integers(200, 256, (height, width, 3)).astype(np.uint8)
    squares: list[tuple[int, int, int, int, str]] = []
    for left in (2, width // 2 + 2):
        if chance.random() < 0.25:
            continue
        side, name = chance.randint(14, 22), chance.choice(names)
        x, y = left + chance.randint(0, width // 2 - 26), chance.randint(2, height - 26)
        picture[y : y + side, x : x + side] = COLOURS[name]
        squares.append((x, y, side, side, name))
    return picture, squares


def write_drawings(folder: Path, count: int = 32, *, names: Sequence[str] = ("red", "blue"), seed: int = 0) -> Path:
    """Write drawn pictures and their COCO JSON; returns the JSON's path."""
    chance, images, annotations = random.Random(seed), [], []
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        picture, squares = drawn(chance, names)
        file = f"{seed}-{number}.png"
        Image.fromarray(picture).save(folder / "images" / file)
        images.append({"id": number + 1, "file_name": file, "width": picture.shape[1], "height": picture.shape[0]})
        for x, y, wide, high, name in squares:
            box = {"id": len(annotations) + 1, "image_id": number + 1, "bbox": [x, y, wide, high]}
            annotations.append({**box, "category_id": names.index(name) + 1, "area": wide * high, "iscrowd": 0})
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(names)]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(whole))
    return folder / "boxes.json"
