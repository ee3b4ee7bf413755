"""Owns what a bare state dict may be weights of: names of checkpoints whose names and shapes fit it. Imports torch.

    this machine's hub cache    configs of transformers, built without memory
    timm's architectures        of the kinds that its names speak of, for a few seconds

A hint for an error, never a choice: which checkpoint it is, a person says. No hub is asked: an error has to be quick.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from carryover.carry.match import Shapes, find_pairs, match
from carryover.ground.errors import WrongInput
from carryover.models import hf_source, timm_source

# This share of a candidate's tensors has to be there.
_LEAST = 0.9
_MOST, _SECONDS = 5, 15.0
# A name that only one kind of architecture has -> how timm calls those.
_MARKS: Mapping[str, tuple[str, ...]] = {
    "attn.qkv.weight": ("vit_*", "deit*", "eva*", "swin*", "beit*"),
    "attn.q_proj.weight": ("eva*", "beit*"),
    "layer1.0.conv1.weight": ("resnet*", "resnext*", "wide_resnet*", "seresnet*", "test_resnet*"),
    "conv_dw.weight": ("convnext*", "mobilenet*", "efficientnet*", "tf_efficientnet*", "mnasnet*"),
    "token_mixer": ("caformer*", "convformer*", "poolformer*"),
}
# Most frequent width -> the word that such transformers of images usually have in their names: looked at first.
_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}


def fitting(source: Shapes, families: Iterable[str]) -> list[str]:
    """Return up to five names that could be a `checkpoint_name`, those that fit best first.

    Args:
        families: of the branches that are left open.
    """
    finders = {"hf_text": _encoders, "timm_image": lambda: _images(source)}
    scores: dict[str, float] = {}
    for family in families:
        for name, shapes in finders[family]() if family in finders else ():
            scores[name] = agreement(source, shapes)
    best = sorted((name for name, score in scores.items() if score >= _LEAST), key=lambda name: (-scores[name], name))
    return best[:_MOST]


def agreement(source: Shapes, shapes: Shapes) -> float:
    """Return which share of a network's tensors a source has, by name and shape."""
    target = {f"x.{name}": shape for name, shape in shapes.items()}
    return len(match(source, target, find_pairs(source, target, ["x."])).loaded) / max(1, len(target))


def _encoders() -> Iterator[tuple[str, Shapes]]:
    for name, folder in _cached().items():
        shapes = _shapes(lambda folder=folder: hf_source.build_encoder(hf_source.open_config(folder), None))
        if shapes:
            yield name, shapes


def _cached() -> dict[str, str]:
    """Return the models in this machine's hub cache: name -> folder."""
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache
    from huggingface_hub.errors import CacheNotFound

    try:
        names = sorted(found.repo_id for found in scan_cache_dir().repos if found.repo_type == "model")
    except CacheNotFound:
        return {}
    configs = {name: try_to_load_from_cache(name, "config.json") for name in names}
    return {name: os.path.dirname(place) for name, place in configs.items() if isinstance(place, str)}


def _images(source: Shapes) -> Iterator[tuple[str, Shapes]]:
    import timm

    kinds = [kind for mark, kinds in _MARKS.items() if any(mark in name for name in source) for kind in kinds]
    started = time.monotonic()
    widths = Counter(shape[0] for shape in source.values() if len(shape) == 1)
    word = _SIZES.get(widths.most_common(1)[0][0] if widths else 0, "")
    names = dict.fromkeys(name for kind in kinds for name in timm.list_models(kind))
    for name in sorted(names, key=lambda name: word not in name):
        if time.monotonic() - started > _SECONDS:
            return
        shapes = _shapes(lambda name=name: timm_source.build_encoder(timm_source.ImageModel(name, {}, {}), None))
        if shapes:
            yield name, shapes


def _shapes(build: Callable[[], object]) -> Shapes:
    """Return the shapes of a module that is built without memory; none where it can't be."""
    import torch

    try:
        with torch.device("meta"):
            module = build()
    except WrongInput:
        return {}
    assert isinstance(module, torch.nn.Module)
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}
