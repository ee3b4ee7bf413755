"""Detectors of mmdet: their configs are read as values, pictures and boxes stay together, losses ask no other rank."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from carryover.data.config import DataConfig
from carryover.data.rows import BOXES
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models import mmdet_config, mmdet_pixels, mmdet_source, pixels
from carryover.models.assembly import build_config, choose
from carryover.models.depth import depths
from carryover.models.mmdet_config import Canvas
from carryover.models.mmdet_image import FAMILY, MmdetImageConfig, MmdetImagePreprocessor
from tests.support.tiny_mmdet import MODELS, drawn, write_config

NAMES = ("red", "blue")
SCHEMA = Schema(
    label="rois",
    problem_type="object_detection",
    classes=NAMES,
    columns=(Column("image", "image_path", "list<binary>", {}), Column("rois", "boxes", "list", {})),
)


def rows(*, count: int = 4, seed: int = 0) -> pa.Table:
    """Return drawn pictures with their boxes; the first has none."""
    import random

    chance, images, boxes = random.Random(seed), [], []
    for number in range(count):
        picture, squares = drawn(chance, NAMES)
        sink = io.BytesIO()
        Image.fromarray(picture).save(sink, "PNG")
        images.append([sink.getvalue()])
        own = [
            {"x1": float(x), "y1": float(y), "x2": float(x + w), "y2": float(y + h), "class": name, "crowd": False}
            for x, y, w, h, name in squares
        ]
        boxes.append(own if number else [])
    return pa.table({"image": pa.array(images, pa.list_(pa.binary())), "rois": pa.array(boxes, BOXES)})


def config(folder: Path, name: str = "yolox", **more: Any) -> MmdetImageConfig:
    return MmdetImageConfig(str(write_config(folder / name / "config.py", name).parent), pretrained=False, **more)


def tensors(preprocessor: MmdetImagePreprocessor, table: pa.Table, *, training: bool) -> dict[str, torch.Tensor]:
    arrays = preprocessor(table, training=training, keys=np.arange(table.num_rows, dtype=np.uint64))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("name", ["yolox", "retina"])
def test_it_gives_losses_in_training_and_boxes_after_it(name: str, tmp_path: Path) -> None:
    asked = config(tmp_path, name, max_predictions=7)
    preprocessor = FAMILY.preprocessor(asked, SCHEMA, DataConfig())
    assert FAMILY.restore(asked, preprocessor.files()) == preprocessor
    torch.manual_seed(0)
    network = FAMILY.network(asked, preprocessor, num_outputs=2, pretrained=True)
    features = tensors(preprocessor, rows(), training=True)
    losses = network.train()(features).losses
    assert losses is not None
    assert len(losses) == 4
    assert len(losses.unique()) == 1
    for batch in (features, {key: value[:1] for key, value in features.items()}):
        # The second has no box at all, and still each parameter has its gradient.
        network.zero_grad()
        found = network(batch).losses
        assert found is not None
        found.sum().backward()
        assert all(one.grad is not None for one in network.parameters() if one.requires_grad)
    seen = tensors(preprocessor, rows(), training=False)
    assert "truth" not in seen
    with torch.no_grad():
        output = network.eval()(seen)
    assert output.logits is not None
    boxes = output.logits
    assert tuple(boxes.shape[::2]) == (4, 6)
    assert 1 <= boxes.shape[1] <= 7
    assert (boxes[..., 4].diff(dim=1) <= 0).all()
    assert set(boxes[..., 5].unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_what_a_config_freezes_stays_and_heads_are_new(tmp_path: Path) -> None:
    asked = config(tmp_path, "retina", frozen_layers=("neck",))
    preprocessor = FAMILY.preprocessor(asked, SCHEMA, DataConfig())
    network = FAMILY.network(asked, preprocessor, num_outputs=2, pretrained=True)
    fixed = {name for name, one in network.named_parameters() if not one.requires_grad}
    assert {name.split(".")[1] for name in fixed} == {"backbone", "neck"}
    assert any(name.startswith("detector.backbone.layer1.") for name in fixed)
    assert not any(name.startswith("detector.backbone.layer2.") for name in fixed)
    deep = depths(network)
    assert {deep[name] for name in deep if "bbox_head" in name} == {0}
    assert {deep[name] for name in deep if ".neck." in name} == {1}
    assert deep["detector.backbone.layer4.1.conv2.weight"] == 2
    assert deep["detector.backbone.conv1.weight"] == max(deep.values())
    assert network.of_classes() == ["detector.bbox_head.retina_cls.weight", "detector.bbox_head.retina_cls.bias"]
    with pytest.raises(WrongInput, match="no parameter has 'nick' in its name"):
        FAMILY.network(config(tmp_path, frozen_layers=("nick",)), preprocessor, num_outputs=2, pretrained=True)


def test_a_name_of_mmdet_with_random_weights_trains_whole() -> None:
    asked = MmdetImageConfig("retinanet_r18_fpn_1x_coco", pretrained=False, image_size=64)
    preprocessor = FAMILY.preprocessor(asked, SCHEMA, DataConfig())
    model = preprocessor.described()["model"]
    assert preprocessor.canvas.scale == (64, 64)
    assert (model["backbone"]["frozen_stages"], model["bbox_head"]["num_classes"]) == (-1, 2)
    assert "init_cfg" not in model["backbone"]
    assert mmdet_config.classes_of(preprocessor.described()) == NAMES


@pytest.mark.parametrize("transform", ["random_horizontal_flip(1)", "random_crop(0.5)", "random_zoom_out(3)"])
def test_boxes_go_where_their_squares_go(transform: str) -> None:
    picture = np.full((60, 80, 3), 255, np.uint8)
    picture[20:41, 30:51] = (200, 30, 30)
    boxes = np.array([[30, 20, 51, 41, 1, 0]], np.float32)
    for key in range(20):
        turned, moved = mmdet_pixels.turned(picture, boxes, [transform], key=key)
        again = mmdet_pixels.turned(picture, boxes, [transform], key=key)
        assert all(np.array_equal(one, other) for one, other in zip((turned, moved), again, strict=True))
        fitted = mmdet_pixels.fit(turned, moved, Canvas((160, 160), pad="square", pad_value=(114, 114, 114)))
        assert fitted.pixels.shape == (3, 160, 160)
        marked = np.argwhere((fitted.pixels[0] > 180) & (fitted.pixels[1] < 60))
        if not len(fitted.truth):
            continue
        (y1, x1), (y2, x2) = marked.min(axis=0), marked.max(axis=0) + 1
        assert fitted.truth[0, :4] == pytest.approx([x1, y1, x2, y2], abs=2.5)
        assert fitted.truth[0, 4:].tolist() == [1, 0]


def test_pictures_of_several_sizes_are_filled_up() -> None:
    canvas = Canvas((64, 48))
    wide, high = (np.zeros((*size, 3), np.uint8) for size in ((20, 40), (40, 20)))
    none = np.zeros((0, 6), np.float32)
    arrays = mmdet_pixels.batch([mmdet_pixels.fit(one, none, canvas) for one in (wide, high)], training=True)
    assert arrays["shape"].tolist() == [[32, 64], [64, 32]]
    assert arrays["pixels"].shape == (2, 3, 64, 64)
    assert arrays["size"].tolist() == [[20, 40], [40, 20]]
    assert (arrays["truth"][..., 4] == -1).all()


def test_pictures_stand_upright_as_their_boxes_do() -> None:
    """As pixels.decode has them, by which prepare-data measures pictures, whatever reads them here."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.arange(30 * 20 * 3, dtype=np.uint8).reshape(20, 30, 3))
    for kind, how in (("PNG", {"exif": exif}), ("BMP", {}), ("GIF", {}), ("TIFF", {})):
        sink = io.BytesIO()
        image.save(sink, kind, **how)
        seen = mmdet_pixels.decoded(sink.getvalue())
        assert seen is not None
        assert np.array_equal(seen[:, :, ::-1], np.asarray(pixels.decode(sink.getvalue())))
    assert seen.shape == (20, 30, 3)


