"""Owns how a Model is written and read; writing needs no torch, so the command line can make one from a finished run.

    preprocessing, assembly, task --model_files--> files ┐
    state_dict as RawTensors ------------------- weights ┴--make_card--> card --write_model--> folder
    folder, card, artifact or run:KEY --find_model--> Found --load_model--> LoadedModel

Every byte is checked against the card before anything is parsed from it.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged
from carryover.checkpoint.log import Record
from carryover.checkpoint.pack import ITEM_SIZES, RawTensor
from carryover.data.schema import Schema
from carryover.ground import bars, storage, uris
from carryover.ground.digests import Hasher, canonical
from carryover.ground.errors import WrongInput
from carryover.ground.storage import Store
from carryover.models.assembly import Assembly, Preprocessing, assembly_from_json, build_network, restore_preprocessing
from carryover.models.card import (
    ASSEMBLY,
    CARD,
    MODELS,
    WEIGHTS,
    ModelCard,
    ModelFile,
    digest_of,
    is_model_digest,
    parse_card,
)

if TYPE_CHECKING:
    import torch

    from carryover.models.layers import Network

Bytes = bytes | bytearray | memoryview
PREFIX = "model/"


def model_files(assembly: Assembly, preprocessing: Preprocessing, task_files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return all that inference needs beside weights, by name relative to the Model's folder."""
    return {ASSEMBLY: canonical(assembly.portable().to_json()), **preprocessing.files(), **task_files}


def weights_of(tensors: Mapping[str, RawTensor]) -> dict[str, RawTensor]:
    """Return the weights among a checkpoint's tensors ("model/<name>"), by the names of the state_dict."""
    return {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}


