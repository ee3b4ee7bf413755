"""Owns how a step's words for a Model (URI, artifact, run:KEY, champion:NAME) become one that can be read. No torch."""

from dataclasses import replace
from typing import Any

from carryover.carry import champion
from carryover.data.manifest import find_dataset
from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.ground.storage import Store
from carryover.models.card import CARD, MODELS
from carryover.models.export import Found, find_model, finished_run, write_model
from carryover.train.outcome import model_of


def open_model(source: str, *, store: str) -> Found:
    """Return the Model that `source` names; see `find_model`, and `champion:NAME` for the champion of now.

    A finished run's Model that is no longer in the store (or was never put there, because the step died just before)
    is made again from the finish record.

    Raises:
        WrongInput: when there is none.
    """
    if source.startswith(champion.PREFIX):
        source = champion.resolve(source, storage.open_store(store))
    if source.startswith("run:"):
        home, finish = finished_run(source.removeprefix("run:"), store)
        place = storage.open_store(storage.join(storage.join(store, MODELS), finish.body["model"]))
        if not place.exists(CARD):
            write_model(place, *model_of(home, finish))
        source = place.uri
    return find_model(source, store=store)


def kept(found: Found, store: Store) -> str:
    """Return a Model's place in this store, where it is copied to from anywhere else.

    An artifact's folder ends with its pod, and a store is moved as a whole: so whoever names the Model finds it there.
    """
    place = store.sub(f"{MODELS}/{found.card.digest}")
    if place.uri != found.folder.uri:
        try:
            find_model(place.uri)
        except WrongInput:
            say(f"Model {found.card.digest} is copied to {place.uri}")
            storage.copy_tree(found.folder, place, sorted(found.card.files))
            place.write(CARD, replace(found.card, at=place.uri).to_bytes())
    return place.uri


def facts_of(found: Found, *, store: str) -> dict[str, Any]:
    """Return what a pipeline wants to know of a Model: where it and its Dataset lie, and their digests.

    A Dataset that is nowhere to be found is named by the place where it was, for whoever needs it to say so.
    """
    dataset = found.card.dataset
    there, _ = find_dataset(dataset, store=store) if dataset else (None, ())
    return {
        "model_uri": found.folder.uri,
        "digest": found.card.digest,
        "dataset_uri": there.location if there else dataset.get("uri", ""),
        "dataset_digest": dataset.get("digest", ""),
        "problem_type": found.card.schema.problem_type,
    }
