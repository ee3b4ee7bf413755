"""Owns how a Backbone is written, found and fetched; needs no torch.

    scratch folder --describe--> card --write_backbone--> <store>/backbones/<digest>/
    folder, card or artifact --find_backbone--> FoundBackbone --fetch(branch)--> a local folder, every byte verified

A folder that holds a card has the files beside it, or the card says where they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from carryover.checkpoint.layout import Damaged
from carryover.ground import storage, uris
from carryover.ground.digests import Hasher
from carryover.ground.disk import Bytes
from carryover.ground.errors import WrongInput
from carryover.ground.storage import Store
from carryover.models.backbone_card import BACKBONES, CARD, BackboneCard, parse_card
from carryover.models.card import ModelFile, is_model_digest

_CHUNK = 8 << 20


def described(folder: Path) -> dict[str, ModelFile]:
    """Return relative name -> size and digest of all files below a local folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found: dict[str, ModelFile] = {}
    for path in paths:
        hasher = Hasher()
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                hasher.update(piece)
        found[path.relative_to(folder).as_posix()] = ModelFile(path.stat().st_size, hasher.hexdigest())
    return found


def place_of(store: str, digest: str) -> str:
    """Return the canonical URI of a Backbone in a store."""
    return storage.join(storage.join(store, BACKBONES), digest)


def write_backbone(target: Store, card: BackboneCard, source: Path) -> str:
    """Write a Backbone into a folder, backbone.json last; one that is whole there already is left alone.

    Args:
        source: local folder with the files that the card names.

    Returns:
        the folder's URI.
    """
    if _is_whole(target, card):
        return target.uri
    _clear(target)
    for name in card.files:
        target.upload(source / name, name)
    target.write(CARD, card.to_bytes())
    return target.uri


def _clear(folder: Store) -> None:
    """Remove another Backbone: a branch of it would look like one of the new. Its card goes first."""
    try:
        old = parse_card(folder.read(CARD), where=folder.at(CARD)).files
    except (FileNotFoundError, NotADirectoryError):
        return
    except WrongInput:
        # What is not known to be of a Backbone is left alone.
        old = {}
    # Without its card, a folder whose writing stops half-way is no Backbone.
    folder.delete(CARD)
    for name in old:
        folder.delete(name)


def _is_whole(folder: Store, card: BackboneCard) -> bool:
    if not folder.exists(CARD):
        return False
    try:
        there = parse_card(folder.read(CARD), where=folder.at(CARD))
    except WrongInput:
        return False
    return there.digest == card.digest and _holds(folder, card.files)


def _holds(folder: Store, files: Mapping[str, ModelFile]) -> bool:
    return all(folder.size(name) == file.size for name, file in files.items())


@dataclass(frozen=True)
class FoundBackbone:
    """A Backbone's card and the folder that has its files."""

    card: BackboneCard
    folder: Store

    def read(self, name: str) -> bytes:
        """Return one file's bytes; `name` is relative to the Backbone's folder.

        Raises:
            Damaged: when they are missing, or not those that were written.
        """
        return b"".join(self._pieces(name))

    def fetch(self, branch: str, target: Path) -> Path:
        """Copy what is in a branch's folder into the local folder `target` and return that, every byte verified.

        Raises:
            WrongInput: when there is no such branch.
            Damaged: when a file is missing, or not what was written.
        """
        for name in self.card.files_of(branch):
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                for piece in self._pieces(f"{branch}/{name}"):
                    file.write(piece)
        return target

    def _pieces(self, name: str) -> Iterator[Bytes]:
        """Yield a file in pieces; raises Damaged after the last one when they are not what was written."""
        want, hasher, size = self.card.files[name], Hasher(), 0
        try:
            for piece in self.folder.pieces(name):
                hasher.update(piece)
                size += len(piece)
                yield piece
        except FileNotFoundError:
            raise Damaged(f"{self.folder.at(name)}: missing") from None
        if size != want.size or hasher.hexdigest() != want.blake3:
            raise Damaged(f"{self.folder.at(name)}: damaged, its bytes are not those that were written")


def find_backbone(source: str, *, store: str = "") -> FoundBackbone:
    """Open a Backbone by the URI of its folder or backbone.json, a folder that holds its card, or its digest.

    Files are taken beside the card where all are there with their sizes, else from the card's `at`.

    Args:
        store: URI of the store, for a digest.

    Raises:
        WrongInput: when there is no Backbone, or its files are nowhere.
    """
    if store and is_model_digest(source):
        source = place_of(store, source)
    folder, name = storage.split(source) if source.endswith(".json") else (storage.normal(source), CARD)
    here = storage.open_store(folder)
    card = _read_card(here, name)
    if _holds(here, card.files):
        return FoundBackbone(card, here)
    if card.at and storage.normal(card.at) != here.uri:
        there = storage.open_store(uris.reached(card.at, here.at(name)))
        found = _read_card(there, CARD)
        if found.digest != card.digest:
            raise WrongInput(
                f"{source}: says Backbone {card.digest} lies at {card.at}, but {found.digest} does; dump it again"
            )
        if _holds(there, card.files):
            return FoundBackbone(replace(card, at=there.uri), there)
    raise WrongInput(
        f"{card.at or here.uri}: files of Backbone {card.digest} are missing or cut; copy it whole, or dump it again"
    )


def _read_card(folder: Store, name: str) -> BackboneCard:
    try:
        return parse_card(folder.read(name), where=folder.at(name))
    except (FileNotFoundError, NotADirectoryError):
        raise WrongInput(
            f"{folder.at(name)}: no Backbone there; give what 'carryover dump-backbone' printed as uri"
        ) from None
