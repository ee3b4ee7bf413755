"""Owns how a step's words for a Model (URI, artifact, run:KEY) become one that can be read. Needs no torch."""

from carryover.ground import storage
from carryover.models.card import CARD, MODELS
from carryover.models.export import Found, find_model, finished_run, write_model
from carryover.train.outcome import model_of


def open_model(source: str, *, store: str) -> Found:
    """Return the Model that `source` names; see `find_model`.

    A finished run's Model that is no longer in the store (or was never put there, because the step died just before)
    is made again from the finish record.

    Raises:
        WrongInput: when there is none.
    """
    if source.startswith("run:"):
        home, finish = finished_run(source.removeprefix("run:"), store)
        place = storage.open_store(storage.join(storage.join(store, MODELS), finish.body["model"]))
        if not place.exists(CARD):
            write_model(place, *model_of(home, finish))
        source = place.uri
    return find_model(source, store=store)
