"""Images become pixels as a pure function of bytes and key; every name of a transform works or is one clear error."""

import io
import pickle
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from carryover.data import loader
from carryover.data.images import NotUsable
from carryover.data.rows import Rows
from carryover.ground.errors import WrongInput
from carryover.models import image_transforms
from carryover.models.pixels import NORMS, Pixels, decode, pixels_from_json

MEAN, STD = NORMS["imagenet"]


def jpeg(seed: int, size: tuple[int, int] = (40, 32), kind: str = "JPEG", **how) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(noise).resize(size).save(sink, kind, **how)
    return sink.getvalue()


def made(**settings) -> Pixels:
    return Pixels(**{"columns": ("photo",), "size": 16, "mean": MEAN, "std": STD, **settings})


def rows(*values) -> pa.Table:
    return pa.table({"photo": pa.array(list(values), pa.list_(pa.binary()))})


BROKEN = jpeg(1)[:300]
V2 = "torchvision.transforms.v2"
ALL = (*image_transforms.NAMES, f"{V2}:RandomRotation(30)", f"{V2}:RandomInvert(p=0.5)")


def test_what_is_read_from_bytes() -> None:
    photo = jpeg(0, kind="PNG")
    assert np.array_equal(np.asarray(decode(photo)), np.asarray(Image.open(io.BytesIO(photo))))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = jpeg(0, exif=exif.tobytes())
    assert decode(turned).size == (32, 40)
    sink = io.BytesIO()
    Image.new("LA", (9, 9)).save(sink, "PNG")
    assert decode(sink.getvalue()).mode == "RGB"
    assert [decode(data) for data in (b"", b"no image", BROKEN, jpeg(0)[:-40])] == [None] * 4


def test_readable_images_come_first_and_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    photos = [jpeg(seed, (16, 16), "PNG") for seed in range(3)]
    table = rows([photos[0]], [None, photos[1], photos[2]], [b"broken", photos[2]], None, [None], [])
    arrays = made(most=2)(table, training=False, keys=np.arange(6, dtype=np.uint64))
    assert arrays["count"].tolist() == [1, 2, 1, 0, 0, 0]
    assert (arrays["pixels"].shape, arrays["pixels"].dtype) == ((6, 2, 3, 16, 16), np.uint8)
    exact = [np.asarray(decode(photo)).transpose(2, 0, 1) for photo in photos]
    for row, place, image in ((0, 0, 0), (1, 0, 1), (1, 1, 2), (2, 0, 2)):
        assert np.array_equal(arrays["pixels"][row, place], exact[image])
    assert not arrays["pixels"][0, 1].any()
    assert not arrays["pixels"][3:].any()
    assert "column 'photo': an image cannot be decoded" in capsys.readouterr().err
    two = pa.table({"photo": [photos[0], None], "back": [photos[1], photos[2]]})
    arrays = made(columns=("photo", "back"))(two, training=False, keys=np.zeros(2, dtype=np.uint64))
    assert arrays["count"].tolist() == [2, 1]
    assert np.array_equal(arrays["pixels"][1, 0], exact[2])


@pytest.mark.parametrize("name", ALL)
def test_a_transform_is_a_function_of_the_key_alone(name: str) -> None:
    photo = decode(jpeg(3))
    pixels = made(train=("resize_to_square", "center_crop", name))
    drawn = [pixels.transformed(photo, training=True, key=key) for key in range(24)]
    assert torch.rand(3).sum() + np.random.rand() + random.random() > 0
    again = pickle.loads(pickle.dumps(pixels))
    assert all(np.array_equal(again.transformed(photo, training=True, key=key), drawn[key]) for key in range(24))
    kinds = {image.tobytes() for image in drawn}
    assert (len(kinds) > 1) == (name not in ("center_crop", "resize_shorter_side", "resize_to_square"))
    before = torch.get_rng_state()
    pixels.transformed(photo, training=True, key=9)
    assert torch.equal(torch.get_rng_state(), before)


