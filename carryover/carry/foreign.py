"""Owns how a checkpoint of any form becomes local files whose parts have names, before any rank starts.

    backbone.json          Backbone          a folder a branch, as dump-backbone writes them; by its card's digest
    model.json, run:KEY    Model             weights of all branches, a folder a branch laid out from its files
    config.json, config.py transformers, timm, mmdet, or a folder of such folders (AutoMM's dump_model)
    model.ckpt             AutoMM's predictor: config.yaml, tokenizers, Lightning's state_dict
    one file               .safetensors .pt .pth .bin .ckpt: a state dict, whatever it is wrapped in
    a name                 of timm's or the hub's, as a folder of its cache

What is found is copied to local disk, so that nothing later needs the place where it was. What has a card is known by
it alone, and copied when it is wanted. Needs no torch.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from carryover.carry.backbone import find_backbone
from carryover.carry.folders import CONFIG, TEXTS, family_of_folder, fetch, has_weights, is_described
from carryover.carry.layouts import LAYOUTS
from carryover.carry.lineage import chain
from carryover.ground import storage, yaml_text
from carryover.ground.digests import Hasher, canonical, digest, short
from carryover.ground.errors import WrongInput
from carryover.ground.storage import Store
from carryover.ground.uris import is_member
from carryover.models.assembly import family_of
from carryover.models.backbone_card import CARD as BACKBONE
from carryover.models.card import CARD, WEIGHTS
from carryover.models.export import Found
from carryover.models.registry import FAMILIES

AUTOMM_CONFIG, AUTOMM_WEIGHTS = "config.yaml", "model.ckpt"
LOCAL = "local://"
FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_SHOWN = 8


@dataclass(frozen=True)
class Part:
    """One branch of a source.

    Attributes:
        name: its instance name there; of a folder alone, its family's.
        folder: relative to the source's; what `checkpoint_name` can be, "" for none.
        weights: whether that folder holds weights; where not, they are in the source's own file.
        checkpoint: a name of timm's or the hub's that says what it is, where no folder does.
    """

    name: str
    family: str
    folder: str = ""
    weights: bool = True
    checkpoint: str = ""


@dataclass(frozen=True)
class Source:
    """A checkpoint as local files.

    Attributes:
        form: which of `FORMS` it is.
        uri: where it was found.
        digest: of its content, 32 hex characters; the same wherever it lies.
        folder: local, absolute.
        parts: the branches that are known; of a bare state dict none are.
        weights: relative name of a file with weights of all branches, "" for none.
        alpha: of LoRA adapters in these weights, where it is known.
        lineage: run_key, step, checkpoint_uri and dataset of the run that made it, and the nodes of its lineage, where
            these are known; words of `Parent`.
    """

    form: str
    uri: str
    digest: str
    folder: str
    parts: tuple[Part, ...] = ()
    weights: str = ""
    alpha: float | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; `source_from_json` gives it back."""
        return asdict(self)

    def path(self, name: str) -> Path:
        """Return the local path of one of its files or folders."""
        return Path(self.folder) / name


def source_from_json(value: Mapping[str, Any]) -> Source:
    """Return the Source that `to_json` described."""
    return Source(**{**value, "parts": tuple(Part(**part) for part in value["parts"])})


@dataclass(frozen=True)
class Sought:
    """A checkpoint that was found; `copy` brings its files to the source's folder, where they are not there yet."""

    source: Source
    copy: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class _Place:
    """A folder as it was found: its files and folders, and how Models are opened."""

    store: Store
    names: Sequence[str]
    folders: Sequence[str]
    models: Callable[[str], Found]


def open_source(given: str, target: Path, *, models: Callable[[str], Found]) -> Sought:
    """Find a checkpoint; `target` is an empty local folder for its files.

    Args:
        given: URI of a folder or file, `run:KEY`, `champion:NAME`, or a name of timm's or the hub's.
        models: opens a Model by its URI, run or champion.

    Raises:
        WrongInput: when there is none, or it is of no known form; says which are.
        Damaged: when files are not what their card says.
    """
    target.mkdir(parents=True, exist_ok=True)
    if given.startswith(("run:", "champion:")):
        return _of_model(models(given), target)
    if not _is_place(given):
        return _of_hub(given, target)
    uri = storage.normal(given)
    where, name = storage.split(uri)
    if name.endswith(".json"):
        # A card stands for its folder.
        uri = where
    store = storage.open_store(uri)
    try:
        place = _Place(store, store.names(), store.folders(), models)
        if place.names or place.folders:
            return _of_folder(place, target)
        if storage.open_store(where).exists(name):
            return _of_file(storage.open_store(where), name, target)
    except OSError as error:
        raise WrongInput(f"{uri}: can't be read: {storage.first_line(error)}") from error
    raise WrongInput(f"{uri}: there is nothing; give a Backbone, a Model, a checkpoint's folder or file, or a hub name")


