"""Owns dataset.json: what a dataset is, where its shards lie, and how a reader finds it again.

    <store>/datasets/<first 32 of digest>/   train-00000.parquet ...  validation-*  test-*   dataset.json (written last)
                                             portrait.json (portrait.py) and dataset.html, for people

A dataset exists when its dataset.json does. The card alone may lie elsewhere (a KFP artifact): its `at` then says where
the shards are, and is believed only when the card there has the same digest.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from carryover.data.schema import Schema
from carryover.ground import storage
from carryover.ground.digests import short
from carryover.ground.errors import WrongInput
from carryover.ground.uris import is_member, reached

CARD = "dataset.json"
FORMAT = 1
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its name in the dataset's folder, rows, size in bytes, and the blake3 of all its bytes."""

    file: str
    rows: int
    size: int
    blake3: str


@dataclass(frozen=True)
class Split:
    """One split: its number of rows and its shards, in order."""

    rows: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class DatasetCard:
    """All of dataset.json.

    Attributes:
        digest: blake3 of the logical content (64 hex characters), see content.py.
        splits: "train", "validation", "test".
        sources: one mapping a source file: role, uri, rows, and the fingerprint it had.
        settings: what was asked for: fractions, given types, given problem type.
        at: canonical URI of the dataset's folder.
        created: time, for people only.
        location: URI of the folder whose shards are to be read; "" until a reader has found them. Not in the file.
    """

    digest: str
    schema: Schema
    splits: Mapping[str, Split]
    sources: tuple[Mapping[str, Any], ...]
    settings: Mapping[str, Any]
    at: str
    created: str
    lineage: Mapping[str, Any] = field(default_factory=dict)
    location: str = ""

    def rows(self) -> dict[str, int]:
        """Return split -> number of rows."""
        return {name: self.splits[name].rows for name in SPLITS}

    def to_json(self) -> dict[str, Any]:
        splits = {
            name: {"rows": split.rows, "shards": [vars(shard) for shard in split.shards]}
            for name, split in self.splits.items()
        }
        return {
            "format": FORMAT,
            "kind": "dataset",
            "digest": self.digest,
            **self.schema.to_json(),
            "splits": splits,
            "sources": [dict(source) for source in self.sources],
            "settings": dict(self.settings),
            "at": self.at,
            "created": self.created,
            "lineage": dict(self.lineage),
        }

    def to_bytes(self) -> bytes:
        """Return the bytes of dataset.json."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "DatasetCard":
        splits = {
            name: Split(split["rows"], tuple(Shard(**shard) for shard in split["shards"]))
            for name, split in value["splits"].items()
        }
        return cls(
            digest=value["digest"],
            schema=Schema.from_json(value),
            splits=splits,
            sources=tuple(value["sources"]),
            settings=value["settings"],
            at=value["at"],
            created=value["created"],
            lineage=value["lineage"],
        )


def folder_of(digest: str) -> str:
    """Return the name of a dataset's folder inside a store."""
    return f"datasets/{short(digest)}"


def load_card(uri: str) -> DatasetCard:
    """Open a dataset by the URI of its folder, of its dataset.json, or of a folder that holds a card only.

    The shards are taken beside the card where all are there, else from the card's `at`. Their bytes are verified when
    they are read (rows.py).

    Raises:
        WrongInput: no card there, a file that is no card, or shards that are nowhere.
    """
    folder = storage.split(uri)[0] if uri.endswith(".json") else storage.normal(uri)
    card = read_card(folder, name=storage.split(uri)[1] if uri.endswith(".json") else CARD)
    if complete(card, folder):
        return replace(card, location=folder)
    if card.at and card.at != folder:
        there = read_card(reached(card.at, uri))
        if there.digest != card.digest:
            raise WrongInput(
                f"{uri}: the card says dataset {short(card.digest)} lies at {card.at}, but {short(there.digest)} does; "
                "run prepare-data again"
            )
        if complete(there, card.at):
            return replace(card, location=card.at)
    raise WrongInput(f"{card.at or folder}: shards of dataset {short(card.digest)} are missing; run prepare-data again")


def find_dataset(dataset: Mapping[str, Any], *, store: str) -> tuple[DatasetCard | None, tuple[str, ...]]:
    """Look for a Dataset that another card names, in the store of now, which may have been moved, and where it was.

    Args:
        dataset: its "digest" and "uri".
        store: URI of the store; "" for none.

    Returns:
        its card, ready to be read, None where it is gone; and the places that were looked at.
    """
    places = [storage.join(storage.normal(store), folder_of(dataset["digest"]))] if store else []
    places += [str(dataset.get("uri") or "")]
    places = list(dict.fromkeys(place for place in places if place))
    for place in places:
        try:
            card = load_card(place)
        except (WrongInput, PermissionError):
            # Gone, cut, or not for us any more: the next place may have it. Other trouble of a store is no answer.
            continue
        if card.digest == dataset["digest"]:
            return card, tuple(places)
    return None, tuple(places)


def read_card(folder: str, *, name: str = CARD) -> DatasetCard:
    """Read the card in a folder, wherever its shards are.

    Raises:
        WrongInput: no card there, or a file that is no card.
    """
    where = storage.join(folder, name)
    try:
        data = storage.open_store(folder).read(name)
    except (FileNotFoundError, NotADirectoryError):
        raise WrongInput(f"{where}: no dataset there; give what 'carryover prepare-data' printed as uri") from None
    try:
        value = json.loads(data)
        if value["kind"] != "dataset":
            raise WrongInput(f"{where}: describes a {value['kind']}, not a dataset")
        if value["format"] != FORMAT:
            raise WrongInput(
                f"{where}: has format {value['format']}; this version reads format {FORMAT}; use the one that wrote it"
            )
        card = DatasetCard.from_json(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, WrongInput):
            raise
        raise WrongInput(f"{where}: is not a whole dataset card ({storage.first_line(error)})") from error
    outside = [shard.file for split in card.splits.values() for shard in split.shards if not is_member(shard.file)]
    if outside:
        raise WrongInput(
            f"{where}: names the file {outside[0]!r}, which is not inside its own folder; it is not read",
            trouble="bad-uri",
        )
    return card


def complete(card: DatasetCard, folder: str) -> bool:
    """Tell whether all shards lie in a folder, each with its size; one listing where the folder is bare."""
    store = storage.open_store(folder)
    shards = [shard for split in card.splits.values() for shard in split.shards]
    names = set(store.names())
    if not {shard.file for shard in shards} <= names:
        return False
    return all(store.size(shard.file) == shard.size for shard in shards)
