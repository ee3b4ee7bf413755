"""Owns how an image model is found and opened: a local folder, a name of timm's, or a hub name, through timm.

    folder/config.json           {"architecture", "pretrained_cfg", "model_args"?, ...}, as timm writes it
           model.safetensors     or pytorch_model.bin, of which only tensors are read

Everything here that needs timm imports it when called; `check_source` needs nothing.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.ground.errors import WrongInput
from carryover.models.hf_source import check_torch, is_folder

if TYPE_CHECKING:
    from torch import nn

KEY = "model.timm_image.checkpoint_name"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
HUB = "hf-hub:"
# Where weights came from; a Model says nothing of the places of the machine that trained it.
PLACES = ("url", "file", "source", "hf_hub_id", "hf_hub_filename", "state_dict")
USUAL_SIZE = 224
_MISSING = re.compile(r"Missing keys \((.*)\)")


@dataclass(frozen=True)
class ImageModel:
    """What an image model is, beside weights.

    Attributes:
        architecture: a name of timm's, without a tag.
        pretrained_cfg: what its weights were made for: input size, mean, std, ...; as timm has it, without places.
        arguments: of timm's `create_model`, beside these.
    """

    architecture: str
    pretrained_cfg: Mapping[str, Any]
    arguments: Mapping[str, Any]

    def size(self) -> int:
        """Return the side of the square images that it was made for."""
        return int((self.pretrained_cfg.get("input_size") or (3, USUAL_SIZE, USUAL_SIZE))[-1])

    def norm(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Return mean and standard deviation of the images that it was made for; None where it does not say."""
        mean, std = self.pretrained_cfg.get("mean"), self.pretrained_cfg.get("std")
        return (tuple(mean), tuple(std)) if mean and std else None

    def sized(self, size: int) -> "ImageModel":
        """Return the same for images of another size."""
        # Most take any size as it comes; those with a table of positions have to be told.
        told = self.pretrained_cfg.get("fixed_input_size") and size != self.size()
        arguments = {**self.arguments, "img_size": size} if told else self.arguments
        return ImageModel(self.architecture, self.pretrained_cfg, arguments)


def check_source(name: str, *, pretrained: bool) -> None:
    """Check without timm that a checkpoint can be opened, as far as a look at a folder tells.

    Raises:
        WrongInput: for a folder that is not there or lacks a file.
    """
    if not _is_local(name):
        return
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise WrongInput(f"{KEY}: there is no folder {name}; give a folder that timm wrote, or a name of timm's")
    _folder_config(folder)
    if pretrained and not any((folder / file).is_file() for file in WEIGHTS):
        raise WrongInput(
            f"{KEY}: {name} has no weights ({', '.join(WEIGHTS)}); for random ones set model.timm_image.pretrained: "
            "false"
        )


def open_model(name: str) -> ImageModel:
    """Return what a checkpoint is, wherever it is."""
    if _is_local(name):
        found = _folder_config(Path(name).expanduser())
        return _image_model(found["architecture"], found["pretrained_cfg"], found.get("model_args") or {})
    from timm.models import get_pretrained_cfg, is_model, load_model_config_from_hf

    with _opening("config", name):
        if _timm_name(name).startswith(HUB):
            cfg, architecture, arguments = load_model_config_from_hf(_timm_name(name).removeprefix(HUB))
            return _image_model(architecture, cfg, arguments or {})
        architecture = name.partition(".")[0]
        if not is_model(architecture):
            raise WrongInput(f"{KEY}: timm has no model '{architecture}'{_near(architecture)}")
        found = get_pretrained_cfg(name)
        return _image_model(architecture, found.to_dict() if found else {}, {})


def build_encoder(model: ImageModel, source: str | None) -> "nn.Module":
    """Return the headless model in float32: images [K, 3, S, S] -> features [K, F].

    Args:
        source: folder or name of the weights; None for random ones.

    Raises:
        WrongInput: when weights cannot be opened or lack a part of the model, or its arguments do not fit.
    """
    import timm
    import torch

    check_torch(torch.__version__)
    arguments = {**model.arguments, "num_classes": 0}
    if source is None:
        with _opening("architecture", model.architecture):
            return timm.create_model(
                model.architecture, pretrained=False, pretrained_cfg=dict(model.pretrained_cfg), **arguments
            )
    name = f"local-dir:{Path(source).expanduser()}" if _is_local(source) else _timm_name(source)
    with _opening("weights", source), _missing() as missing:
        encoder = timm.create_model(name, pretrained=True, **arguments)
    lacking = sorted(set(missing) & {name for name, _ in encoder.named_parameters()})
    if lacking:
        raise WrongInput(f"{KEY}: the weights of '{source}' lack {len(lacking)} tensors, e.g. {lacking[0]}")
    return encoder.float()


def _is_local(name: str) -> bool:
    return not name.startswith((HUB, "hf_hub:")) and is_folder(name)


def _timm_name(name: str) -> str:
    """Return how timm spells a name: what has an owner is on the hub."""
    name = name.replace("hf_hub:", HUB, 1)
    return f"{HUB}{name}" if "/" in name and not name.startswith(HUB) else name


def _folder_config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise WrongInput(f"{KEY}: {folder} has no config.json; give a folder that timm wrote") from None
    except ValueError as error:
        raise WrongInput(f"{KEY}: {folder}/config.json is not JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("architecture"), str):
        raise WrongInput(f"{KEY}: {folder}/config.json names no architecture, so timm cannot open it")
    # Older folders have the pretrained_cfg's keys beside the architecture.
    return found if isinstance(found.get("pretrained_cfg"), dict) else {**found, "pretrained_cfg": found}


def _image_model(architecture: str, cfg: Any, arguments: Mapping[str, Any]) -> ImageModel:
    # As JSON has it, so that a restored one is equal: tuples are lists.
    kept = {key: value for key, value in dict(cfg).items() if key not in (*PLACES, "model_args", "architecture")}
    return ImageModel(architecture.partition(".")[0], json.loads(json.dumps(kept)), dict(arguments))


def _near(architecture: str) -> str:
    import timm

    from carryover.ground.config import nearest

    near = nearest(architecture, timm.list_models())
    return f"; did you mean '{near}'?" if near else "; timm.list_models() tells all"


@contextmanager
def _missing() -> Iterator[list[str]]:
    """Gather the names of tensors that weights lack. timm only logs them, and goes on with random ones."""
    names: list[str] = []

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = _MISSING.search(record.getMessage())
            names.extend(found[1].split(", ") if found else [])

    logger, reader = logging.getLogger("timm.models._builder"), Reader()
    before = logger.level, logger.propagate
    logger.addHandler(reader)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield names
    finally:
        logger.removeHandler(reader)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@contextmanager
def _opening(what: str, name: str) -> Iterator[None]:
    """Turn what timm says about a model it cannot open into one line."""
    try:
        yield
    except (WrongInput, MemoryError):
        raise
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        # timm words it anew; PyTorch's own is told by its name, since its module is one that we do not import.
        if "weights_only" in line or type(error).__name__ == "UnpicklingError":
            line = "holds more than tensors, which could be code; nothing of it was run: use model.safetensors"
        elif os.environ.get("HF_HUB_OFFLINE") and "ffline" in type(error).__name__ + line:
            line = "not in the hub's cache and HF_HUB_OFFLINE is set; give a local folder"
        raise WrongInput(f"{KEY}: the {what} of '{name}' cannot be opened: {line or type(error).__name__}") from error
