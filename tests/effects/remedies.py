"""What the keys of `remedy`, and of extending a Model at all, do: the final weights of a run that extends one."""

import functools

from carryover.data.manifest import DatasetCard
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
def _news() -> DatasetCard:
    return dataset(scratch() / "news", count=90)


def extended(settings: Flat) -> str:
    """Return a digest of the final weights of a run that extends a small Model on other rows."""
    old = _old()
    card, files, weights = model_of(old.home, old.finish())
    write_model(open_store(old.store).sub(f"{MODELS}/{card.digest}"), card, files, weights)
    values = {"optimization.max_epochs": 1, **settings}
    run_key = digest(settings)[:8]
    run = Run(
        _news(),
        old.store,
        values,
        scratch() / f"extended-{run_key}",
        run_key=run_key,
        parent=Parent(EXTEND, card.at, card.digest, run_key=old.run_key),
        old=table(),
    )
    run.go()
    done = run.home.finish_record()
    assert done
    entries = run.home.objects.load_table(done.table).tensors
    return digest({name: entry.digest for name, entry in entries.items()})


EFFECTS = {
    "optimization.carry_optimizer": Effect(True, extended),
    "remedy.l2_sp": Effect(1.0, extended),
    "remedy.ewc": Effect(100.0, extended),
    "remedy.ewc_rows": Effect(5, extended, {"remedy.ewc": 100.0}),
    "remedy.lwf": Effect(1.0, extended),
    "remedy.lwf_temperature": Effect(5.0, extended, {"remedy.lwf": 1.0}),
    "remedy.wise_ft": Effect(0.5, extended),
}
