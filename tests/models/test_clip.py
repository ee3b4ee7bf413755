"""The family clip: what transformers itself says, whatever a row lacks; one kind of column alone; errors in a line."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers as hf

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models.assembly import build_config, build_network, build_preprocessing, choose, restore_preprocessing
from carryover.models.clip_layers import class_weights
from carryover.models.depth import depths
from carryover.train import recipe as recipes
from tests.models.test_networks import check_gradients
from tests.support.tiny_clip import LENGTH, save_tiny_clip
from tests.support.tiny_timm import photo

LIST = pa.list_(pa.binary())
IMAGE, TEXT = Column("front", "image_path", "list<binary>", {}), Column("said", "text", "string", {})
CHANCE = random.Random(0)
PHOTOS = [photo(CHANCE, row % 2, (16, 16)) for row in range(4)]
ROWS = pa.table(
    {
        "front": pa.array([PHOTOS[:2], PHOTOS[2:3], None, None], LIST),
        "said": ["A great Photo of a cat", None, "bad dog", " "],
    }
)
KEYS = np.arange(4, dtype=np.uint64)
KINDS = ("clip", "siglip", "siglip2")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_tiny_clip(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


def assemble(folder: Path, columns: tuple[Column, ...] = (IMAGE, TEXT), **section: Any) -> tuple[Any, Any, Any]:
    schema = Schema("y", "multiclass", ("a", "b", "c"), (*columns, Column("y", "categorical", "string", {})))
    model = build_config({"names": ["clip"], "clip": {"checkpoint_name": str(folder), **section}})
    assembly = choose(model, schema)
    preprocessing = build_preprocessing(assembly, schema, DataConfig())
    torch.manual_seed(1)
    return assembly, preprocessing, build_network(assembly, preprocessing, 3)


def batch(preprocessing: Any, rows: pa.Table = ROWS) -> dict[str, torch.Tensor]:
    arrays = preprocessing(rows, training=False, keys=KEYS[: len(rows)])
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def embeddings(folder: Path, pixels: torch.Tensor, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what transformers says of images [K, 3, 16, 16] from 0 to 255, and of texts, with length 1."""
    model, tokenizer = hf.AutoModel.from_pretrained(folder).eval(), hf.AutoTokenizer.from_pretrained(folder)
    kind = model.config.model_type
    wanted = (pixels / 255 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / 0.2
    inputs: dict[str, Any] = {"pixel_values": wanted}
    if kind == "siglip2":
        processor = hf.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=4, image_mean=[0.4, 0.5, 0.6])
        made = [image.permute(1, 2, 0).numpy().astype(np.uint8) for image in pixels]
        inputs = dict(processor(made, image_std=[0.2] * 3, return_tensors="pt"))
    mark = (tokenizer.bos_token if kind == "clip" else ""), tokenizer.eos_token
    spelled = [f"{mark[0]} {text.lower()} {mark[1]}" if kind != "siglip2" else f"{text}{mark[1]}" for text in texts]
    padded = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": LENGTH}
    ids = tokenizer(spelled, add_special_tokens=False, return_tensors="pt", **padded)
    with torch.no_grad():
        image = model.get_image_features(**inputs).pooler_output
        text = model.get_text_features(input_ids=ids["input_ids"]).pooler_output
    return torch.nn.functional.normalize(image, dim=-1), torch.nn.functional.normalize(text, dim=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_what_transformers_says(places: dict[str, Path], kind: str) -> None:
    _, preprocessing, network = assemble(places[kind], max_image_num_per_column=2)
    features = {name.partition("/")[2]: value for name, value in batch(preprocessing).items()}
    with torch.no_grad():
        found = network.eval().clip(features).features
    pixels = features["pixels"].flatten(0, 1)[:3].float()
    image, text = embeddings(places[kind], pixels, ["a great photo of a cat", "bad dog"])
    scale = image.shape[-1] ** 0.5
    pair = torch.nn.functional.normalize(image[0] + image[1], dim=-1) * scale
    both, shown, written = found.chunk(3, dim=-1)
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(shown[0], pair, **close)
    torch.testing.assert_close(shown[1], image[2] * scale, **close)
    torch.testing.assert_close(written[[0, 2]], text * scale, **close)
    assert both[0].mean() == pytest.approx(float(shown[0] @ written[0]) / len(shown[0]), abs=1e-4)
    # What a row lacks is 0, and so is what needs both.
    assert not shown[2:].any()
    assert not written[[1, 3]].any()
    assert not both[1:].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [(IMAGE, TEXT), (IMAGE,), (TEXT,)], ids=["both", "images", "texts"])