def _is_place(given: str) -> bool:
    """Tell a path or URI from a name of timm's or the hub's."""
    path = os.path.expanduser(given)
    return "://" in given or os.path.exists(path) or given.endswith((*FILES, ".json")) or not _HUB_NAME.fullmatch(given)


def _of_folder(place: _Place, target: Path) -> Sought:
    for form, (is_it, opened) in FORMS.items():
        if is_it(place):
            found = opened(place, target)
            return replace(found, source=replace(found.source, form=form))
    files = [name for name in place.names if name.endswith(FILES)]
    hint = f"; name one of its files: {', '.join(files[:_SHOWN])}" if files else ""
    raise WrongInput(f"{place.store.uri}: is no checkpoint that is known here ({', '.join(FORMS)}){hint}")


def _of_backbone(place: _Place, target: Path) -> Sought:
    found = find_backbone(place.store.uri)
    card = found.card
    parts = tuple(Part(branch.name, branch.family, branch.name) for branch in card.branches)
    lineage = {"run_key": card.run_key, "step": card.step, "dataset": card.dataset, "lineage": chain(card)}

    def copy() -> None:
        for part in parts:
            found.fetch(part.name, target / part.name)

    return Sought(Source("backbone", found.folder.uri, card.digest, str(target), parts, lineage=lineage), copy)


def _of_model(found: Found, target: Path) -> Sought:
    card = found.card
    families = {branch["name"]: branch["family"] for branch in card.assembly["branches"]}
    if strangers := [name for name in families if not str(name).isidentifier()]:
        raise WrongInput(f"{found.folder.uri}: names the branch {strangers[0]!r}, which can't name a folder")
    parts = tuple(Part(name, kind, name if kind in LAYOUTS else "", weights=False) for name, kind in families.items())
    known = {name: getattr(card, name) for name in ("run_key", "step", "checkpoint_uri", "dataset")}
    lineage = {**known, "lineage": chain(card)}

    def copy() -> None:
        files = {name: found.read(name) for name in card.files}
        for part in parts:
            laid_out = LAYOUTS[part.family](part.name, files) if part.folder else {}
            for name, data in laid_out.items():
                _write(target / part.name / name, data)
        for name, data in {**files, CARD: card.to_bytes()}.items():
            _write(target / name, data)

    return Sought(Source("model", found.folder.uri, card.digest, str(target), parts, WEIGHTS, lineage=lineage), copy)


def _of_library(place: _Place, target: Path) -> Sought:
    """Open a folder that transformers, timm or mmdet wrote."""
    fetched = fetch(place.store, place.names, target)
    family = family_of_folder(target, place.store.uri)
    part = Part(family, family, ".", weights=has_weights(fetched))
    return Sought(Source("", place.store.uri, _digest(target, fetched), str(target), (part,)))


def _of_dump(place: _Place, target: Path) -> Sought:
    """Open a folder of such folders, each named after a branch."""
    parts: list[Part] = []
    fetched: list[str] = []
    for name in place.folders:
        inner = place.store.sub(name)
        if not is_described(inner.names()) or not _is_instance(name):
            continue
        files = fetch(inner, inner.names(), target / name)
        fetched += [f"{name}/{file}" for file in files]
        family = family_of_folder(target / name, inner.uri)
        parts.append(Part(name, family, name, weights=has_weights(files)))
    return Sought(Source("", place.store.uri, _digest(target, fetched), str(target), tuple(parts)))


