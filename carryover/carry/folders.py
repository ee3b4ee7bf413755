"""Owns what a folder that another library wrote is: which of its files are wanted, and which family reads it.

    config.json   "model_type"       transformers: hf_text, clip, sam  model*.safetensors, else pytorch_model*.bin
                  "architecture"     timm: timm_image
    config.py     model = dict(...)  mmdet: mmdet_image                one *.pth

Needs no torch.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from carryover.ground.errors import WrongInput
from carryover.ground.storage import Store
from carryover.models import clip_source, sam_source
from carryover.models.mmdet_source import CONFIG as DETECTOR

CONFIG = "config.json"
# Of a folder that transformers or timm wrote; the others are other libraries' weights, and pictures.
TEXTS = (".json", ".txt", ".model", ".jinja", ".yaml")
_SAFE, _PICKLED = ("model.safetensors", "model-"), ("pytorch_model",)
_SHOWN = 8


def fetch(store: Store, names: Sequence[str], target: Path) -> list[str]:
    """Copy the configs, tokenizer and weights of a folder; pickled weights only where there are no others."""
    weights = [name for name in names if name.endswith(".safetensors") and name.startswith(_SAFE)]
    weights = weights or [name for name in names if name.endswith(".bin") and name.startswith(_PICKLED)]
    if _is_detector(names):
        weights = [name for name in names if name.endswith(".pth")]
        if len(weights) > 1:
            raise WrongInput(f"{store.uri}: has several weights ({', '.join(weights[:_SHOWN])}); name one of the files")
        weights.append(DETECTOR)
    wanted = [name for name in names if name.endswith(TEXTS)] + weights
    for name in wanted:
        store.download(name, target / name)
    return wanted


def has_weights(names: Sequence[str]) -> bool:
    """Tell whether there are weights among the files of a folder."""
    return any(name.endswith((".safetensors", ".bin", ".pth")) for name in names)


def is_described(names: Sequence[str]) -> bool:
    """Tell whether a folder says what model it holds."""
    return CONFIG in names or _is_detector(names)


def _is_detector(names: Sequence[str]) -> bool:
    return DETECTOR in names and CONFIG not in names


def family_of_folder(folder: Path, where: str) -> str:
    """Return the family that reads a folder with such a config."""
    if not (folder / CONFIG).is_file():
        return "mmdet_image"
    try:
        config = json.loads((folder / CONFIG).read_text())
        kind = config.get("model_type")
    except (ValueError, AttributeError) as error:
        raise WrongInput(f"{where}/{CONFIG}: is no config of a model: {error}") from error
    if isinstance(config.get("architecture"), str):
        return "timm_image"
    if not kind:
        raise WrongInput(f"{where}/{CONFIG}: names neither a model_type (transformers) nor an architecture (timm)")
    if kind == sam_source.KIND:
        return "sam"
    return "clip" if kind in clip_source.KINDS else "hf_text"
