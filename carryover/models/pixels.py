"""Owns how image columns of a row become pixels: decoding, and the transforms that a recipe names.

    bytes --decode--> RGB image --transforms(key)--> uint8 [3, S, S]
    a row's images, column after column, the readable ones first --> uint8 [B, M, 3, S, S], count [B]

M is the most images that a row of the batch has. Pixels stay bytes until they are on the accelerator: that is a quarter
of what goes through loader processes. The network then takes off `mean` and `std` (image_layers.py).
"""

import io
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from carryover.data.images import NotUsable
from carryover.data.order import mix
from carryover.ground.config import check
from carryover.ground.console import warn
from carryover.ground.errors import WrongInput
from carryover.models import columns, image_transforms

# Types of the columns that hold images.
IMAGES = ("image_path", "image_bytes")
TRANSFORMS = "AutoMM's names with arguments, or module:Class(...)"
TRAIN = ("resize_shorter_side", "center_crop", "trivial_augment")
VALIDATION = ("resize_shorter_side", "center_crop")
# Mean and standard deviation of red, green and blue, of values from 0 to 1.
NORMS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def check_transforms(texts: Sequence[str], path: str) -> None:
    """Raise WrongInput that names the key `path` unless every text names a transform; nothing is imported."""
    for text in texts:
        try:
            image_transforms.parse(text)
        except WrongInput as error:
            raise WrongInput(f"{path}: {error}") from None


def check_image_keys(config: Any) -> None:
    """Check the keys that every family of images has; raises WrongInput."""
    check_transforms(config.train_transforms, "train_transforms")
    check_transforms(config.val_transforms, "val_transforms")
    size, norm, most = config.image_size, config.image_norm, config.max_image_num_per_column
    check(size is None or size > 0, "image_size", size, "a positive number")
    check(norm is None or norm in NORMS, "image_norm", norm, f"one of {', '.join(NORMS)}, None")
    check(most >= 1, "max_image_num_per_column", most, "1 or more")


