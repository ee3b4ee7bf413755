"""Owns how a picture and its mask become what SAM reads and learns by: both are turned alike, then stretched.

    picture, ids  --train_transforms(key)--> picture --img_transforms--> uint8 [3, S, S]
                     (training only)         ids     --gt_transforms---> int16 [S, S] class indices, -1 ignored

A picture is stretched onto the square whole, whatever its shape: what the network says of the square is brought back to
the picture's own size by stretching alone (tasks/segmentation.py).
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from carryover.data.images import TRUTH, NotUsable
from carryover.ground.errors import WrongInput
from carryover.models import columns, image_transforms, pixels

TRAIN = ("random_horizontal_flip",)
IMAGE = ("resize_to_square",)
MASK = ("resize_gt_to_square",)
IGNORED = 255
# Of AutoMM's names: what turns a picture, and what only changes its colours. The rest acts on a picture alone.
ALIKE = (
    *("affine", "center_crop", "color_jitter", "random_horizontal_flip", "random_resize_crop"),
    *("random_vertical_flip", "resize_shorter_side", "resize_to_square"),
)
# In a mask on its way through transforms: what they fill with lies outside of the picture, so it is ignored.
_OUTSIDE, _UNKNOWN = 0, 255
_SECTION = "model.sam"


def check_transforms(texts: Sequence[str], names: Sequence[str], path: str) -> None:
    """Raise WrongInput that names the key `path` unless every text is of `names`, or "module:Class(...)"."""
    for text in texts:
        name = text.partition("(")[0].strip()
        if ":" in name:
            pixels.check_transforms([text], path)
        elif name not in names:
            raise WrongInput(
                f"{path}: '{name}' is not possible here; picture and mask must stay one above the other. Known: "
                f"{', '.join(names)}, and classes as 'module:Class(...)'"
            )
        elif name not in MASK and "fill" in image_transforms.parse(text).keywords:
            raise WrongInput(f"{path}: '{text}': what lies outside of the picture is black and ignored; leave out fill")


@dataclass(frozen=True)
class PicturesAndMasks:
    """Gives "pixels" uint8[B, 3, S, S] and, in training, "truth" int16[B, S, S].

    A row whose picture cannot be read is black.

    Attributes:
        image, label: names of the columns: bytes or lists of bytes, the first readable one counts; PNGs of ids.
        classes: the ids in the order of the classes.
        size: S.
        mean, std: three numbers each, of values from 0 to 1; applied by the network and not here.
        train, picture, mask: names of transforms.
        skip: in training, raise NotUsable for rows without a readable picture.
    """

    image: str
    label: str
    classes: tuple[int, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: tuple[str, ...] = TRAIN
    picture: tuple[str, ...] = IMAGE
    mask: tuple[str, ...] = MASK
    skip: bool = False

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        columns.require(rows, [self.image, *([self.label] if training else [])])
        found = [_first_readable(values) for values in pixels.images_of(rows, self.image)]
        if training and self.skip and (bad := [row for row, image in enumerate(found) if image is None]):
            raise NotUsable(bad, f"the picture of {self.image} is missing or cannot be read")
        if not training:
            return {"pixels": np.stack([self._picture(image) for image in found])}
        labels = rows.column(self.label).to_pylist()
        pairs = [self._pair(*triple) for triple in zip(found, labels, keys.tolist(), strict=True)]
        return {"pixels": np.stack([pair[0] for pair in pairs]), TRUTH: np.stack([pair[1] for pair in pairs])}

    def check(self) -> None:
        """Try the transforms on one picture; raises WrongInput when one can't be made or gives another size."""
        from PIL import Image

        sides = (self.size + 7, self.size + 13)
        self._square(*self._turned(Image.new("RGB", sides), np.ones(sides[::-1], np.uint8), 0))

    def _pair(self, image: Any, label: bytes | None, key: int) -> tuple[np.ndarray, np.ndarray]:
        from PIL import Image

        ids = self._ids(label)
        image = Image.new("RGB", ids.shape[::-1]) if image is None else image
        if image.size != ids.shape[::-1]:
            seen, marked = ("x".join(map(str, size)) for size in (image.size, ids.shape[::-1]))
            raise WrongInput(
                f"label '{self.label}': a picture of {seen} pixels has a mask of {marked}; both must be of one size",
                trouble="wrong-label",
            )
        picture, mask = self._square(*self._turned(image, ids, key))
        return picture, mask.astype(np.int16) - 1

    def _turned(self, image: Any, ids: np.ndarray, key: int) -> tuple[Any, Any]:
        """Return picture and mask after the transforms that training has for both."""
        import torch
        from torchvision import tv_tensors

        mask: Any = tv_tensors.Mask(torch.from_numpy(ids))
        with pixels.seeded(key):
            for text, transform in self._made["train"]:
                image, mask = _both(text, transform, image, mask)
        return image, mask

    def _square(self, image: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
        for text, transform in self._made["mask"]:
            mask = _one(f"{_SECTION}.gt_transforms", text, transform, mask)
        found = np.asarray(mask)
        if found.dtype != np.uint8 or found.shape != (self.size, self.size):
            raise WrongInput(_words("gt_transforms", found, f"ids of 8 bits and {self.size}x{self.size} pixels"))
        return self._picture(image), found

    def _picture(self, image: Any) -> np.ndarray:
        if image is None:
            return np.zeros((3, self.size, self.size), np.uint8)
        for text, transform in self._made["picture"]:
            image = _one(f"{_SECTION}.img_transforms", text, transform, image)
        found = np.asarray(image)
        if found.dtype != np.uint8 or found.shape != (self.size, self.size, 3):
            raise WrongInput(_words("img_transforms", found, f"RGB of 8 bits and {self.size}x{self.size} pixels"))
        return found.transpose(2, 0, 1)

    def _ids(self, label: bytes | None) -> np.ndarray:
        """Return a stored mask as uint8[H, W]: class index + 1, `_OUTSIDE` where it is ignored."""
        from PIL import Image

        if label is None:
            raise WrongInput(f"label '{self.label}': a row has no mask", trouble="wrong-label")
        with Image.open(io.BytesIO(label)) as image:
            ids = np.asarray(image)
        found = self._table[ids]
        if (found == _UNKNOWN).any():
            unknown, known = int(ids[found == _UNKNOWN][0]), ", ".join(map(str, self.classes[:20]))
            raise WrongInput(
                f"label '{self.label}': id {unknown} is no class of the model; classes are {known}",
                trouble="unknown-class",
            )
        return found

    @cached_property
    def _table(self) -> np.ndarray:
        table = np.full(256, _UNKNOWN, np.uint8)
        table[list(self.classes)] = np.arange(1, len(self.classes) + 1)
        table[IGNORED] = _OUTSIDE
        return table

    @cached_property
    def _made(self) -> dict[str, list[tuple[str, Any]]]:
        keys = {"train": "train_transforms", "picture": "img_transforms", "mask": "gt_transforms"}
        made: dict[str, list[tuple[str, Any]]] = {}
        for name, key in keys.items():
            try:
                made[name] = [(text, _build(text, self.size)) for text in getattr(self, name)]
            except WrongInput as error:
                raise WrongInput(f"{_SECTION}.{key}: {error}") from error
        return made

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON; `from_json` gives it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PicturesAndMasks":
        plain: dict[str, Any] = {name: tuple(part) if isinstance(part, list) else part for name, part in value.items()}
        return cls(**plain)


def _build(text: str, size: int) -> Any:
    if text in MASK:
        # (v2 takes the nearest pixel for a mask, whatever it is told for pictures.)
        return image_transforms.build("resize_to_square", size=size)
    return image_transforms.build(text, size=size)


def _both(text: str, transform: Any, image: Any, mask: Any) -> tuple[Any, Any]:
    try:
        image, mask = transform(image, mask)
    except (TypeError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise WrongInput(
            f"{_SECTION}.train_transforms: '{text}' can't turn a picture and its mask alike (those of v2 can): {line}"
        ) from error
    return image, mask


def _one(key: str, text: str, transform: Any, value: Any) -> Any:
    try:
        return transform(value)
    except (TypeError, ValueError) as error:
        raise WrongInput(f"{key}: '{text}': {' '.join(str(error).split())[:200]}") from error


def _words(key: str, found: np.ndarray, want: str) -> str:
    return f"{_SECTION}.{key}: they give {'x'.join(map(str, found.shape))} of {found.dtype}; the model reads {want}"


def _first_readable(values: Sequence[bytes | None]) -> Any:
    images = (pixels.decode(value) for value in values if value is not None)
    return next((image for image in images if image is not None), None)
