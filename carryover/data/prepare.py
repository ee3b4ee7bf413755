"""Owns how source files become a dataset in a store, once for each content.

fingerprints of the files --> <store>/datasets/sources/<key>.json names the dataset they gave, and the folders of the
images they name, all as they were: nothing is read
otherwise: first pass (survey.py), second pass (shards.py) to a scratch folder --> digest of the content
digest known --> the dataset is there already      else --> shards, portrait, then dataset.json, then the index entry
"""

import datetime
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from carryover.data import drift, manifest, portrait
from carryover.data.content import dataset_digest
from carryover.data.embed import unchanged
from carryover.data.follow import Followed, Reference
from carryover.data.manifest import CARD, SPLITS, DatasetCard
from carryover.data.request import ROLES, Request
from carryover.data.schema import Column, Schema
from carryover.data.shards import Written, write_shards
from carryover.data.split import Fractions
from carryover.data.survey import Survey, survey
from carryover.ground import storage
from carryover.ground.console import say, warn
from carryover.ground.digests import canonical, digest, short
from carryover.ground.errors import CarryoverError, WrongInput
from carryover.ground.storage import Store

# Raised when a rule changes so that the same files would give another dataset: the index then forgets the old ones.
RULES = 2
# A file may change again within its clock's tick without a trace, so one as young as this is not put in the index.
YOUNG_SECONDS = 3.0


@dataclass(frozen=True)
class Prepared:
    """A dataset in a store, and whether it was written just now."""

    card: DatasetCard
    changed: bool


def prepare(request: Request, store: Store) -> Prepared:
    """Make sure that the store holds the dataset that the request describes.

    Raises:
        WrongInput: whatever in the request or the data cannot be used.
        CarryoverError: the files changed while they were read.
    """
    prints = _fingerprints(request)
    asked = {"rules": RULES, "files": prints, "label": request.label or request.target, **_settings(request)}
    key = short(digest(canonical(asked)))
    index = f"datasets/sources/{key}.json"
    known = _known(store, index)
    if known is not None:
        say(f"source unchanged: dataset {short(known.digest)}")
        return Prepared(_described(known, request), changed=False)
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="carryover-prepare-") as scratch:
        folder = Path(scratch)
        found = survey(request, folder / "codes")
        written = write_shards(request, found, folder / "codes", folder)
        if _fingerprints(request) != prints:
            raise CarryoverError(
                "the source files changed while they were read; run prepare-data again", trouble="source-changed"
            )
        _say_splits(request, found, written)
        card = _card(request, found, written, prints, store)
        changed = _publish(card, folder, store)
    rested = all(started - entry.get("mtime", 0) / 1e9 > YOUNG_SECONDS for entry in prints)
    if rested and written.images is not None:
        store.write(index, canonical({"digest": card.digest, "images": written.images}))
    return Prepared(_described(manifest.read_card(card.at), request), changed)


def _fingerprints(request: Request) -> list[dict[str, Any]]:
    return [{"role": role, **file.fingerprint()} for role in ROLES for file in request.files[role]]


def _settings(request: Request) -> dict[str, Any]:
    # What was left out of the data before is left out of these, so whoever follows them leaves it out too.
    types = dict(request.column_types) | dict.fromkeys(sorted(request.unwanted), "null")
    roots = sorted({file.image_root for files in request.files.values() for file in files} - {""})
    return {
        **({"ignore_label": request.ignore_label} if request.ignore_label is not None else {}),
        **({"image_root": roots} if roots else {}),
        "problem_type": request.problem_type,
        "column_types": types,
        "fractions": asdict(request.fractions),
        **(request.reference.settings() if request.reference else {}),
    }


def _described(card: DatasetCard, request: Request) -> DatasetCard:
    """Return a card of the store with the lineage of this request: the same content may have been prepared before."""
    return replace(card, lineage=_lineage(request.reference, card.schema))


def _lineage(reference: Reference | None, schema: Schema) -> dict[str, Any]:
    """Return what a card says of the schema that its data follow."""
    if reference is None:
        return {}
    before = reference.schema.classes or ()
    return {
        "schema_from": {"kind": reference.kind, "digest": reference.digest, "uri": reference.uri},
        "grown": [value for value in schema.classes or () if value not in before],
        "drift": [found.to_json() for found in drift.measure(reference, schema)],
    }