@dataclass(frozen=True)
class Pixels:
    """Gives "pixels" uint8[B, M, 3, S, S] and "count" int64[B]: the first `count` of a row's M images are readable.

    The others are black. A row without any has count 0.

    Attributes:
        columns: names of the image columns: bytes, or lists of bytes.
        size: S.
        mean, std: three numbers each, of values from 0 to 1; applied by the network and not here.
        train, validation: names of transforms, see image_transforms.py.
        most: images a column gives at most; the first ones that can be read.
        skip: in training, raise NotUsable for rows with an image that is missing or cannot be read.
        section: recipe section, for messages ("model.timm_image").
    """

    columns: tuple[str, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: tuple[str, ...] = TRAIN
    validation: tuple[str, ...] = VALIDATION
    most: int = 1
    skip: bool = False
    section: str = "model.timm_image"

    @cached_property
    def _transforms(self) -> dict[bool, list[image_transforms.Transform]]:
        """Return training -> transforms, whose making also tells whether they can be made."""
        made: dict[bool, list[image_transforms.Transform]] = {}
        for training, texts in ((True, self.train), (False, self.validation)):
            try:
                made[training] = [image_transforms.build(text, size=self.size) for text in texts]
            except WrongInput as error:
                raise WrongInput(f"{self._key(training)}: {error}") from error
        return made

    def check(self) -> None:
        """Try the transforms on one image.

        Raises:
            WrongInput: when one cannot be made, or the result is not an image of the size that the model reads.
        """
        from PIL import Image

        for training in (True, False):
            self.transformed(Image.new("RGB", (self.size + 7, self.size + 13)), training=training, key=0)

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        columns.require(rows, self.columns)
        stored = [images_of(rows, name) for name in self.columns]
        images: list[list[np.ndarray]] = []
        unusable: list[int] = []
        for row, key in enumerate(keys.tolist()):
            found, whole = self._row([values[row] for values in stored], training=training, key=key)
            images.append(found)
            if not whole:
                unusable.append(row)
        if unusable and training and self.skip:
            raise NotUsable(unusable, f"an image of {' or '.join(self.columns)} is missing or cannot be read")
        most = max([1, *map(len, images)])
        pixels = np.zeros((len(images), most, 3, self.size, self.size), dtype=np.uint8)
        for row, found in enumerate(images):
            for place, image in enumerate(found):
                pixels[row, place] = image
        return {"pixels": pixels, "count": np.array([len(found) for found in images], dtype=np.int64)}

    def _row(
        self, stored: Sequence[Sequence[bytes | None]], *, training: bool, key: int
    ) -> tuple[list[np.ndarray], bool]:
        """Return a row's readable images, and whether no column lacked any."""
        found: list[np.ndarray] = []
        whole = True
        for column, values in enumerate(stored):
            taken = 0
            for place, data in enumerate(values):
                if taken == self.most:
                    break
                image = None if data is None else decode(data)
                if image is None:
                    whole = False
                    if data is not None:
                        self._say_unreadable(self.columns[column])
                    continue
                own = int(mix(np.uint64(key), column, place))  # pyright: ignore[reportArgumentType]
                found.append(self.transformed(image, training=training, key=own))
                taken += 1
            whole = whole and taken > 0
        return found, whole

    def transformed(self, image: Any, *, training: bool, key: int) -> np.ndarray:
        """Return an RGB image as uint8[3, S, S]; all randomness comes from `key`.

        Raises:
            WrongInput: when the transforms do not give an image of 8 bits and S x S pixels.
        """
        with seeded(key):
            for transform in self._transforms[training]:
                image = transform(image)
        array = np.asarray(image)
        if array.dtype == np.uint8 and array.shape == (self.size, self.size, 3):
            return array.transpose(2, 0, 1)
        if array.dtype == np.uint8 and array.shape == (3, self.size, self.size):
            return array
        shape = "x".join(map(str, array.shape))
        raise WrongInput(
            f"{self._key(training)}: they give {shape} of {array.dtype}; the model reads RGB images of 8 bits and "
            f"{self.size}x{self.size} pixels (center_crop and resize_to_square give that size)"
        )

    def _key(self, training: bool) -> str:
        return f"{self.section}.{'train' if training else 'val'}_transforms"

    def _say_unreadable(self, column: str) -> None:
        if column not in _SAID:
            _SAID.add(column)
            warn(f"column '{column}': an image cannot be decoded; such images count as missing")

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON; `pixels_from_json` gives it back."""
        return asdict(self)


# Each process says it once a column.
_SAID: set[str] = set()


def pixels_from_json(value: Mapping[str, Any]) -> Pixels:
    """Return the Pixels that `to_json` described."""
    plain: dict[str, Any] = {name: tuple(part) if isinstance(part, list) else part for name, part in value.items()}
    return Pixels(**plain)


def decode(data: bytes) -> Any:
    """Return the image in some bytes as an upright RGB image of PIL, None where it cannot be decoded."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as image:
            # Phones store how they were held; people and other readers see the image upright.
            return ImageOps.exif_transpose(image).convert("RGB")
    except MemoryError:
        raise
    except Exception:
        # Broken bytes make PIL's decoders raise whatever there is (SyntaxError, struct.error, ...); all mean the same.
        return None


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Seed the global random numbers of torch, numpy and Python inside the block, and put them back after it."""
    import torch

    generator = torch.default_generator
    before = generator.get_state(), np.random.get_state(), random.getstate()
    try:
        generator.manual_seed(key >> 1)
        np.random.seed(key & 0xFFFFFFFF)
        random.seed(key)
        yield
    finally:
        generator.set_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def images_of(rows: pa.Table, name: str) -> list[list[bytes | None]]:
    """Return each row's images of one column, in order; None for one that could not be read when it was stored."""
    column = rows.column(name)
    kind = column.type
    if pa.types.is_null(kind):
        return [[] for _ in range(len(column))]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [[] if value is None else [value] for value in column.to_pylist()]
    if pa.types.is_list(kind) and pa.types.is_binary(kind.value_type):
        return [value or [] for value in column.to_pylist()]
    raise WrongInput(
        f"column '{name}': {kind} is no image; datasets hold images as bytes, so run prepare-data again",
        trouble="does-not-fit-model",
    )
