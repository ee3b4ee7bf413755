"""Owns what a finished run gives: its Model, made from the finish record alone; needs no torch."""

import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from carryover import __version__
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged
from carryover.checkpoint.log import Record
from carryover.checkpoint.store import RawTensor
from carryover.ground import storage
from carryover.ground.errors import WrongInput
from carryover.models.card import CARD, MODELS, WEIGHTS, ModelCard, parse_card
from carryover.models.export import Found, find_model, weights_of
from carryover.train.parent import Parent

LIBRARIES = ("torch", "transformers", "numpy", "pyarrow", "safetensors")


def model_of(home: RunHome, record: Record) -> tuple[ModelCard, dict[str, bytes], dict[str, RawTensor]]:
    """Return card, files and weights of the Model that a finish record describes; needs no torch.

    The run may have been moved since, so the card says where things are now.

    Raises:
        Damaged: when an object is not what was written.
    """
    files = home.read_files(record)
    where = f"{home.store.uri}, record {record.number}"
    card = parse_card(files.pop(CARD, b""), where=where)
    # The card's names are checked; those of a record are not, and files are written under them.
    if {*files, WEIGHTS} != {*card.files}:
        raise Damaged(f"{where}: its files are not those of its Model")
    at = storage.join(storage.join(store_of(home.store.uri), MODELS), card.digest)
    return replace(card, at=at, checkpoint_uri=home.store.uri), files, weights_of(home.read_tensors(record))


def open_parent(parent: Parent, home: str) -> Found:
    """Return the Model that a run extends, from the store that the run lies in now.

    Raises:
        WrongInput: when it is no longer there.
    """
    place = storage.join(storage.join(store_of(home), MODELS), parent.digest)
    try:
        found = find_model(place)
    except WrongInput as error:
        raise WrongInput(f"the Model that this run extends is needed still: {error}", trouble=error.trouble) from None
    if found.card.digest != parent.digest:
        raise Damaged(f"{place}: holds Model {found.card.digest}")
    return found


def versions() -> dict[str, str]:
    """Return what the Model was made with: this package, Python and the libraries that can change a result."""
    found = {"carryover": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def store_of(home: str) -> str:
    """Return the store that a run's home lies in: <store>/runs/<run_key>."""
    return storage.split(storage.split(home)[0])[0]