def _of_automm(place: _Place, target: Path) -> Sought:
    """Open AutoMM's predictor: weights in Lightning's form, and what they are in config.yaml and folders beside it."""
    fetched = [AUTOMM_WEIGHTS, AUTOMM_CONFIG]
    for name in fetched:
        place.store.download(name, target / name)
    try:
        config = yaml_text.load((target / AUTOMM_CONFIG).read_text())
        models = config["model"]
        names = [name for name in models["names"] if _is_instance(name)]
        named = {name: str((models.get(name) or {}).get("checkpoint_name") or "") for name in names}
        alpha = (((config.get("optim") or config.get("optimization") or {}).get("lora")) or {}).get("alpha")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise WrongInput(f"{place.store.at(AUTOMM_CONFIG)}: is not the config of an AutoMM predictor") from error
    parts: list[Part] = []
    for name, checkpoint in named.items():
        folder = checkpoint.removeprefix(LOCAL) if checkpoint.startswith(LOCAL) else ""
        if folder:
            if not is_member(folder):
                raise WrongInput(
                    f"{place.store.at(AUTOMM_CONFIG)}: names the folder {folder!r}, which is outside of it"
                )
            inner = place.store.sub(folder)
            fetched += [f"{folder}/{file}" for file in fetch(inner, inner.names(), target / folder)]
        parts.append(Part(name, family_of(name), folder, weights=False, checkpoint="" if folder else checkpoint))
    found = Source("", place.store.uri, _digest(target, fetched), str(target), tuple(parts), AUTOMM_WEIGHTS)
    return Sought(replace(found, alpha=None if alpha is None else float(alpha)))


def _of_file(folder: Store, name: str, target: Path) -> Sought:
    if not name.endswith(FILES):
        raise WrongInput(f"{folder.at(name)}: is no checkpoint that is known here; give a {', '.join(FILES)} file")
    folder.download(name, target / name)
    # The same bytes under another name are the same source.
    content = short(_hash(target / name))
    return Sought(Source("file", folder.at(name), content, str(target), weights=name))


def _of_hub(name: str, target: Path) -> Sought:
    """Open a name of timm's or the hub's, from the cache where HF_HUB_OFFLINE is set."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository = name if "/" in name else f"timm/{name}"
    texts = [f"*{end}" for end in TEXTS]
    try:
        folder = Path(snapshot_download(repository, allow_patterns=[*texts, "model*.safetensors"]))
        if not has_weights([path.name for path in folder.iterdir()]):
            folder = Path(snapshot_download(repository, allow_patterns=[*texts, "pytorch_model*.bin"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        why = "is not in the hub's cache and HF_HUB_OFFLINE is set" if offline else storage.first_line(error)
        raise WrongInput(
            f"{name}: no such path here, and the hub's '{repository}' {why}", trouble="hub-offline"
        ) from error
    store = storage.open_store(str(folder))
    place = _Place(store, store.names(), store.folders(), _no_model)
    if CONFIG not in place.names:
        raise WrongInput(f"{name}: the hub's '{repository}' has no {CONFIG}; is it a model?", trouble="hub-offline")
    return Sought(replace(_of_library(place, target).source, form="hub", uri=repository))


def _no_model(given: str) -> Found:
    raise WrongInput(f"{given}: is no Model; give what 'carryover train-ddp' printed as uri")


def _is_instance(name: str) -> bool:
    """Tell whether a name is that of a branch that this installation has."""
    known = (name == family or name.startswith(f"{family}_") for family in FAMILIES.names())
    return name.isidentifier() and any(known)


def _digest(folder: Path, names: Sequence[str]) -> str:
    """Return the digest of these files: names and contents."""
    return short(digest(canonical({name: _hash(folder / name) for name in sorted(names)})))


def _hash(path: Path) -> str:
    return Hasher().update_mmap(path).hexdigest()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _is_library(place: _Place) -> bool:
    return is_described(place.names)


def _is_dump(place: _Place) -> bool:
    return any(_is_instance(name) and is_described(place.store.sub(name).names()) for name in place.folders)


def _as_model(place: _Place, target: Path) -> Sought:
    return _of_model(place.models(place.store.uri), target)


Form = tuple[Callable[[_Place], bool], Callable[[_Place, Path], Sought]]
# Name -> is it one, and how it is opened; the first that says yes.
FORMS: dict[str, Form] = {
    "backbone": (lambda place: BACKBONE in place.names, _of_backbone),
    "model": (lambda place: CARD in place.names, _as_model),
    "automm": (lambda place: {AUTOMM_CONFIG, AUTOMM_WEIGHTS} <= set(place.names), _of_automm),
    "library": (_is_library, _of_library),
    "dump": (_is_dump, _of_dump),
}
