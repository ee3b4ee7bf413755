"""Owns how the weights of others are read: tensors by name, out of whatever a file wraps them in.

    .safetensors                       names and tensors
    .pt .pth .bin .ckpt                a pickle of which only tensors are read (models/trust.py); in it, one of
        {name: tensor}                 a state dict: EIR's .pt, transformers' and timm's .bin
        {"state_dict": {...}}          Lightning's, AutoMM's model.ckpt, timm's training script
        {"model_state_dict": {...}}    the resume guide's, with optimizer_state_dict, epoch, ...
        {"model": {...}}               likewise, with optimizer, scaler, epoch, step, best

Imports torch when called.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.ground.console import warn
from carryover.ground.errors import WrongInput
from carryover.models import trust
from carryover.models.backbone_card import LEARNED
from carryover.models.hf_source import check_torch

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
# Under which word a state dict stands, the first that does.
CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "network", "weights")
_ADAPTER = re.compile(r"(^|\.)(lora_\w+|ia3_\w+)(\.|$)")
_SHOWN = 8


def read_folder(folder: Path) -> Tensors:
    """Return the tensors of a folder that transformers, timm or mmdet wrote, whole or in pieces."""
    found = sorted(path for path in folder.glob("*.safetensors") if path.name != LEARNED)
    tensors: Tensors = {}
    for path in found or sorted(folder.glob("pytorch_model*.bin")) or sorted(folder.glob("*.pth")):
        tensors |= read_file(path)
    return tensors


def read_file(path: Path) -> Tensors:
    """Return the tensors of one file.

    Raises:
        WrongInput: when it can't be read, would run code that nobody trusts, or holds no state dict.
    """
    return state_dict(read_whole(path), path.name)


def read_whole(path: Path) -> dict[str, Any]:
    """Return all that a file holds, tensors on the CPU; raises WrongInput as `read_file`."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise WrongInput(f"{path.name}: is no whole safetensors file: {error}") from error
    check_torch(torch.__version__)
    try:
        if trust.pickles_are_trusted():
            warn(f"{path.name}: code in it is run ({trust.FLAG})")
            found = trust.run_pickle(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - a file of others
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise WrongInput(f"{path.name}: is no whole checkpoint of torch: {_line(error)}") from error
    except Exception as error:
        # By its name: the module that it is of is one that we do not import.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise WrongInput(
            f"{path.name}: holds more than tensors, which could be code, or is no checkpoint; nothing of it was run: "
            f"save its state_dict alone, or {trust.FLAG} where you trust whoever made it",
            trouble="pickled-weights",
        ) from error
    if not isinstance(found, Mapping):
        raise WrongInput(f"{path.name}: holds a {type(found).__name__}, not a state dict (name -> tensor)")
    return {str(name): value for name, value in found.items()}


def state_dict(whole: Mapping[str, Any], where: str) -> Tensors:
    """Return the tensors of a checkpoint, under whichever word they stand.

    Raises:
        WrongInput: when there are none.
    """
    for found in (whole, *(whole[word] for word in CONTAINERS if isinstance(whole.get(word), Mapping))):
        tensors = {str(name): value for name, value in found.items() if _is_tensor(value)}
        # A trainer's dict may have a loss or a step as a tensor beside the weights.
        if tensors and 2 * len(tensors) >= len(found):
            return tensors
    shown = ", ".join(list(whole)[:_SHOWN]) or "nothing"
    raise WrongInput(f"{where}: no state dict in it, neither by itself nor as {', '.join(CONTAINERS)}; it has {shown}")


def is_adapter(name: str) -> bool:
    """Tell whether a tensor is of an adapter (LoRA, IA3), as peft and AutoMM name them."""
    return _ADAPTER.search(name) is not None


def merged(tensors: Tensors, alpha: float) -> Tensors:
    """Return the weights with AutoMM's LoRA adapters put in: weight + alpha / r * B A (Hu et al., arXiv:2106.09685)."""
    found = dict(tensors)
    for name in [name for name in tensors if name.endswith(".lora_A")]:
        layer = name.removesuffix("lora_A")
        down, up, weight = tensors[name], tensors.get(f"{layer}lora_B"), tensors.get(f"{layer}weight")
        if up is None or weight is None or down.dim() != 2 or (len(up), down.shape[1]) != tuple(weight.shape):
            continue
        change = up.double() @ down.double() * (alpha / len(down))
        found[f"{layer}weight"] = (weight.double() + change).to(weight.dtype)
        del found[name], found[f"{layer}lora_B"]
    return found


def vocabulary(tokenizer: bytes) -> dict[str, int]:
    """Return token -> row of an encoder's table, from the bytes of a tokenizer.json."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(json.loads(tokenizer))).get_vocab(with_added_tokens=True)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
