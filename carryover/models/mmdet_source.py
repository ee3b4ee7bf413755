"""Owns how a detector of mmdet is found and opened: a name of mmdet's, a config file, or a folder.

    folder/config.py     plain values, as mmengine's Config.dump writes them (mmdet_config.py)
           *.pth         {"state_dict", "meta"}, of which only tensors are read
    name                 a config that mmdet brings along; its weights are fetched from its authors, once

What is looked at before a rank starts needs neither torch nor mmdet.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput
from carryover.models import mmdet_config, trust
from carryover.models.hf_source import check_torch, is_folder

if TYPE_CHECKING:
    from torch import Tensor

KEY = "model.mmdet_image.checkpoint_name"
CONFIG = "config.py"
WEIGHTS = "model.pth"
INSTALL = "'make detection', or the extra 'detection' of this package, and mmcv with its operators (docs/detection.md)"
_MODEL = re.compile(r"^  - Name: *(\S+)(.*?)(?=^  - Name:|\Z)", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^    (Config|Weights): *(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Known:
    """A detector that mmdet brings along: its config file, and where its weights are, "" for nowhere."""

    config: Path
    weights: str


def check_installed() -> None:
    """Raise WrongInput where mmdet, or mmcv with its operators, is not installed; imports neither."""
    if find_spec("mmdet") is None:
        raise WrongInput(f"model.mmdet_image: mmdet is not installed; {INSTALL}", trouble="missing-package")
    mmcv = find_spec("mmcv")
    places = mmcv.submodule_search_locations if mmcv else None
    if not places or not any(list(Path(place).glob("_ext*")) for place in places):
        raise WrongInput(
            f"model.mmdet_image: mmcv is not installed, or without its operators; {INSTALL}", trouble="missing-package"
        )


def check_source(name: str, *, pretrained: bool) -> None:
    """Check without torch that a detector can be opened, as far as a look at files tells.

    Raises:
        WrongInput: when mmdet is not there, or the files are not.
    """
    check_installed()
    if not is_local(name):
        known = _known(name)
        if pretrained:
            _check_reachable(name, known)
        return
    file = config_file(name)
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError):
        raise WrongInput(f"{KEY}: there is no file {file}; give a folder with {CONFIG}, or a name of mmdet's") from None
    mmdet_config.detector_config(mmdet_config.parsed(text, where=str(file)), where=str(file))
    if pretrained and weights_file(name) is None:
        raise WrongInput(
            f"{KEY}: {name} has no weights (*.pth); for random ones set model.mmdet_image.pretrained: false"
        )


def is_local(name: str) -> bool:
    """Tell a folder or a config file on this machine from a name of mmdet's."""
    return name.endswith(".py") or is_folder(name)


def config_file(name: str) -> Path:
    """Return the config file that a local name means."""
    path = Path(name).expanduser()
    return path if name.endswith(".py") else path / CONFIG


def weights_file(name: str) -> Path | None:
    """Return the file of a local detector's weights; None where it has none, or several and none of the usual name."""
    if name.endswith(".py"):
        return None
    found = sorted(Path(name).expanduser().glob("*.pth"))
    usual = [path for path in found if path.name == WEIGHTS]
    return next(iter(usual), found[0] if len(found) == 1 else None)


def open_config(name: str) -> dict[str, Any]:
    """Return what a detector is, wherever it is described; see `mmdet_config.detector_config`."""
    if is_local(name):
        file = config_file(name)
        return mmdet_config.detector_config(mmdet_config.parsed(file.read_text(), where=name), where=name)
    from mmengine.config import Config

    # mmdet's own configs are code that stands on bases; it was installed as code.
    whole: Any = Config.fromfile(str(_known(name).config), import_custom_modules=False)
    return mmdet_config.detector_config(mmdet_config.plain(whole.to_dict(), where=name), where=name)