def _known(store: Store, index: str) -> DatasetCard | None:
    """Return the dataset that an index entry names, if it is still whole."""
    try:
        entry = json.loads(store.read(index))
    except FileNotFoundError:
        return None
    return _whole(store, entry["digest"]) if unchanged(entry["images"]) else None


def _whole(store: Store, found: str) -> DatasetCard | None:
    """Return the card of a dataset that is there with all its shards, None where something is missing."""
    folder = store.at(manifest.folder_of(found))
    if not storage.open_store(folder).exists(CARD):
        return None
    try:
        card = manifest.read_card(folder)
    except WrongInput:
        # A card that does not read is no card: the dataset is written again.
        return None
    return replace(card, location=folder) if card.digest == found and manifest.complete(card, folder) else None


def _card(
    request: Request, found: Survey, written: Written, prints: Sequence[Mapping[str, Any]], store: Store
) -> DatasetCard:
    columns = tuple(
        Column(plan.name, plan.type, plan.stored, written.statistics.get(plan.name, {})) for plan in found.columns
    )
    schema = Schema(request.target, found.problem_type, found.classes, columns)
    content = dataset_digest(schema, written.summaries)
    sources = tuple({**entry, "rows": found.file_rows[entry["uri"]]} for entry in prints)
    at = store.at(manifest.folder_of(content))
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    lineage = _lineage(request.reference, schema)
    return DatasetCard(content, schema, written.splits, sources, _settings(request), at, created, lineage)


def _publish(card: DatasetCard, folder: Path, store: Store) -> bool:
    """Copy shards and then the card into the store, unless the dataset is there; return whether it was copied."""
    if _whole(store, card.digest) is not None:
        say(f"dataset {short(card.digest)} is there already, with the same content")
        return False
    home = storage.open_store(card.at)
    # The marker goes first and comes last: while shards are replaced, no reader takes the folder for a dataset.
    home.delete(CARD)
    for split in card.splits.values():
        for shard in split.shards:
            home.upload(folder / shard.file, shard.file)
    # Here, where the shards still lie on this machine: looked at later, they would have to be fetched.
    home.write(portrait.FILE, portrait.portray(replace(card, location=str(folder)), folder).to_bytes())
    home.write(CARD, card.to_bytes())
    return True


def _say_splits(request: Request, found: Survey, written: Written) -> None:
    """Say what is worth knowing of the splits."""
    rows = {name: written.splits[name].rows for name in SPLITS}
    if not rows["test"]:
        say("the test split is empty; evaluate will need another split or dataset")
    if found.whole:
        shown = ", ".join(repr(value) for value in sorted(found.whole)[:10])
        more = f" and {len(found.whole) - 10} more" if len(found.whole) > 10 else ""
        say(f"too small to split, so all in train: {shown}{more}")
    if found.followed:
        _say_followed(found.followed)
    total = sum(found.file_rows[file.uri] for file in request.files["source"])
    _check_shares(rows, total, request)


def _say_followed(found: Followed) -> None:
    """Say what of the new data is not as a schema that they follow has it."""
    if found.unused:
        say(f"not in the schema that is followed, so not used: {', '.join(found.unused)}")
    if found.widened:
        say(f"whole numbers so far, stored as real ones now: {', '.join(found.widened)}")
    if found.grown:
        say(f"new classes, behind the known ones: {', '.join(map(repr, found.grown))}")


def _check_shares(rows: Mapping[str, int], total: int, request: Request) -> None:
    """Warn where a split is far from what was asked for, which only rows that repeat can bring about."""
    shares: Fractions = request.shares
    for name, share in asdict(shares).items():
        spread = math.sqrt(total * share * (1 - share))
        if not request.files.get(name) and abs(rows[name] - total * share) > 5 * spread + 1:
            warn(
                f"{name} has {rows[name] / total:.1%} of the rows where {share:.1%} were asked for: many rows "
                "are equal but for the label, and such rows stay together; --validation-source names rows of your own"
            )