def weights_pieces(weights: Mapping[str, RawTensor]) -> Iterator[Bytes]:
    """Yield the bytes of the safetensors file of these weights; the same weights give the same bytes.

    Large items come first, then names in order, so that every tensor is aligned for readers that map the file.
    """
    ordered = sorted(weights, key=lambda name: (-ITEM_SIZES[weights[name].dtype], name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in ordered:
        tensor = weights[name]
        start, end = end, end + tensor.size
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = canonical(header)
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for name in ordered:
        yield weights[name].data


def make_card(
    files: Mapping[str, bytes],
    weights: Mapping[str, RawTensor],
    *,
    schema: Schema,
    recipe: Mapping[str, Any],
    run_key: str,
    step: int,
    checkpoint_uri: str,
    dataset: Mapping[str, Any],
    store: str,
    parent: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float | None] | None = None,
    versions: Mapping[str, str] | None = None,
    made: str = "",
    reason: str = "",
    rows: Mapping[str, int] | None = None,
    asked: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Return the card of a Model that need not be written yet.

    Args:
        files: as `model_files` gives them.
        weights: by the names of the state_dict.
        store: URI of the store; the Model's place is <store>/models/<digest>.
    """
    hasher, size = Hasher(), 0
    for piece in weights_pieces(weights):
        hasher.update(piece)
        size += memoryview(piece).nbytes
    known = {name: ModelFile(len(data), Hasher(data).hexdigest()) for name, data in files.items()}
    known[WEIGHTS] = ModelFile(size, hasher.hexdigest())
    digest = digest_of(known)
    return ModelCard(
        digest=digest,
        schema=schema,
        recipe=recipe,
        assembly=json.loads(files[ASSEMBLY]),
        files=known,
        run_key=run_key,
        step=step,
        checkpoint_uri=checkpoint_uri,
        dataset=dataset,
        at=storage.join(storage.join(store, MODELS), digest),
        parent=parent,
        metrics=metrics or {},
        versions=versions or {},
        made=made,
        reason=reason,
        rows=rows or {},
        asked=asked or {},
    )


def write_model(
    folder: Store, card: ModelCard, files: Mapping[str, bytes], weights: Mapping[str, RawTensor] | None
) -> str:
    """Write a Model into a folder, model.json last; one that is whole there already is left alone. Returns its URI.

    Args:
        weights: None to write the card alone (an artifact too big to embed); readers then go to `card.at`.
    """
    if weights is not None:
        # Without its card, a folder whose writing stops half-way is no Model.
        if _is_whole(folder, card):
            return folder.uri
        folder.delete(CARD)
        for name, data in files.items():
            folder.write(name, data)
        size = sum(tensor.size for tensor in weights.values())
        words = f"writing {WEIGHTS} to {folder.uri}"
        with folder.open_write(WEIGHTS, size=size) as file, bars.bar(words, total=size, unit=bars.BYTES) as shown:
            for piece in weights_pieces(weights):
                file.write(piece)
                shown.add(memoryview(piece).nbytes)
    folder.write(CARD, card.to_bytes())
    return folder.uri


def _is_whole(folder: Store, card: ModelCard) -> bool:
    if not folder.exists(CARD):
        return False
    try:
        there = parse_card(folder.read(CARD), where=folder.at(CARD))
    except WrongInput:
        return False
    return there.digest == card.digest and _holds(folder, card)


def _holds(folder: Store, card: ModelCard) -> bool:
    return all(folder.size(name) == file.size for name, file in card.files.items())


@dataclass(frozen=True)
class Found:
    """A Model's card and the folder that has its files."""

    card: ModelCard
    folder: Store

    def read(self, name: str) -> bytes:
        """Return one file's bytes.

        Raises:
            Damaged: when they are missing, or not those that were written.
        """
        want = self.card.files[name]
        try:
            data = self.folder.read(name, large=name == WEIGHTS)
        except FileNotFoundError:
            raise Damaged(f"{self.folder.at(name)}: missing") from None
        if len(data) != want.size or Hasher(data).hexdigest() != want.blake3:
            raise Damaged(f"{self.folder.at(name)}: damaged, its bytes are not those that were written")
        return data

    def files(self) -> dict[str, bytes]:
        """Return all files but the weights, verified."""
        return {name: self.read(name) for name in self.card.files if name != WEIGHTS}


def find_model(source: str, *, store: str = "") -> Found:
    """Open a Model by the URI of its folder or model.json, by a folder that holds its card, or by `run:KEY`.

    Torch-free. Files are taken beside the card where all are there with their sizes, else from the card's `at`.

    Args:
        store: URI of the store, needed for `run:KEY` only.

    Raises:
        WrongInput: when there is no Model, or its files are nowhere.
    """
    if source.startswith("champion:"):
        raise WrongInput(
            f"{source}: a champion can be named to a step only; give a Model's URI or run:KEY here",
            trouble="wrong-flags",
        )
    if source.startswith("run:"):
        _, finish = finished_run(source.removeprefix("run:"), store)
        source = storage.join(storage.join(store, MODELS), finish.body["model"])
    folder, name = (storage.split(source)) if source.endswith(".json") else (storage.normal(source), CARD)
    here = storage.open_store(folder)
    card = _read_card(here, name)
    if _holds(here, card):
        return Found(card, here)
    if card.at and storage.normal(card.at) != here.uri:
        there = storage.open_store(uris.reached(card.at, here.at(name)))
        found = _read_card(there, CARD)
        if found.digest != card.digest:
            raise WrongInput(
                f"{source}: says Model {card.digest} lies at {card.at}, but {found.digest} does; give that place"
            )
        if _holds(there, card):
            return Found(replace(card, at=there.uri), there)
    raise WrongInput(f"{card.at or here.uri}: files of Model {card.digest} are missing or cut; copy it whole")


def finished_run(run_key: str, store: str) -> tuple[RunHome, Record]:
    """Return a run and its newest finish record.

    Raises:
        WrongInput: when there is no such run in the store, or it has not finished.
    """
    if not store:
        raise WrongInput(f"run:{run_key}: the store of the run is not known; give --store URI", trouble="wrong-flags")
    home = RunHome.open(storage.open_store(store), run_key)
    if not home.exists():
        raise WrongInput(f"run:{run_key}: there is no such run in {storage.normal(store)}", trouble="no-such-run")
    finish = home.finish_record()
    if finish is None:
        raise WrongInput(
            f"run:{run_key}: has not finished, so it has no Model yet; start its training again", trouble="no-such-run"
        )
    if not is_model_digest(finish.body.get("model")):
        raise Damaged(f"{home.store.uri}, record {finish.number}: names no Model")
    return home, finish


def _read_card(folder: Store, name: str) -> ModelCard:
    try:
        return parse_card(folder.read(name), where=folder.at(name))
    except (FileNotFoundError, NotADirectoryError):
        raise WrongInput(f"{folder.at(name)}: no Model there; give what 'carryover train-ddp' printed as uri") from None


@dataclass(frozen=True)
class LoadedModel:
    """A Model ready for use; what its outputs mean is for `tasks.restore_task(files)` to say.

    Attributes:
        network: in evaluation mode; float32, or float64 where it was trained in it.
        files: all its files but the weights.
    """

    card: ModelCard
    assembly: Assembly
    preprocessing: Preprocessing
    network: "Network"
    files: Mapping[str, bytes] = field(repr=False)


def load_model(found: Found, *, num_outputs: int, device: "torch.device | str" = "cpu") -> LoadedModel:
    """Build a Model's network and preprocessing from its own files; no checkpoint folder and no hub is asked.

    Args:
        num_outputs: of its task.

    Raises:
        Damaged: when a file is not what was written, or the weights do not fit the network.
    """
    from safetensors.torch import load

    with bars.working(f"reading {found.folder.at(WEIGHTS)}"):
        files, weights = found.files(), load(found.read(WEIGHTS))
    try:
        assembly, preprocessing, network = rebuild(files, weights, num_outputs=num_outputs)
    except RuntimeError as error:
        raise Damaged(f"{found.folder.at(WEIGHTS)}: {' '.join(str(error).split())[:300]}") from error
    return LoadedModel(found.card, assembly, preprocessing, network.to(device).eval(), files)


def rebuild(
    files: Mapping[str, bytes], weights: "Mapping[str, torch.Tensor]", *, num_outputs: int
) -> "tuple[Assembly, Preprocessing, Network]":
    """Return what a Model's or a commit's own files and weights are; nothing else is read.

    Args:
        files: as `model_files` gives them; others play no part.
        weights: by the names of the state_dict.

    Raises:
        RuntimeError: when the weights do not fit the network.
    """
    import torch

    assembly = assembly_from_json(json.loads(files[ASSEMBLY]))
    preprocessing = restore_preprocessing(assembly, files)
    network = build_network(assembly, preprocessing, num_outputs, pretrained=False)
    # What was trained in 64 bits keeps its digits.
    wide = any(value.dtype == torch.float64 for value in weights.values())
    (network.double() if wide else network).load_state_dict(weights)
    return assembly, preprocessing, network
