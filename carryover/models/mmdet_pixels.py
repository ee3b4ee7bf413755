"""Owns how a picture and its boxes become what a detector reads: turned, cut, fitted into the canvas, filled up.

    bytes --decode--> BGR picture --train_transforms(key)--> --fit--> uint8 [3, h, w]
    boxes [m, 6] ------------ the same turns, cuts and scale --------> truth [m, 6]
    a batch: pixels uint8 [B, 3, H, W], size, shape int64 [B, 2], scale float32 [B, 2], truth float32 [B, M, 6]

Pictures are decoded and resized by OpenCV, with the rules of mmcv: what mmdet sees of a file is what is trained on.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carryover.data.boxes import WIDTH
from carryover.ground.config import check, nearest
from carryover.ground.errors import WrongInput
from carryover.models import pixels
from carryover.models.mmdet_config import Canvas

# (picture [H, W, 3], boxes [m, 6], random numbers, arguments) -> the same, changed
Turn = Callable[..., tuple[np.ndarray, np.ndarray]]
NO_CLASS = -1.0
# A box that is thinner than this, in pixels of the canvas, is nothing that could be found.
_THINNEST = 1.0


@dataclass(frozen=True)
class Fitted:
    """One picture as a detector reads it.

    Attributes:
        pixels: uint8 [3, h, w], blue first.
        size: height and width of the stored picture.
        shape: h and w.
        scale: of width and height.
        truth: float32 [m, 6]: x1, y1, x2, y2 in pixels of `pixels`, class index, crowd.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    shape: tuple[int, int]
    scale: tuple[float, float]
    truth: np.ndarray


def check_transforms(texts: Sequence[str], path: str) -> None:
    """Raise WrongInput that names the key `path` unless every text names a transform with arguments it takes."""
    for text in texts:
        name, arguments = parsed(text, path)
        try:
            TURNS[name](np.zeros((8, 8, 3), np.uint8), np.zeros((0, WIDTH), np.float32), _random(0), *arguments)
        except (TypeError, ValueError) as error:
            raise WrongInput(f"{path}: '{text}': {' '.join(str(error).split())[:200]}") from None


def parsed(text: str, path: str) -> tuple[str, tuple[float, ...]]:
    """Return a transform's name and arguments: "name" or "name(0.5, 1)"."""
    name, bracket, rest = text.partition("(")
    if name not in TURNS:
        near = nearest(name, TURNS)
        meant = f"; did you mean '{near}'?" if near else "."
        raise WrongInput(f"{path}: '{name}' is no transform of pictures with boxes{meant} Known: {', '.join(TURNS)}")
    try:
        found = ast.literal_eval(f"({rest.removesuffix(')')},)") if bracket and rest != ")" else ()
        check(not bracket or rest.endswith(")"), path, text, "name(number, ...)")
        return name, tuple(float(number) for number in found)
    except (SyntaxError, ValueError, TypeError):
        raise WrongInput(f"{path}: '{text}': its arguments must be numbers, as in 'random_crop(0.5)'") from None


def decoded(data: bytes) -> np.ndarray | None:
    """Return the picture in some bytes, upright, uint8 [H, W, 3] with blue first; None where it can't be decoded."""
    cv2 = _cv2()
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if found is not None:
        return found
    # OpenCV knows fewer formats.
    image = pixels.decode(data)
    return None if image is None else np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def turned(
    picture: np.ndarray, boxes: np.ndarray, transforms: Sequence[str], *, key: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture and its boxes after the named transforms; all randomness comes from `key`."""
    random = _random(key)
    for text in transforms:
        name, arguments = parsed(text, "train_transforms")
        picture, boxes = TURNS[name](picture, boxes, random, *arguments)
    return picture, boxes


def fit(picture: np.ndarray, boxes: np.ndarray, canvas: Canvas) -> Fitted:
    """Return a picture and its boxes on a canvas, as mmdet's Resize and Pad put them there."""
    cv2 = _cv2()
    height, width = picture.shape[:2]
    new = _fitting(width, height, canvas)
    resized = cv2.resize(picture, new, interpolation=cv2.INTER_LINEAR)
    scale = new[0] / width, new[1] / height
    down, right = _padded(new, canvas)
    if (down, right) != resized.shape[:2]:
        resized = cv2.copyMakeBorder(
            resized, 0, down - new[1], 0, right - new[0], cv2.BORDER_CONSTANT, value=canvas.pad_value
        )
    truth = boxes.copy()
    truth[:, 0:4:2] *= scale[0]
    truth[:, 1:4:2] *= scale[1]
    truth = _inside(truth, new[0], new[1], thinnest=_THINNEST)
    shape = resized.shape[0], resized.shape[1]
    return Fitted(resized.transpose(2, 0, 1), (height, width), shape, scale, truth)


def nothing(canvas: Canvas) -> Fitted:
    """Return what stands for a picture that can't be read: black, without boxes."""
    width, height = canvas.scale
    return fit(np.zeros((height, width, 3), np.uint8), np.zeros((0, WIDTH), np.float32), canvas)


def batch(found: Sequence[Fitted], *, training: bool) -> dict[str, np.ndarray]:
    """Return the arrays of a batch; smaller pictures stand in the left upper corner."""
    high, wide = (max(one.shape[side] for one in found) for side in (0, 1))
    arrays = {
        "pixels": np.zeros((len(found), 3, high, wide), np.uint8),
        "size": np.array([one.size for one in found], np.int64),
        "shape": np.array([one.shape for one in found], np.int64),
        "scale": np.array([one.scale for one in found], np.float32),
    }
    for place, one in enumerate(found):
        arrays["pixels"][place, :, : one.shape[0], : one.shape[1]] = one.pixels
    if training:
        most = max(1, *(len(one.truth) for one in found))
        arrays["truth"] = np.full((len(found), most, WIDTH), NO_CLASS, np.float32)
        for place, one in enumerate(found):
            arrays["truth"][place, : len(one.truth)] = one.truth
    return arrays


def _fitting(width: int, height: int, canvas: Canvas) -> tuple[int, int]:
    """Return the new width and height."""
    if not canvas.keep_ratio:
        return canvas.scale
    long, short = max(canvas.scale), min(canvas.scale)
    factor = min(long / max(width, height), short / min(width, height))
    return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))


