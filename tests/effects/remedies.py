"""What the keys of `remedy` do: the final weights of a run that extends a Model."""

import functools

from carryover.ground.storage import open_store
from carryover.models.card import MODELS
from carryover.models.export import write_model
from carryover.train.outcome import model_of
from carryover.train.parent import EXTEND, Parent
from tests.effects.effect import Effect, Flat, digest, scratch, table, trained
from tests.train.attempts import Run, dataset


@functools.cache
def _old() -> Run:
    return trained({})


@functools.cache
def _news() -> object:
    return dataset(scratch() / "news", count=90)


def extended(settings: Flat) -> str:
    """Return a digest of the final weights of a run that extends a small Model on other rows."""
    old, folder = _old(), scratch() / f"extended-{digest(settings)}"
    finish = old.home.finish_record()
    assert finish
    card, files, weights = model_of(old.home, finish)
    store = open_store(str(folder / "store"))
    write_model(store.sub(f"{MODELS}/{card.digest}"), card, files, weights)
    values = {"optimization.max_epochs": 1, **settings}
    parent = Parent(EXTEND, card.at, card.digest)
    run = Run(_news(), store.uri, values, folder / "scratch", parent=parent, old=table())  # pyright: ignore[reportArgumentType]
    run.go()
    done = run.home.finish_record()
    assert done
    entries = run.home.objects.load_table(done.table).tensors
    return digest({name: entry.digest for name, entry in entries.items()})


EFFECTS = {
    "remedy.l2_sp": Effect(1.0, extended),
    "remedy.ewc": Effect(100.0, extended),
    "remedy.ewc_rows": Effect(5, extended, {"remedy.ewc": 100.0}),
    "remedy.lwf": Effect(1.0, extended),
    "remedy.lwf_temperature": Effect(5.0, extended, {"remedy.lwf": 1.0}),
    "remedy.wise_ft": Effect(0.5, extended),
}