def read_weights(name: str) -> "dict[str, Tensor]":
    """Return the tensors of a detector's checkpoint; those of a name are fetched, and kept where torch keeps such.

    Raises:
        WrongInput: when they can't be had, or hold more than tensors.
    """
    path = weights_file(name) if is_local(name) else _fetched(name)
    if path is None:
        raise WrongInput(f"{KEY}: {name} has no weights (*.pth)")
    return _tensors(path)


def _known(name: str) -> Known:
    """Return what mmdet has of a name: of a config, of a published model, or the start of one config's name."""
    listed = dict(_published())
    if name in listed:
        return listed[name]
    weights = {known.config: known.weights for known in listed.values()}
    files = {path.stem: path for path in sorted(_configs().glob("*/*.py"))}
    fitting = [stem for stem in files if stem == name] or [stem for stem in files if stem.startswith(f"{name}_8xb")]
    if len(fitting) == 1:
        return Known(files[fitting[0]], weights.get(files[fitting[0]], ""))
    near = nearest(name, [*files, *listed, *(stem.partition("_8xb")[0] for stem in files)])
    meant = f"; did you mean '{near}'?" if near else "."
    raise WrongInput(f"{KEY}: mmdet has no config '{name}'{meant} Give one of its names, or a folder with {CONFIG}")


def _configs() -> Path:
    spec = find_spec("mmdet")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / ".mim" / "configs"


def _published() -> Iterator[tuple[str, Known]]:
    """Yield the models whose weights mmdet's authors have published, by name."""
    for file in sorted(_configs().glob("*/metafile.yml")):
        for model in _MODEL.finditer(file.read_text()):
            fields = dict(_FIELD.findall(model[2]))
            if "Config" in fields:
                yield model[1], Known(_configs().parent / fields["Config"], fields.get("Weights", ""))


def _cache(url: str) -> Path:
    """Return where torch keeps what it has fetched."""
    root = os.environ.get("TORCH_HOME") or str(
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    )
    return Path(root).expanduser() / "hub" / "checkpoints" / url.rpartition("/")[2]


def _check_reachable(name: str, known: Known) -> None:
    random = "for random ones set model.mmdet_image.pretrained: false"
    if not known.weights:
        raise WrongInput(f"{KEY}: '{name}' has no published weights; {random}, or give a folder with weights")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if offline and not _cache(known.weights).is_file():
        raise WrongInput(
            f"{KEY}: the weights of '{name}' are not in {_cache(known.weights)} and HF_HUB_OFFLINE is set; put "
            f"{known.weights} there, give a folder with {CONFIG} and weights, or {random}",
            trouble="hub-offline",
        )


def _fetched(name: str) -> Path:
    from torch.hub import download_url_to_file

    known = _known(name)
    _check_reachable(name, known)
    path = _cache(known.weights)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        # The end of a published name is the start of its digest.
        digest = re.fullmatch(r".*-([0-9a-f]{8})\.pth", path.name)
        try:
            download_url_to_file(known.weights, str(path), digest[1] if digest else None, progress=False)
        except (OSError, RuntimeError) as error:
            line = " ".join(str(error).split())[:200]
            raise WrongInput(
                f"{KEY}: the weights of '{name}' can't be fetched from {known.weights}: {line}; give a folder with "
                f"{CONFIG} and weights, or set model.mmdet_image.pretrained: false",
                trouble="hub-offline",
            ) from error
    return path


def _tensors(path: Path) -> "dict[str, Tensor]":
    import torch

    check_torch(torch.__version__)
    try:
        if trust.pickles_are_trusted():
            found: Any = trust.run_pickle(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - a file of others
        found = found.get("state_dict", found)
        return {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    except Exception as error:
        # torch raises whatever its parts raise (RuntimeError, EOFError, its UnpicklingError, ...).
        if isinstance(error, MemoryError):
            raise
        line = " ".join(str(error).split())[:200]
        raise WrongInput(
            f"{KEY}: {path.name} is no checkpoint of which only tensors can be read: {line}; {trust.FLAG} reads the "
            "rest too, where you trust whoever made it",
            trouble="pickled-weights",
        ) from error