def _padded(size: tuple[int, int], canvas: Canvas) -> tuple[int, int]:
    """Return height and width after padding."""
    width, height = size
    if canvas.pad == "square":
        width = height = max(width, height)
    elif canvas.pad == "size":
        width, height = max(width, canvas.pad_size[0]), max(height, canvas.pad_size[1])
    each = canvas.pad_divisor
    return (-(-height // each) * each, -(-width // each) * each) if each else (height, width)


def _inside(boxes: np.ndarray, width: int, height: int, *, thinnest: float) -> np.ndarray:
    """Return boxes cut to a picture, without those of which nothing is left."""
    cut = boxes.copy()
    cut[:, 0:4:2] = cut[:, 0:4:2].clip(0, width)
    cut[:, 1:4:2] = cut[:, 1:4:2].clip(0, height)
    return cut[((cut[:, 2] - cut[:, 0]) >= thinnest) & ((cut[:, 3] - cut[:, 1]) >= thinnest)]


def _share(value: float, what: str) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"{what} must be above 0 and at most 1")
    return value


def _flip(picture: np.ndarray, boxes: np.ndarray, random: Any, p: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left and right."""
    if random.random() >= _share(p, "a probability"):
        return picture, boxes
    flipped = boxes.copy()
    flipped[:, 0], flipped[:, 2] = picture.shape[1] - boxes[:, 2], picture.shape[1] - boxes[:, 0]
    return np.ascontiguousarray(picture[:, ::-1]), flipped


def _crop(picture: np.ndarray, boxes: np.ndarray, random: Any, least: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Cut out a part whose sides are `least` or more of the picture's; boxes whose middle is outside are gone."""
    height, width = picture.shape[:2]
    least = _share(least, "the least share of a side")
    high, wide = (max(1, round(side * random.uniform(least, 1))) for side in (height, width))
    top, left = int(random.integers(0, height - high + 1)), int(random.integers(0, width - wide + 1))
    moved = boxes - np.array([left, top, left, top, 0, 0], boxes.dtype)
    middle = (moved[:, 0] + moved[:, 2]) / 2, (moved[:, 1] + moved[:, 3]) / 2
    seen = (middle[0] >= 0) & (middle[0] < wide) & (middle[1] >= 0) & (middle[1] < high)
    part = np.ascontiguousarray(picture[top : top + high, left : left + wide])
    return part, _inside(moved[seen], wide, high, thinnest=0.0)


def _zoom_out(picture: np.ndarray, boxes: np.ndarray, random: Any, most: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Put the picture somewhere on a gray one that is up to `most` times as wide and high."""
    if not 1 <= most <= 8:
        raise ValueError("a picture can be put on one from 1 to 8 times as wide")
    height, width = picture.shape[:2]
    times = random.uniform(1, most)
    high, wide = round(height * times), round(width * times)
    top, left = int(random.integers(0, high - height + 1)), int(random.integers(0, wide - width + 1))
    whole = np.full((high, wide, 3), 114, np.uint8)
    whole[top : top + height, left : left + width] = picture
    return whole, boxes + np.array([left, top, left, top, 0, 0], boxes.dtype)


def _color(
    picture: np.ndarray,
    boxes: np.ndarray,
    random: Any,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
) -> tuple[np.ndarray, np.ndarray]:
    """Change brightness, contrast and saturation by up to these shares."""
    for value in (brightness, contrast, saturation):
        if not 0 <= value <= 1:
            raise ValueError("shares must be from 0 to 1")
    changed = picture.astype(np.float32) * np.float32(random.uniform(1 - brightness, 1 + brightness))
    mean = changed.mean()
    changed = mean + (changed - mean) * np.float32(random.uniform(1 - contrast, 1 + contrast))
    gray = changed @ np.array([0.114, 0.587, 0.299], np.float32)
    changed = gray[..., None] + (changed - gray[..., None]) * np.float32(random.uniform(1 - saturation, 1 + saturation))
    return changed.round().clip(0, 255).astype(np.uint8), boxes


TURNS: Mapping[str, Turn] = {
    "color_jitter": _color,
    "random_crop": _crop,
    "random_horizontal_flip": _flip,
    "random_zoom_out": _zoom_out,
}


def _random(key: int) -> Any:
    return np.random.default_rng(key)


def _cv2() -> Any:
    import cv2

    # Loader processes are the threads.
    cv2.setNumThreads(1)
    return cv2
