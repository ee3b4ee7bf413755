"""Owns how weights for a tabular transformer's blocks are found and read: a Model, a folder, or a file of AutoMM's.

    folder/model.ckpt/model.safetensors   a Model of ours
    folder/model.safetensors, pytorch_model.bin, model.ckpt
    file.safetensors, or another file     a state dict, or {"state_dict": ...}: tensors only, code in it is never run

Only the blocks are taken: the tokens of other columns mean something else.
"""

import io
import re
from typing import TYPE_CHECKING, Any

from carryover.ground import storage
from carryover.ground.errors import WrongInput
from carryover.ground.storage import Store
from carryover.models import hf_source
from carryover.models.card import WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor, nn

KEY = "model.ft_transformer.checkpoint_name"
FILES = (WEIGHTS, "model.safetensors", "pytorch_model.bin", "model.ckpt")
_STACK = re.compile(r"(.*?)blocks\.0\.ffn\.linear_first\.weight")


def check_source(place: str) -> None:
    """Raise WrongInput when there is no file of weights at this path or URI; needs no torch."""
    _find(place)


def load_blocks(transformer: "nn.Module", place: str) -> None:
    """Put the blocks' weights that lie at `place` into a transformer.

    Raises:
        WrongInput: when there are none, several, or they have another shape.
    """
    folder, name = _find(place)
    tensors = _read(folder, name)
    prefixes = [found.group(1) for found in map(_STACK.fullmatch, tensors) if found]
    named = [prefix for prefix in prefixes if "ft_transformer" in prefix] or prefixes
    if len(named) != 1:
        what = "no blocks of a tabular transformer" if not named else f"several stacks of blocks ({', '.join(named)})"
        raise WrongInput(f"{KEY}: {folder.at(name)} has {what}; give weights of one ft_transformer")
    start = f"{named[0]}blocks."
    blocks = {key.removeprefix(named[0]): value for key, value in tensors.items() if key.startswith(start)}
    try:
        transformer.load_state_dict(blocks)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise WrongInput(
            f"{KEY}: the blocks at {folder.at(name)} are not of this shape; set num_blocks, hidden_size, "
            f"ffn_hidden_size and the others as they were: {why}"
        ) from error


def _find(place: str) -> tuple[Store, str]:
    folder, name = storage.split(place)
    beside = storage.open_store(folder)
    if beside.exists(name):
        return beside, name
    inside = storage.open_store(place)
    for known in FILES:
        if inside.exists(known):
            return inside, known
    raise WrongInput(f"{KEY}: {place} is no file, and no folder with one of {', '.join(FILES)}")


def _read(folder: Store, name: str) -> "dict[str, Tensor]":
    import torch
    from safetensors.torch import load

    data = folder.read(name, large=True)
    if name.endswith(".safetensors"):
        return load(data)
    hf_source.check_torch(torch.__version__)
    try:
        found: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)  # noqa: TID251 - tensors only
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise WrongInput(f"{KEY}: {folder.at(name)} holds no plain tensors, and nothing else is read: {why}") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else {}
    return {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