def test_what_can_not_be_decoded_is_black_or_another_picture(tmp_path: Path) -> None:
    table = rows().set_column(0, "image", pa.array([[b"no picture"], None, [], None], pa.list_(pa.binary())))
    preprocessor = FAMILY.preprocessor(config(tmp_path), SCHEMA, DataConfig())
    found = tensors(preprocessor, table, training=True)
    assert not found["pixels"].any()
    assert (found["truth"][..., 4] == -1).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import os\nmodel = dict(type='YOLOX')", "more than plain values"),
        ("model = dict(type=open('/etc/passwd').read())", "more than plain values"),
        ("_base_ = ['a.py']", "has no model"),
        ("model = dict(type='RTMDet', mask_head=dict(num_classes=3))", "learns masks too"),
        ("model = dict(type='RPN', rpn_head=dict(type='RPNHead'))", "without classes"),
        ("model = dict(type='A', bbox_head=dict(type='SSDHead', num_classes=3))", "can't predict"),
        ("model = dict(type='A', neck=dict(type='FPN'))", "no num_classes in a head"),
    ],
)
def test_configs_that_are_no_detectors_or_code_are_refused_unread(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(text)
    with pytest.raises(WrongInput, match=says):
        mmdet_source.check_source(str(tmp_path), pretrained=False)


def test_configs_are_written_as_they_are_read() -> None:
    for model in MODELS.values():
        assert mmdet_config.parsed(mmdet_config.written({"model": model}), where="a test") == {"model": model}
    spelled = "x = dict(a=(1, -2.5), b=[dict(c=None, d=True)], e={'f': 'g' 'h'})"
    assert mmdet_config.parsed(spelled, where="") == {
        "x": {"a": (1, -2.5), "b": [{"c": None, "d": True}], "e": {"f": "gh"}}
    }


@pytest.mark.parametrize(
    ("name", "pretrained", "says"),
    [
        ("yolox_tiny_8xb8-300e_coc", False, "did you mean 'yolox_tiny_8xb8-300e_coco'"),
        ("yolox_tiny", True, "HF_HUB_OFFLINE is set; put https://.*pretrained: false"),
        ("yolox_nano", True, "has no published weights"),
        ("./nowhere", True, "there is no file nowhere/config.py"),
    ],
)
def test_what_can_not_be_opened_is_said_before_a_rank_starts(
    name: str, pretrained: bool, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WrongInput, match=says):
        FAMILY.check(MmdetImageConfig(name, pretrained=pretrained))


def test_without_mmdet_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmdet_source, "find_spec", lambda name: None)
    with pytest.raises(WrongInput, match="mmdet is not installed; 'make detection'"):
        FAMILY.check(MmdetImageConfig("yolox_tiny", pretrained=False))


