"""Owns what a SAM checkpoint is: its config with answers, its norm, and its model at another size of picture.

    config.json --open_config--> Config --sized(S)--> Config          positions [1, S/p, S/p, D] and, of layers that see
    weights     --build_model--> SamModel at Config's size            the whole picture, [2 S/p - 1, d]: interpolated

Torch-free; what needs transformers imports it when called (hf_source.py).
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carryover.ground.errors import WrongInput
from carryover.models import hf_source

KEY = "model.sam.checkpoint_name"
KIND = "sam"
_PARTS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
# Random weights of transformers' SAM are 1e-10 in the vision encoder: what only ever waits for weights can't learn.
_LEAST_SPREAD, _SPREAD = 1e-3, 0.02


@dataclass(frozen=True)
class Config:
    """A checkpoint's config.json, with answers.

    Attributes:
        plain: the config as a mapping that says nothing of where it came from.
    """

    plain: Mapping[str, Any]

    @property
    def image_size(self) -> int:
        """Return the side of the square that it reads, in pixels."""
        return int(self.plain["vision_config"]["image_size"])

    @property
    def patch(self) -> int:
        """Return the side of a patch, in pixels."""
        return int(self.plain["vision_config"]["patch_size"])

    def sized(self, size: int) -> "Config":
        """Return the config of the same model for squares of another size.

        Raises:
            WrongInput: for a size that is not made of whole patches.
        """
        if size % self.patch:
            near = max(self.patch, round(size / self.patch) * self.patch)
            raise WrongInput(
                f"model.sam.image_size: {size} is not made of patches of {self.patch} pixels; {near} is near",
                trouble="wrong-value",
            )
        plain = copy.deepcopy(dict(self.plain))
        for part in ("vision_config", "prompt_encoder_config"):
            plain[part]["image_size"] = size
        return Config(plain)


def check_source(name: str, *, pretrained: bool) -> None:
    """Check without torch that a checkpoint can be opened, as far as a look at a folder tells; raises WrongInput."""
    kind = hf_source.check_source(name, pretrained=pretrained, key=KEY, tokenizer=False)
    if kind:
        _check_kind(name, kind)


def open_config(name: str) -> Config:
    """Return what a checkpoint is, wherever it is.

    Raises:
        WrongInput: when it cannot be opened or is of another kind.
    """
    plain = copy.deepcopy(hf_source.open_config(name, key=KEY))
    _check_kind(name, plain["model_type"])
    for part in _PARTS:
        # (The last one follows from the sizes, and would outlive a change of them.)
        for place in ("_name_or_path", "transformers_version", "image_embedding_size"):
            plain[part].pop(place, None)
    if plain["vision_config"]["initializer_range"] < _LEAST_SPREAD:
        plain["vision_config"]["initializer_range"] = _SPREAD
    return Config(plain)


def _check_kind(name: str, kind: str) -> None:
    if kind != KIND:
        raise WrongInput(
            f"{KEY}: '{name}' is a '{kind}', and this family reads '{KIND}' (facebook/sam-vit-base, -large, -huge and "
            "what was trained from them)"
        )


def build_model(config: Config, source: str | None) -> Any:
    """Return transformers' SamModel in float32, for pictures of the config's size.

    Args:
        source: folder or hub name of the weights; None for random ones.

    Raises:
        WrongInput: when weights cannot be opened, or lack a part of the model.
    """
    if source is None:
        return hf_source.build_encoder(config.plain, None, key=KEY)
    there = open_config(source)
    model = hf_source.build_encoder(there.plain, source, key=KEY)
    return model if there.image_size == config.image_size else _resized(model, config)


def _resized(model: Any, config: Config) -> Any:
    """Return a model with the same weights, its tables of positions interpolated to the config's size."""
    import torch

    made = hf_source.build_encoder(config.plain, None, key=KEY)
    weights = model.state_dict()
    with torch.no_grad():
        for name, value in made.state_dict().items():
            value.copy_(_fitted(weights[name], value.shape))
    return made


def _fitted(value: Any, shape: Any) -> Any:
    """Return a weight, or a table of positions at another size: absolute [1, H, W, D], relative [L, d]."""
    from torch.nn.functional import interpolate

    if value.shape == shape:
        return value
    if value.dim() == 4:
        planes = interpolate(value.movedim(3, 1), size=tuple(shape[1:3]), mode="bicubic", align_corners=False)
        return planes.movedim(1, 3)
    return interpolate(value.T[None], size=shape[0], mode="linear", align_corners=False)[0].T