def test_trivial_augment_draws_every_operation_and_both_directions() -> None:
    photo = decode(jpeg(3, (16, 16)))
    pixels = made(train=("trivial_augment",))
    kinds = {pixels.transformed(photo, training=True, key=key).tobytes() for key in range(400)}
    assert len(kinds) > 100
    for operation in image_transforms._OPERATIONS:
        for strength in (0.0, 0.5, 1.0):
            changed = operation(image_transforms._v2().functional, photo, strength, 1)
            assert (changed.size, changed.mode) == ((16, 16), "RGB")
            assert np.asarray(changed).any()


def test_arguments_reach_the_transform() -> None:
    photo = decode(jpeg(3, (16, 16)))
    for text in ("random_horizontal_flip(1.0)", "random_horizontal_flip(p=1)", 'random_horizontal_flip({"p": 1.0})'):
        flipped = made(train=(text,)).transformed(photo, training=True, key=0)
        assert np.array_equal(flipped, np.asarray(photo)[:, ::-1].transpose(2, 0, 1))
    still = made(train=("affine(0)", "color_jitter(0, 0, 0)", "random_vertical_flip(0)", "randaug(0)"))
    assert np.array_equal(still.transformed(photo, training=True, key=1), np.asarray(photo).transpose(2, 0, 1))
    own = made(train=("PIL.ImageOps:mirror",)).transformed(photo, training=True, key=0)
    assert np.array_equal(own, np.asarray(photo)[:, ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trivial_agment", "did you mean 'trivial_augment'"),
        ("affine(print())", "must be plain values"),
        ("affine(1", "must be plain values"),
        ("center_crop(9)", "takes 1 positional argument"),
        ("affine(-3)", "train_transforms"),
        ("os:system('true')", "must be a class of transforms"),
        ("builtins:dict", "must be a class of transforms"),
        ("no.such:Thing", "can't be imported"),
        ("torchvision.transforms.v2:Nothing", "can't be imported"),
        ("torchvision.transforms.v2:Grayscale", "they give 16x16 of uint8; the model reads RGB"),
        ("torchvision.transforms.v2:CenterCrop(12)", "they give 12x12x3"),
    ],
)
def test_a_transform_that_does_not_work_is_said(text: str, words: str) -> None:
    with pytest.raises(WrongInput) as caught:
        made(train=("resize_to_square", text)).check()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    made(train=("resize_to_square",)).check()


def test_its_file_gives_it_again() -> None:
    pixels = made(train=("resize_to_square", "affine(3)"), most=4, skip=True, columns=("a", "b"))
    assert pixels_from_json(pixels.to_json()) == pixels


class _Split:
    """Ten rows whose photo is broken in rows 3, 4 and 9."""

    def __init__(self, broken: tuple[int, ...]) -> None:
        good = jpeg(5, (16, 16))
        self.table = rows(*([None if row in broken else good] for row in range(10)))

    def __len__(self) -> int:
        return 10

    def take(self, indices: np.ndarray) -> pa.Table:
        return self.table.take(pa.array(indices))


def test_skip_puts_the_next_row_in_the_place_of_one_without_its_image() -> None:
    def batches(broken: tuple[int, ...], *, training: bool) -> loader.MicroBatches:
        split: Rows = _Split(broken)  # type: ignore[assignment]
        return loader.MicroBatches(split, made(skip=True), lambda table: np.zeros(len(table)), training=training)

    micro = loader.Micro(0, 0, 10, 0, 10, True, True, 0)
    whole = batches((), training=True)[micro].rows
    cut = batches((3, 4, 9), training=True)[micro]
    assert cut.rows.tolist() == [{3: 5, 4: 5, 9: 0}.get(row, row) for row in whole.tolist()]
    assert cut.features["count"].tolist() == [1] * 10
    # A prediction is of its own row.
    held_out = batches((3, 4, 9), training=False)[micro]
    assert held_out.rows.tolist() == list(range(10))
    assert held_out.features["count"].tolist() == [row not in (3, 4, 9) for row in range(10)]
    with pytest.raises(WrongInput, match="50 rows one after the other cannot be used: an image of photo"):
        batches(tuple(range(10)), training=True)[micro]
    with pytest.raises(NotUsable):
        made(skip=True)(rows([None]), training=True, keys=np.zeros(1, dtype=np.uint64))


def test_only_datasets_with_bytes_are_read(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="run prepare-data again"):
        made()(pa.table({"photo": ["a.jpg"]}), training=False, keys=np.zeros(1, dtype=np.uint64))
