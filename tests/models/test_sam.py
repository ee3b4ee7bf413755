"""SAM: what it reads of a picture and its mask, what it says, what trains, and what transformers makes of a dump."""

import io
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers as hf
from PIL import Image

from carryover.data.config import DataConfig
from carryover.data.images import NotUsable
from carryover.data.schema import Column, Schema
from carryover.ground.config import build as build_section
from carryover.ground.config import flatten, nest
from carryover.ground.errors import WrongInput
from carryover.models import dump
from carryover.models.assembly import Assembly, Branch, Preprocessing
from carryover.models.layers import Network
from carryover.models.peft import Adaptation, LoraConfig, adapt, merged
from carryover.models.sam import FAMILY, SamConfig
from carryover.models.sam_layers import Segmenter
from tests.support.tiny_clip import save_tiny_clip
from tests.support.tiny_sam import drawing, save_tiny_sam

PAGE = Path(__file__).parents[2] / "docs" / "segmentation.md"
KEYS = np.arange(4, dtype=np.uint64)
PICTURE, MASK = Column("picture", "image_path", "list<binary>", {}), Column("mask", "mask", "binary", {})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam(tmp_path_factory.mktemp("sam"))


def schema(*ids: int, columns: tuple[Column, ...] = (PICTURE, MASK)) -> Schema:
    return Schema("mask", "semantic_segmentation", ids, columns)