def test_every_parameter_has_a_gradient_whatever_a_batch_lacks(
    places: dict[str, Path], kind: str, columns: tuple[Column, ...]
) -> None:
    assembly, preprocessing, network = assemble(places[kind], columns, use_learnable_image=len(columns) == 2)
    for rows in (ROWS, ROWS.slice(0, 1), ROWS.slice(3, 1)):
        network.zero_grad(set_to_none=True)
        check_gradients(network, batch(preprocessing, rows))
    again = restore_preprocessing(assembly, preprocessing.files())
    assert {name: value.tolist() for name, value in batch(again).items()} == {
        name: value.tolist() for name, value in batch(preprocessing).items()
    }
    parts = {name.split(".")[1] for name in network.state_dict()} - {"head"}
    assert parts == {{"front": "images", "said": "texts"}[column.name] for column in columns}


def test_images_of_another_size(places: dict[str, Path]) -> None:
    for kind in KINDS:
        _, preprocessing, network = assemble(places[kind], (IMAGE,), image_size=32)
        inputs = batch(preprocessing)
        assert inputs["clip/pixels"].shape[-1] == 32
        assert network(inputs).logits.isfinite().all()
        with pytest.raises(WrongInput, match=r"model\.clip\.image_size: 30 is not made of patches of 8 pixels; 32"):
            assemble(places[kind], (IMAGE,), image_size=30)


@pytest.mark.parametrize("kind", KINDS)
def test_each_tower_counts_its_own_layers(places: dict[str, Path], kind: str) -> None:
    found = depths(assemble(places[kind])[2])
    for tower in ("clip.images.encoder.vision_model", "clip.texts.text_model"):
        own = {name.removeprefix(f"{tower}."): depth for name, depth in found.items() if name.startswith(tower)}
        assert {depth for name, depth in own.items() if name.startswith("embeddings.")} == {3}
        assert {depth for name, depth in own.items() if name.startswith("encoder.layers.0.")} == {2}
        assert {depth for name, depth in own.items() if name.startswith("encoder.layers.1.")} == {1}
    assert found["clip.head.weight"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_made_of_texts_says_what_the_checkpoint_says(places: dict[str, Path], kind: str) -> None:
    _, preprocessing, network = assemble(places[kind])
    made = preprocessing.branches["clip"]
    model = hf.AutoModel.from_pretrained(places[kind]).eval()
    texts = [["a photo of a cat", "good cat"], ["a photo of a dog"]]
    classes = []
    for names in texts:
        arrays = made.texts(pa.table({"said": names}), training=False, keys=KEYS[: len(names)])
        classes.append({name: torch.from_numpy(array) for name, array in arrays.items()})
    weight, bias = class_weights(model, made.config, made.texts.layout, classes)
    features = {name.partition("/")[2]: value for name, value in batch(preprocessing).items()}
    with torch.no_grad():
        shown = network.eval().clip(features).features.chunk(3, dim=-1)[1][:2]
        found = shown @ weight.T + bias
    pixels = features["pixels"].flatten(0, 1)[:2].float()
    image, cats = embeddings(places[kind], pixels, texts[0])
    _, dogs = embeddings(places[kind], pixels, texts[1])
    means = torch.nn.functional.normalize(torch.stack([cats.mean(0), dogs[0]]), dim=-1)
    want = image @ means.T * model.logit_scale.exp() + (model.logit_bias if kind != "clip" else 0)
    torch.testing.assert_close(found, want.detach(), rtol=1e-4, atol=1e-4)


def test_siglip_reads_small_letters_and_the_first_one_no_punctuation(tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path, "siglip")
    rows = ROWS.slice(0, 2).set_column(1, "said", pa.array(["a photo of a cat", "A  Photo, of a CAT!"]))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    seen = []
    for kind in (settings["tokenizer_class"], "SiglipTokenizer"):
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": kind}))
        seen.append(batch(assemble(folder, (TEXT,))[1], rows)["clip/ids"].tolist())
    assert seen[0][0][:6] == seen[1][0] == seen[1][1]
    assert seen[0][0] != seen[0][1]


def test_what_cannot_be_opened_is_said(places: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WrongInput, match=r"model\.clip\.checkpoint_name: .* is a 'bert', and this family reads clip"):
        assemble(tmp_path, pretrained=False)
    bare = save_tiny_clip(tmp_path / "bare", tokenizer=False)
    assert assemble(bare, (IMAGE,))[2].branch_names == ("clip",)
    with pytest.raises(WrongInput, match=r"model\.clip\.checkpoint_name: .* has no tokenizer, and there are texts"):
        assemble(bare, (TEXT,))
    with pytest.raises(WrongInput, match=r"model\.clip\.max_text_len: 2 tokens leave no room for 1 text columns"):
        assemble(places["clip"], max_text_len=2)
    with pytest.raises(WrongInput, match=r"model\.clip\.insert_sep: .*first end"):
        recipes.make({"model.clip.insert_sep": True})
