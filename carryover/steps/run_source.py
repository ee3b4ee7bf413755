"""Owns how a person's words for a run (key, run:KEY, champion:NAME, a Model, a home) become its home. No torch."""

from carryover.carry.lineage import MODEL, read_card
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import RUNS
from carryover.ground import storage
from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput
from carryover.models.card import ModelCard
from carryover.steps.model_source import open_model
from carryover.steps.results import resolve_store

_RUN, _CHAMPION = "run:", "champion:"


def find_run(source: str, *, store: str = "") -> RunHome:
    """Return the run that a person names, finished or not.

    Args:
        source: a run's key, run:KEY, champion:NAME, or the URI of a run's home, of a Model's folder or of its card.
        store: for keys and champions, and where a run is looked for whose store was moved.

    Raises:
        WrongInput: when there is none.
    """
    if source.startswith(_CHAMPION):
        return run_of(open_model(source, store=resolve_store(store)).card, store=store)
    key = source.removeprefix(_RUN)
    if source.startswith(_RUN) or not ("/" in source or storage.open_store(source).names()):
        return _named(key, resolve_store(store))
    home = RunHome(storage.open_store(source))
    if not source.endswith(".json") and home.exists():
        return home
    try:
        card = read_card(source)
    except WrongInput:
        raise WrongInput(
            f"{home.store.uri}: neither a run nor a Model there; give a run's key, its home, or a Model's URI",
            trouble="no-such-run",
        ) from None
    if not isinstance(card, ModelCard):
        words = f"{source}: is a Backbone, which has no run of its own; name the run of its Model"
        raise WrongInput(words, trouble="not-a-model")
    return run_of(card, store=store)


def run_of(card: ModelCard, *, store: str = "") -> RunHome:
    """Return the run that made a Model: beside it, in `store`, or where its card says.

    Raises:
        WrongInput: when it is in none of these places.
    """
    stores = [storage.split(storage.split(card.at)[0])[0] if card.at else "", storage.normal(store) if store else ""]
    places = [storage.join(storage.join(one, RUNS), card.run_key) for one in stores if one]
    places += [card.checkpoint_uri] if card.checkpoint_uri else []
    for place in dict.fromkeys(places):
        home = RunHome(storage.open_store(place))
        if home.exists():
            return home
    raise WrongInput(
        f"{MODEL} {card.digest}: its run {card.run_key} is gone, it is in none of {', '.join(places) or 'no store'}",
        trouble="no-such-run",
    )


def _named(key: str, store: str) -> RunHome:
    where = storage.open_store(store)
    home = RunHome.open(where, key)
    if not home.exists():
        keys = where.folders(RUNS)
        near = nearest(key, keys) or next((one for one in keys if one.startswith(key)), "")
        meant = f"; did you mean {near}?" if near else f"; it has {', '.join(keys[:5])}" if keys else "; it has none"
        raise WrongInput(f"{key}: there is no such run in {where.uri}{meant}", trouble="no-such-run")
    return home
