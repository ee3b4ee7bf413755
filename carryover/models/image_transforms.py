"""Owns the image transforms that a recipe names, each a function of an image and of PyTorch's global random numbers.

    name    name(1, 2)    name({"key": value})        AutoMM's names, with its defaults
    module:Name    module:Name(...)                   a class of torchvision's v2 transforms, or one like them
    module:name                                       a function that maps an image to an image

A Model of others names its transforms too, so a name must not be a way to run anything: what is called with arguments
has to be a torch module, and a function is only ever given an image.
"""

import ast
import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput

Transform = Callable[[Any], Any]
NAMES = (
    "affine",
    "center_crop",
    "color_jitter",
    "randaug",
    "random_horizontal_flip",
    "random_resize_crop",
    "random_vertical_flip",
    "resize_shorter_side",
    "resize_to_square",
    "trivial_augment",
)
STRENGTHS = 30


@dataclass(frozen=True)
class Named:
    """A transform as it was named: its name or module:attribute, and its arguments, plain values all."""

    name: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    called: bool


def parse(text: str) -> Named:
    """Return what a recipe's text names; nothing is imported.

    Raises:
        WrongInput: for a name that is not known, or arguments that are not plain values.
    """
    name, bracket, rest = text.partition("(")
    name = name.strip()
    if ":" not in name and name not in NAMES:
        near = nearest(name, NAMES)
        meant = f"; did you mean '{near}'?" if near else "."
        raise WrongInput(f"'{name}' is no transform{meant} Known: {', '.join(NAMES)}, and names as 'module:Class(...)'")
    if not bracket:
        return Named(name, (), {}, called=False)
    try:
        call = ast.parse(f"f({rest.strip()}", mode="eval").body
        assert isinstance(call, ast.Call)
        arguments = tuple(ast.literal_eval(argument) for argument in call.args)
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
        if len(call.keywords) > len(keywords):
            raise ValueError
    except (SyntaxError, ValueError, AssertionError):
        raise WrongInput(f"'{text}': its arguments must be plain values, as in 'name(1, 0.5)'") from None
    if len(arguments) == 1 and isinstance(arguments[0], dict):
        return Named(name, (), {str(key): value for key, value in arguments[0].items()}, called=True)
    return Named(name, arguments, keywords, called=True)


def build(text: str, *, size: int) -> Transform:
    """Return the transform that a text names.

    Args:
        size: side of the square that the model reads, in pixels.

    Raises:
        WrongInput: for what cannot be imported, is no transform, or does not take these arguments.
    """
    named = parse(text)
    try:
        if ":" in named.name:
            return _imported(named)
        return _OWN[named.name](size, *named.arguments, **named.keywords)
    except (TypeError, ValueError) as error:
        raise WrongInput(f"'{text}': {' '.join(str(error).split())[:200]}") from error


def _imported(named: Named) -> Transform:
    from torch import nn

    module, _, attribute = named.name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise WrongInput(f"'{named.name}': can't be imported: {error}") from error
    if inspect.isclass(found) and issubclass(found, nn.Module):
        return found(*named.arguments, **named.keywords)
    if named.called or inspect.isclass(found) or not callable(found):
        raise WrongInput(
            f"'{named.name}': must be a class of transforms (a torch.nn.Module, as torchvision's v2 are) or, without "
            "arguments, a function of an image"
        )
    return found


def _v2() -> Any:
    from torchvision.transforms import v2

    return v2


def _bicubic() -> Any:
    return _v2().InterpolationMode.BICUBIC


def _resize_shorter_side(size: int) -> Transform:
    return _v2().Resize(size, interpolation=_bicubic())


def _resize_to_square(size: int) -> Transform:
    return _v2().Resize((size, size), interpolation=_bicubic())


def _center_crop(size: int) -> Transform:
    return _v2().CenterCrop(size)


def _random_resize_crop(size: int, *arguments: Any, **keywords: Any) -> Transform:
    return _v2().RandomResizedCrop(size, *arguments, **{"interpolation": _bicubic(), **keywords})


