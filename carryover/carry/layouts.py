"""Owns how the files of a Model become a folder that its family's library opens, all but weights. Needs no torch.

    preprocessors/hf_text/config.json, tokenizer/hf_text/tokenizer.json …   ->   config.json, tokenizer.json …

So a new task gets tokenizer and architecture from the Model alone; its weights are matched by name.
"""

import json
from collections.abc import Callable, Mapping

from carryover.ground.digests import canonical
from carryover.models import mmdet_source

CONFIG = "config.json"


def _text_folder(branch: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what transformers opens, but weights: name -> bytes."""
    start = f"tokenizer/{branch}/"
    own = {name.removeprefix(start): data for name, data in files.items() if name.startswith(start)}
    return {**own, CONFIG: files[f"preprocessors/{branch}/{CONFIG}"]}


def _clip_folder(branch: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    found = _text_folder(branch, files)
    if (pixels := files.get(f"preprocessors/{branch}/pixels.json")) is not None:
        seen = json.loads(pixels)
        found["preprocessor_config.json"] = canonical({"image_mean": seen["mean"], "image_std": seen["std"]})
    return found


def _image_folder(branch: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what timm opens, but weights, for images of the size that the Model reads."""
    model, seen = (json.loads(files[f"preprocessors/{branch}/{name}"]) for name in (CONFIG, "pixels.json"))
    cfg = {**model["pretrained_cfg"], "mean": seen["mean"], "std": seen["std"]}
    cfg["input_size"] = [3, seen["size"], seen["size"]]
    described = {"architecture": model["architecture"], "pretrained_cfg": cfg, "model_args": model["arguments"]}
    return {CONFIG: canonical(described)}


# Family -> what its library opens, from a Model's files; a family without one is its config and its weights.
LAYOUTS: dict[str, Callable[[str, Mapping[str, bytes]], dict[str, bytes]]] = {
    "clip": _clip_folder,
    "hf_text": _text_folder,
    "mmdet_image": lambda branch, files: {mmdet_source.CONFIG: files[f"preprocessors/{branch}/{mmdet_source.CONFIG}"]},
    # It has no tokenizer, and is like CLIP otherwise.
    "sam": _clip_folder,
    "timm_image": _image_folder,
}