@pytest.mark.parametrize(
    ("names", "says"),
    [(["timm_image"], "is learned by mmdet_image alone"), (["mmdet_image", "sam"], "nothing to read")],
)
def test_boxes_are_left_to_one_detector(names: list[str], says: str) -> None:
    with pytest.raises(WrongInput, match=says):
        choose(build_config({"names": names, "mmdet_image": {"pretrained": False}}), SCHEMA)
    found = choose(build_config({"mmdet_image": {"pretrained": False}}), SCHEMA)
    assert [branch.family for branch in found.branches] == ["mmdet_image"]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train_transforms", ("random_horizontal_flp",), "did you mean 'random_horizontal_flip'"),
        ("train_transforms", ("random_crop(2)",), "above 0 and at most 1"),
        ("train_transforms", ("random_crop(x)",), "must be numbers"),
        ("image_size", 8, "32 or more"),
        ("max_predictions", 0, "1 or more"),
    ],
)
def test_wrong_keys_are_told(key: str, value: Any, says: str) -> None:
    with pytest.raises(WrongInput, match=says):
        MmdetImageConfig(**{key: value})


def test_its_scope_is_gone_after_it(tmp_path: Path) -> None:
    """mmengine keeps names of scopes for a whole process; others may use it too."""
    from mmengine.registry import DefaultScope

    asked = config(tmp_path)
    preprocessor = FAMILY.preprocessor(asked, SCHEMA, DataConfig())
    network = FAMILY.network(asked, preprocessor, num_outputs=2, pretrained=True)
    network.train()(tensors(preprocessor, rows(), training=True))
    assert DefaultScope.get_current_instance() is None
    assert sys.modules["mmdet.utils.dist_utils"].dist is torch.distributed