def _random_horizontal_flip(size: int, p: float = 0.5) -> Transform:
    return _v2().RandomHorizontalFlip(p)


def _random_vertical_flip(size: int, p: float = 0.5) -> Transform:
    return _v2().RandomVerticalFlip(p)


def _color_jitter(size: int, *arguments: Any, **keywords: Any) -> Transform:
    if not arguments and not keywords:
        arguments = (0.1, 0.1, 0.1)
    return _v2().ColorJitter(*arguments, **keywords)


def _affine(size: int, *arguments: Any, **keywords: Any) -> Transform:
    if not arguments and not keywords:
        keywords = {"degrees": 15, "translate": (0.1, 0.1), "scale": (0.9, 1.1)}
    return _v2().RandomAffine(*arguments, **keywords)


def _randaug(size: int, *arguments: Any, **keywords: Any) -> Transform:
    return _v2().RandAugment(*(arguments or (() if keywords else (2, 9))), **keywords)


def _trivial_augment(size: int) -> Transform:
    return TrivialAugment()


_OWN: dict[str, Callable[..., Transform]] = {
    "affine": _affine,
    "center_crop": _center_crop,
    "color_jitter": _color_jitter,
    "randaug": _randaug,
    "random_horizontal_flip": _random_horizontal_flip,
    "random_resize_crop": _random_resize_crop,
    "random_vertical_flip": _random_vertical_flip,
    "resize_shorter_side": _resize_shorter_side,
    "resize_to_square": _resize_to_square,
    "trivial_augment": _trivial_augment,
}


class TrivialAugment:
    """One of fourteen operations at one of 31 strengths, all equally likely.

    S. Müller and F. Hutter, "TrivialAugment", ICCV 2021, with the ranges of its first space, which AutoMM has too;
    torchvision's TrivialAugmentWide has wider ones.
    """

    def __call__(self, image: Any) -> Any:
        import torch

        operation, strength, sign = (int(torch.randint(most, ())) for most in (len(_OPERATIONS), STRENGTHS + 1, 2))
        return _OPERATIONS[operation](_v2().functional, image, strength / STRENGTHS, 1 - 2 * sign)


def _moved(f: Any, image: Any, *, angle: float = 0, shift: tuple[int, int] = (0, 0), shear: tuple = (0, 0)) -> Any:
    bilinear = _v2().InterpolationMode.BILINEAR
    degrees = [math.degrees(math.atan(value)) for value in shear]
    return f.affine(image, angle=angle, translate=list(shift), scale=1.0, shear=degrees, interpolation=bilinear)


def _factor(strength: float) -> float:
    return 0.1 + 1.8 * strength


# (v2's functions, image, strength from 0 to 1, sign) -> image
_OPERATIONS: tuple[Callable[[Any, Any, float, int], Any], ...] = (
    lambda f, image, strength, sign: image,
    lambda f, image, strength, sign: f.autocontrast(image),
    lambda f, image, strength, sign: f.equalize(image),
    lambda f, image, strength, sign: _moved(f, image, angle=sign * 30 * strength),
    lambda f, image, strength, sign: f.solarize(image, threshold=255 * (1 - strength)),
    lambda f, image, strength, sign: f.adjust_saturation(image, _factor(strength)),
    # With no bit left the image would be black.
    lambda f, image, strength, sign: f.posterize(image, bits=max(1, 4 - int(4 * strength))),
    lambda f, image, strength, sign: f.adjust_contrast(image, _factor(strength)),
    lambda f, image, strength, sign: f.adjust_brightness(image, _factor(strength)),
    lambda f, image, strength, sign: f.adjust_sharpness(image, _factor(strength)),
    lambda f, image, strength, sign: _moved(f, image, shear=(sign * 0.3 * strength, 0)),
    lambda f, image, strength, sign: _moved(f, image, shear=(0, sign * 0.3 * strength)),
    lambda f, image, strength, sign: _moved(f, image, shift=(round(sign * 10 * strength), 0)),
    lambda f, image, strength, sign: _moved(f, image, shift=(0, round(sign * 10 * strength))),
)
