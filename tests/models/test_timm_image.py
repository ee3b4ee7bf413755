"""The family timm_image: gradients everywhere, several images a row, weights of every origin, errors in one line."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from carryover.data.config import DataConfig, ImageConfig
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models.assembly import build_config, build_network, build_preprocessing, choose
from carryover.models.image_layers import ImageEncoder, Scaling
from carryover.models.timm_image import FAMILY, TimmImageConfig
from carryover.train import recipe as recipes
from tests.models.test_networks import check_gradients
from tests.support.tiny_timm import ARGUMENTS, photo, save_tiny_timm

LIST = pa.list_(pa.binary())
COLUMNS = (Column("front", "image_path", "list<binary>", {}), Column("back", "image_bytes", "binary", {}))
SCHEMA = Schema("y", "multiclass", ("a", "b", "c"), (*COLUMNS, Column("y", "categorical", "string", {})))
CHANCE = random.Random(0)
PHOTOS = [photo(CHANCE, row % 2, (16, 16)) for row in range(6)]
ROWS = pa.table(
    {
        "front": pa.array([PHOTOS[:2], [None, PHOTOS[2]], None, [None]], LIST),
        "back": pa.array([PHOTOS[3], None, PHOTOS[4], None], pa.binary()),
    }
)
KEYS = np.arange(4, dtype=np.uint64)


def assemble(folder: Path, data: DataConfig | None = None, **section: Any) -> tuple[Any, Any, Any]:
    model = build_config({"names": ["timm_image"], "timm_image": {"checkpoint_name": str(folder), **section}})
    assembly = choose(model, SCHEMA)
    preprocessing = build_preprocessing(assembly, SCHEMA, data or DataConfig())
    torch.manual_seed(1)
    return assembly, preprocessing, build_network(assembly, preprocessing, 3)


def batch(preprocessing: Any, rows: pa.Table = ROWS) -> dict[str, torch.Tensor]:
    arrays = preprocessing(rows, training=False, keys=KEYS[: len(rows)])
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("architecture", ARGUMENTS)
@pytest.mark.parametrize("keys", [{}, {"use_learnable_image": True}, {"mix_choice": "all_images"}])
def test_every_parameter_has_a_gradient_whatever_a_batch_lacks(
    tmp_path: Path, architecture: str, keys: dict[str, Any]
) -> None:
    folder = save_tiny_timm(tmp_path, architecture)
    _, preprocessing, network = assemble(folder, pretrained=False, max_image_num_per_column=2, **keys)
    # All rows, one whole row, and rows of which none has an image.
    for rows in (ROWS, ROWS.slice(0, 1), ROWS.slice(3, 1)):
        network.zero_grad(set_to_none=True)
        check_gradients(network, batch(preprocessing, rows))
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_a_row_is_the_mean_of_its_images_and_zeros_without_any(tmp_path: Path) -> None:
    folder = save_tiny_timm(tmp_path)
    _, preprocessing, network = assemble(folder, pretrained=False, max_image_num_per_column=2)
    branch = network.eval().timm_image

    def alone(data: bytes) -> torch.Tensor:
        rows = pa.table({"front": pa.array([[data]], LIST), "back": pa.array([None], pa.binary())})
        features = {name.partition("/")[2]: value for name, value in batch(preprocessing, rows).items()}
        return branch(features).features[0]

    with torch.no_grad():
        features = {name.partition("/")[2]: value for name, value in batch(preprocessing).items()}
        found = branch(features).features
        want = [[PHOTOS[0], PHOTOS[1], PHOTOS[3]], [PHOTOS[2]], [PHOTOS[4]]]
        for row, images in enumerate(want):
            assert torch.allclose(found[row], torch.stack([alone(data) for data in images]).mean(0), atol=1e-6)
        assert not found[3].any()
        black = {**features, "pixels": features["pixels"].clone()}
        black["pixels"][3] = 255
        assert torch.equal(branch(black).features, found)


def test_images_are_averaged_before_the_model_and_a_learned_one_stands_for_none(tmp_path: Path) -> None:
    folder = save_tiny_timm(tmp_path)
    keys = {"pretrained": False, "max_image_num_per_column": 2, "mix_choice": "all_images", "use_learnable_image": True}
    _, preprocessing, network = assemble(folder, **keys)
    branch = network.eval().timm_image
    with torch.no_grad():
        branch.learned_image.normal_()
        features = {name.partition("/")[2]: value for name, value in batch(preprocessing).items()}
        found = branch(features).features
        mean = branch.scaling(features["pixels"][0, :3]).mean(dim=0, keepdim=True)
        assert torch.allclose(found[0], branch.encoder(mean)[0], atol=1e-6)
        assert torch.allclose(found[3], branch.encoder(branch.learned_image.unsqueeze(0))[0], atol=1e-6)


def test_black_filling_is_in_no_batch_norm(tmp_path: Path) -> None:
    _, preprocessing, network = assemble(save_tiny_timm(tmp_path, "test_resnet"), pretrained=False)
    few, many = ROWS.slice(0, 2), pa.concat_tables([ROWS.slice(0, 2), ROWS.slice(3, 1)])
    seen = []
    for rows in (few, many):
        torch.manual_seed(1)
        fresh = assemble(tmp_path, pretrained=False)[2].train()
        fresh(batch(preprocessing, rows))
        seen.append({name: value.clone() for name, value in fresh.named_buffers()})
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])
    assert any(not torch.equal(value, dict(network.named_buffers())[name]) for name, value in seen[0].items())


def test_pixels_are_scaled_as_the_model_wants_them(tmp_path: Path) -> None:
    folder = save_tiny_timm(tmp_path)
    found = {}
    for norm, mean in ((None, (0.4, 0.5, 0.6)), ("imagenet", (0.485, 0.456, 0.406)), ("inception", (0.5, 0.5, 0.5))):
        _, preprocessing, network = assemble(folder, pretrained=False, image_norm=norm)
        assert preprocessing.branches["timm_image"].pixels.mean == mean
        found[norm] = network.timm_image.scaling(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert torch.allclose(found["inception"], torch.ones(1, 3, 2, 2))
    assert torch.allclose(found[None][0, :, 0, 0], torch.tensor([0.6 / 0.2, 0.5 / 0.25, 0.4 / 0.3]))
    bytes_, reals = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2), torch.arange(12.0).view(1, 3, 2, 2)
    scaling = Scaling((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert torch.equal(scaling(bytes_), scaling(reals))
    assert list(scaling.state_dict()) == []


@pytest.mark.parametrize("size", [None, 16, 24])
@pytest.mark.parametrize("architecture", ARGUMENTS)
def test_a_size_that_is_asked_for_reaches_the_model(tmp_path: Path, architecture: str, size: int | None) -> None:
    folder = save_tiny_timm(tmp_path, architecture, weights="model.safetensors")
    _, preprocessing, network = assemble(folder, image_size=size)
    assert batch(preprocessing)["timm_image/pixels"].shape == (4, 2, 3, size or 16, size or 16)
    assert network.eval()(batch(preprocessing)).logits.isfinite().all()
    if architecture == "test_resnet":
        return
    with pytest.raises(WrongInput, match=r"model\.timm_image"):
        assemble(folder, image_size=3)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("architecture", ARGUMENTS)
def test_weights_are_the_folders(tmp_path: Path, architecture: str, weights: str) -> None:
    folder = save_tiny_timm(tmp_path, architecture, weights=weights)
    source = load_file(folder / weights) if weights.endswith("safetensors") else torch.load(folder / weights)
    _, _, network = assemble(folder)
    mine = {name.removeprefix("timm_image.encoder."): value for name, value in network.state_dict().items()}
    assert source
    assert all(torch.equal(mine[name], value) for name, value in source.items())
    _, _, other = assemble(folder, pretrained=False)
    random_ones = {name.removeprefix("timm_image.encoder."): value for name, value in other.state_dict().items()}
    assert any(not torch.equal(random_ones[name], value) for name, value in source.items())


@pytest.mark.parametrize("classes", [0, 1000])
def test_weights_that_lack_a_part_are_not_filled_up_with_random_ones(tmp_path: Path, classes: int) -> None:
    # Those of a model that had a head are read by timm without a complaint about what is not there.
    folder = save_tiny_timm(tmp_path, weights="model.safetensors", num_classes=classes, classifier="head")
    assemble(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("blocks.1.attn.qkv.weight")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WrongInput, match=r"(lack 1 tensors|Missing key).*blocks\.1\.attn\.qkv\.weight"):
        assemble(folder)


class _Runs:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit(9)",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), "names no architecture"),
        (lambda folder: (folder / "model.safetensors").unlink(), "pretrained: false"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "weights of"),
        (
            lambda folder: (
                (folder / "model.safetensors").unlink(),
                torch.save({"a": _Runs()}, folder / "pytorch_model.bin"),
            ),
            "which could be code",
        ),
        (
            lambda folder: (folder / "config.json").write_text(
                json.dumps({"architecture": "vit_tiny_patch16_24", "pretrained_cfg": {}})
            ),
            "vit_tiny_patch16_24",
        ),
    ],
)
def test_what_cannot_be_opened_is_one_line(tmp_path: Path, change: Any, words: str) -> None:
    folder = save_tiny_timm(tmp_path, weights="model.safetensors")
    change(folder)
    with pytest.raises(WrongInput) as caught:
        assemble(folder)
    assert words in str(caught.value)
    assert str(caught.value).startswith("model.timm_image.checkpoint_name: ")
    assert "\n" not in str(caught.value)


def test_names_of_timms(tmp_path: Path) -> None:
    for name in ("test_vit", "test_vit.r160_in1k"):
        config = TimmImageConfig(checkpoint_name=name, pretrained=False, image_size=32)
        made = FAMILY.preprocessor(config, SCHEMA, DataConfig())
        assert (made.model.architecture, made.model.size(), made.pixels.size) == ("test_vit", 160, 32)
        assert "timm/" not in json.dumps(dict(made.model.pretrained_cfg))
        assert FAMILY.portable(config) == config
    for name, words in (("test_vitt", "did you mean 'test_vit"), ("test_vit.no", "Invalid pretrained tag")):
        with pytest.raises(WrongInput, match=words):
            FAMILY.preprocessor(replace(config, checkpoint_name=name), SCHEMA, DataConfig())
    with pytest.raises(WrongInput, match="there is no folder"):
        FAMILY.check(TimmImageConfig(checkpoint_name=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"train_transforms": ["center_crp"]}, "train_transforms: 'center_crp' is no transform; did you mean"),
        ({"val_transforms": ["resize_shorter_side"]}, "val_transforms: they give"),
        ({"image_norm": "imagnet"}, "image_norm"),
        ({"image_size": 0}, "image_size"),
        ({"mix_choice": "concat"}, "mix_choice"),
        ({"max_image_num_per_column": 0}, "max_image_num_per_column"),
    ],
)
def test_wrong_keys_are_said(tmp_path: Path, section: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongInput) as caught:
        assemble(save_tiny_timm(tmp_path), pretrained=False, **section)
    assert f"model.timm_image.{words}" in str(caught.value)


def test_the_strategy_for_missing_images_reaches_the_preprocessor(tmp_path: Path) -> None:
    folder = save_tiny_timm(tmp_path)
    for strategy in ("zero", "skip"):
        data = DataConfig(image=ImageConfig(missing_value_strategy=strategy))
        _, preprocessing, _ = assemble(folder, data, pretrained=False)
        assert preprocessing.branches["timm_image"].pixels.skip == (strategy == "skip")


def test_a_half_precision_keeps_close_and_a_double_one_is_double(tmp_path: Path) -> None:
    _, preprocessing, network = assemble(save_tiny_timm(tmp_path), pretrained=False, use_learnable_image=True)
    network.eval()
    with torch.no_grad():
        exact = network(batch(preprocessing)).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.allclose(network(batch(preprocessing)).logits.float(), exact, atol=0.05)
        assert network.double()(batch(preprocessing)).logits.dtype == torch.float64
    assert isinstance(network.timm_image, ImageEncoder)


def test_automms_older_spellings_mean_the_same() -> None:
    older = ("train_transform_types=[affine]", "val_transform_types=[center_crop]", "max_img_num_per_col=3")
    found = recipes.make(recipes.given("", [f"model.timm_image.{one}" for one in older])).model.timm_image
    assert (found.train_transforms, found.val_transforms) == (("affine",), ("center_crop",))
    assert found.max_image_num_per_column == 3