def png(array: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def table(*pairs: tuple[bytes | None, bytes | None]) -> pa.Table:
    pictures = pa.array([[picture] for picture, _ in pairs], pa.list_(pa.binary()))
    return pa.table({"picture": pictures, "mask": pa.array([mask for _, mask in pairs], pa.binary())})


def drawn(squares: bool = True) -> pa.Table:
    chance = random.Random(0)
    sizes = [(72, 60), (64, 64), (100, 70), (72, 60)]
    return table(*(drawing(chance, size=size, squares=squares) for size in sizes))


def preprocessor(place: Path, *ids: int, data: DataConfig | None = None, **section: Any):
    config = SamConfig(checkpoint_name=str(place), **section)
    return config, FAMILY.preprocessor(config, schema(*(ids or (0, 1, 2))), data or DataConfig())


def network(place: Path, *ids: int, **section: Any) -> Segmenter:
    config, read = preprocessor(place, *ids, **section)
    torch.manual_seed(1)
    return FAMILY.network(config, read, num_outputs=len(ids or (0, 1, 2)), pretrained=True)


def inputs(place: Path, **section: Any) -> dict[str, torch.Tensor]:
    arrays = preprocessor(place, **section)[1](drawn(), training=False, keys=KEYS)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def ramp(width: int = 64, height: int = 64) -> tuple[bytes, bytes]:
    """Return a picture whose red says the column and whose green the row, and a mask of 1 where it is right of half."""
    y, x = np.mgrid[:height, :width]
    return png(np.stack([x * 255 // width, y * 255 // height, 0 * x], axis=-1)), png(x >= width // 2)


def test_picture_and_mask_are_turned_alike(place):
    rows = table(ramp(), ramp(32, 48))
    plain = preprocessor(place, 0, 1, train_transforms=())[1](rows, training=True, keys=KEYS[:2])
    for name, axis in (("horizontal", 3), ("vertical", 2)):
        read = preprocessor(place, 0, 1, train_transforms=(f"random_{name}_flip(1.0)",))[1]
        turned = read(rows, training=True, keys=KEYS[:2])
        assert np.array_equal(turned["pixels"], np.flip(plain["pixels"], axis))
        assert np.array_equal(turned["truth"], np.flip(plain["truth"], axis - 1))
    red = plain["pixels"][:, 0].astype(int)
    assert plain["truth"].dtype == np.int16
    assert plain["pixels"].shape == (2, 3, 64, 64)
    # The smaller one is stretched, whose edge is softer.
    assert np.array_equal(plain["truth"][0] == 1, red[0] >= 127)
    assert ((plain["truth"][1] == 1) == (red[1] >= 124)).mean() > 0.95
    moved = preprocessor(place, 0, 1, train_transforms=("affine(40, (0.2, 0.2), (0.5, 0.6))",))[1]
    arrays = moved(rows, training=True, keys=KEYS[:2])
    outside, black = arrays["truth"] == -1, (arrays["pixels"] == 0).all(axis=1)
    assert outside.mean() > 0.3
    assert (outside == black).mean() > 0.97
    inside = ~outside & ~black & (abs(arrays["pixels"][:, 0].astype(int) - 127) > 12)
    assert ((arrays["truth"] == 1) == (arrays["pixels"][:, 0] > 127))[inside].mean() > 0.99


def test_chance_comes_from_the_keys_alone(place):
    _, read = preprocessor(place, train_transforms=("random_resize_crop", "color_jitter", "random_horizontal_flip"))
    one = read(drawn(), training=True, keys=KEYS)
    random.seed(4)
    torch.manual_seed(4)
    again = read(drawn(), training=True, keys=KEYS)
    other = read(drawn(), training=True, keys=KEYS + np.uint64(7))
    assert all(np.array_equal(one[name], again[name]) and not np.array_equal(one[name], other[name]) for name in one)
    last = read(drawn().slice(3), training=True, keys=KEYS[3:])
    assert all(np.array_equal(one[name][3:], last[name]) for name in one)
    assert list(read(drawn().select(["picture"]), training=False, keys=KEYS)) == ["pixels"]


def test_ids_become_classes_and_what_is_ignored_stays_so(place):
    ids = np.array([[0, 7], [255, 30]]).repeat(32, 0).repeat(32, 1)
    rows = table((png(np.zeros((64, 64, 3))), png(ids)))
    _, read = preprocessor(place, 0, 7, 30, train_transforms=())
    truth = read(rows, training=True, keys=KEYS[:1])["truth"]
    assert np.array_equal(truth[0, ::32, ::32], [[0, 1], [-1, 2]])
    _, less = preprocessor(place, 0, 7)
    with pytest.raises(WrongInput, match="label 'mask': id 30 is no class of the model; classes are 0, 7"):
        less(rows, training=True, keys=KEYS[:1])
    with pytest.raises(WrongInput, match="label 'mask': a row has no mask"):
        read(table((ramp()[0], None)), training=True, keys=KEYS[:1])
    with pytest.raises(WrongInput, match="a picture of 32x48 pixels has a mask of 48x32; both must be of one size"):
        preprocessor(place, 0, 1)[1](table((ramp(32, 48)[0], ramp(48, 32)[1])), training=True, keys=KEYS[:1])


def test_a_picture_that_can_not_be_read_is_black_or_gives_way(place):
    rows = table(ramp(), (b"no picture", ramp()[1]))
    _, read = preprocessor(place, 0, 1)
    for training in (True, False):
        assert not read(rows, training=training, keys=KEYS[:2])["pixels"][1].any()
    skips = build_section(DataConfig, nest({"image.missing_value_strategy": "skip"}))
    _, read = preprocessor(place, 0, 1, data=skips)
    with pytest.raises(NotUsable) as told:
        read(rows, training=True, keys=KEYS[:2])
    assert told.value.places == (1,)
    assert not read(rows, training=False, keys=KEYS[:2])["pixels"][1].any()


@pytest.mark.parametrize("ids", [(0, 1), (0, 1, 2)])
def test_every_parameter_that_trains_has_a_gradient(place, ids):
    made = network(place, *ids)
    out = made(inputs(place))
    assert out.logits.shape == (4, len(ids), 32, 32)
    assert out.features.shape == (4, made.out_features)
    out.logits.square().sum().backward()
    assert [name for name, value in made.named_parameters() if value.requires_grad != (value.grad is not None)] == []
    trains = {name for name, value in made.named_parameters() if value.requires_grad}
    assert {"head.mask_tokens", "model.vision_encoder.pos_embed", "model.mask_decoder.iou_token.weight"} <= trains
    assert not [name for name in trains if "prompt_encoder" in name or "iou_prediction" in name]
    thawed = network(place, *ids, frozen_layers=())
    thawed(inputs(place)).logits.square().sum().backward()
    more = {name for name, value in thawed.named_parameters() if value.requires_grad}
    assert more - trains == {"model.prompt_encoder.no_mask_embed.weight"}
    assert {name for name, value in thawed.named_parameters() if value.grad is not None} == more


def test_of_two_classes_it_says_at_first_what_sam_says_without_prompts(place):
    """Against transformers' own whole model with one mask, which is SAM's first."""
    model = hf.SamModel.from_pretrained(place)
    config: Any = hf.SamConfig.from_pretrained(place)
    config.mask_decoder_config.num_multimask_outputs = 0
    alone = hf.SamModel(config).eval()
    weights = {name: value for name, value in model.state_dict().items() if name in alone.state_dict()}
    weights["mask_decoder.mask_tokens.weight"] = weights["mask_decoder.mask_tokens.weight"][:1]
    for end in ("weight", "bias"):
        name = f"mask_decoder.iou_prediction_head.proj_out.{end}"
        weights[name] = weights[name][:1]
    alone.load_state_dict(weights)
    batch = inputs(place)
    with torch.no_grad():
        got = network(place, 0, 1).eval()(batch).logits
        pixels = (batch["pixels"] / 255 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / 0.2
        want = alone(pixel_values=pixels, multimask_output=False).pred_masks[:, 0]
    assert not got[:, 0].any()
    assert torch.allclose(got[:, 1:], want, atol=1e-5)
    assert want.std() > 1e-3


def test_it_is_built_again_from_its_own_files(place):
    config, read = preprocessor(place, image_size=48, num_mask_tokens=7)
    first = FAMILY.network(config, read, num_outputs=3, pretrained=True).eval()
    again = FAMILY.restore(FAMILY.portable(config), read.files())
    stored = build_section(SamConfig, nest(flatten(FAMILY.portable(config))))
    second = FAMILY.network(stored, again, num_outputs=3, pretrained=False).eval()
    second.load_state_dict(first.state_dict())
    arrays = again(drawn(), training=False, keys=KEYS)
    assert np.array_equal(arrays["pixels"], read(drawn(), training=False, keys=KEYS)["pixels"])
    with torch.no_grad():
        one, other = (made({"pixels": torch.from_numpy(arrays["pixels"])}).logits for made in (first, second))
    assert one.shape == (4, 3, 24, 24)
    assert torch.equal(one, other)
    frozen = [{name for name, value in made.named_parameters() if not value.requires_grad} for made in (first, second)]
    assert frozen[0] == frozen[1]


def test_another_size_interpolates_positions(place):
    small, usual = network(place, image_size=32).model, network(place).model
    assert small.vision_encoder.pos_embed.shape == (1, 4, 4, 32)
    # The table of a layer that sees the whole picture; windows stay as they are.
    assert small.vision_encoder.layers[1].attn.rel_pos_h.shape == (7, 16)
    assert torch.equal(small.vision_encoder.layers[0].attn.rel_pos_h, usual.vision_encoder.layers[0].attn.rel_pos_h)
    with torch.no_grad():
        # A table that is the same everywhere stays so.
        usual.vision_encoder.pos_embed.fill_(0.5)
        usual.save_pretrained(place.parent / "even")
    flat = network(place.parent / "even", image_size=96).model.vision_encoder.pos_embed
    assert torch.allclose(flat, torch.full((1, 12, 12, 32), 0.5))
    with pytest.raises(WrongInput, match=r"model.sam.image_size: 100 is not made of patches of 8 pixels; 96 is near"):
        preprocessor(place, image_size=100)


def test_several_masks_of_a_class_join_in_the_best_of_them(place):
    made = network(place, 0, 1, 2, num_mask_tokens=8)
    assert (made.head.masks, made.head.each, len(made.head.mask_tokens)) == (3, 2, 6)
    assert len(network(place, 0, 1, num_mask_tokens=4).head.mask_tokens) == 4
    told, pixels = torch.zeros(1, 6, 32), torch.zeros(1, 4, 1, 1)
    with torch.no_grad():
        for value in made.head.mlps.parameters():
            value.zero_()
        made.head.get_parameter("mlps.2.bias")[:, 0] = torch.tensor([1.0, 1.0, 0.0, 9.0, -5.0, 0.0])
    pixels[:, 0] = 10.0
    logits = made.head(told, pixels)[0, :, 0, 0]
    assert logits.tolist() == pytest.approx([10.0, 90 - np.log(2), -np.log(2)], abs=1e-4)


def test_random_weights_can_learn(place):
    made = network(place, pretrained=False)
    assert made.model.vision_encoder.layers[0].attn.qkv.weight.std() > 0.01
    assert not torch.equal(
        made.model.vision_encoder.neck.conv1.weight, network(place).model.vision_encoder.neck.conv1.weight
    )


ADAPTATION = Adaptation(
    "lora", LoraConfig(r=3, alpha=32, filter=("q", "v"), module_filter=(".*vision_encoder.*attn",)), (".*mask_decoder",)
)


def adapted(place: Path) -> Segmenter:
    made = network(place, 0, 1).eval()
    adapt(made, ADAPTATION, name="sam")
    return made


def test_automms_adapters_are_beside_the_vision_encoders_attention_and_the_decoder_trains(place):
    made, plain = adapted(place), network(place, 0, 1).eval()
    trains = {name for name, value in made.named_parameters() if value.requires_grad}
    vision = {name for name in trains if "vision_encoder" in name}
    layer = "model.vision_encoder.layers.{}.attn.qkv.lora_{}.default.weight"
    assert vision == {layer.format(n, part) for n in (0, 1) for part in "AB"}
    usual = {name for name, value in plain.named_parameters() if value.requires_grad}
    assert trains - vision == {name for name in usual if "mask_decoder" in name or name.startswith("head.")}
    batch = inputs(place)
    with torch.no_grad():
        assert torch.equal(made(batch).logits, plain(batch).logits)
    made(batch).logits.square().sum().backward()
    assert {name for name, value in made.named_parameters() if value.grad is not None} == trains
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "lora_" in name:
                value.normal_(std=0.1)
        want = made(batch).logits
        whole = merged(made)
        assert whole.state_dict().keys() == plain.state_dict().keys()
        assert torch.allclose(whole(batch).logits, want, atol=1e-4)
        assert not torch.allclose(plain(batch).logits, want, atol=1e-2)


@pytest.mark.parametrize("lora", [False, True])
def test_a_dump_is_opened_by_transformers_alone_and_read_again(place, tmp_path, lora):
    config, read = preprocessor(place, 0, 1)
    made = adapted(place) if lora else network(place, 0, 1).eval()
    with torch.no_grad():
        for value in made.parameters():
            value.add_(torch.randn_like(value) * 0.02)
    assembly = Assembly((Branch("sam", "sam", config, ("picture",)),), None, (), ADAPTATION if lora else None)
    whole = Network({"sam": made}, None, weight=0.0).eval()
    found = dump.dump(assembly, Preprocessing({"sam": read}, ("picture",)), whole, tmp_path)["sam"]
    assert (found.equal, found.merged) == (not lora, "lora" if lora else "")
    folder = tmp_path / "sam"
    assert not (folder / "learned.safetensors").exists()
    assert (folder / "preprocessor_config.json").is_file()
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    known: dict[str, Any] = {"backbone": str(tmp_path)}
    exec(code, known)
    processor = known["processor"]
    image = Image.open(io.BytesIO(drawn()["picture"][0].as_py()[0]))
    ready = processor(images=image, input_points=[[[30, 30]]], return_tensors="pt")
    assert ready["pixel_values"].shape == (1, 3, 64, 64)
    assert list(processor.image_processor.image_mean) == [0.4, 0.5, 0.6]
    with torch.no_grad():
        masks = known["model"](**ready).pred_masks
        assert masks.shape == (1, 1, 3, 32, 32)
        # And a new task starts from it.
        new = network(folder, 0, 1, 5).eval()
        mine: Any = merged(made) if lora else made
        pixels = mine.scaling(inputs(place)["pixels"])
        assert torch.equal(new.model.vision_encoder(pixels)[0], mine.model.vision_encoder(pixels)[0])


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"train_transforms": ("trivial_augment",)}, "train_transforms: 'trivial_augment' is not possible here"),
        ({"train_transforms": ("affine({'fill': 3})",)}, "train_transforms: .* black and ignored; leave out fill"),
        ({"img_transforms": ("center_crop",)}, "img_transforms: 'center_crop' is not possible here; picture and mask"),
        ({"gt_transforms": ("resize_to_square",)}, "gt_transforms: .* Known: resize_gt_to_square, and classes as"),
        ({"frozen_layers": ("",)}, "frozen_layers: .* must be parts of names, none of them empty"),
        ({"num_mask_tokens": 0}, "num_mask_tokens: 0 is not possible; it must be 1 or more"),
        ({"image_size": 0}, "image_size: 0 is not possible"),
        ({"ignore_label": 0}, "ignore_label: 0 is not possible; .* run prepare-data with --ignore-label 0, and leave"),
    ],
)
def test_a_key_that_is_not_possible(section, words):
    with pytest.raises(WrongInput, match=words):
        SamConfig(**section)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (
            {"train_transforms": ("torchvision.transforms.v2:RandAugment(2, 9)",)},
            "can't turn a picture and its mask al",
        ),
        ({"train_transforms": ("carryover.models.sam:FAMILY",)}, r"model.sam.train_transforms: .* must be a class of"),
        ({"img_transforms": ()}, r"model.sam.img_transforms: they give 77x71x3 of uint8; the model reads RGB of 8 b"),
        ({"gt_transforms": ()}, r"model.sam.gt_transforms: they give 77x71 of uint8; the model reads ids of 8 bits"),
    ],
)
def test_transforms_are_tried_before_any_training(place, section, words):
    with pytest.raises(WrongInput, match=words):
        preprocessor(place, **section)


def test_what_it_can_not_start_from(place, tmp_path, monkeypatch):
    bare = save_tiny_sam(tmp_path / "bare", weights=False)
    with pytest.raises(WrongInput, match=r"has no weights .* set model.sam.pretrained: false"):
        FAMILY.check(SamConfig(checkpoint_name=str(bare)))
    FAMILY.check(SamConfig(checkpoint_name=str(bare), pretrained=False))
    clip = save_tiny_clip(tmp_path / "clip")
    with pytest.raises(WrongInput, match="is a 'clip', and this family reads 'sam'"):
        FAMILY.check(SamConfig(checkpoint_name=str(clip)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WrongInput, match="'facebook/sam-vit-huge' is not in the hub's cache and HF_HUB_OFFLINE is set"):
        FAMILY.check(SamConfig())
    with pytest.raises(WrongInput, match="frozen_layers: 'decoder2' is in no name; the model's parts are mask_decoder"):
        network(place, frozen_layers=("decoder2",))
    two = schema(0, 1, columns=(PICTURE, Column("other", "image_path", "list<binary>", {}), MASK))
    with pytest.raises(WrongInput, match=r"several columns of them \(picture, other\); leave all but one out"):
        FAMILY.reads(two, SamConfig())
