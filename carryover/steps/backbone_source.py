"""Owns how the words for what a Backbone is dumped from become files and weights. Needs no torch.

URI of a Model, a folder with its card, run:KEY, champion:NAME     its final weights
URI of a run's home, run:KEY@STEP                                  those of one of its commits; the run may be alive
   …/runs/KEY            the newest commit
   …/runs/KEY@1200       the one at step 1200
   …/runs/KEY@best       the one with the best validation score so far
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from carryover.carry.lineage import chain
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged
from carryover.checkpoint.log import Record
from carryover.checkpoint.pack import RawTensor, parse
from carryover.ground import storage
from carryover.ground.console import warn
from carryover.ground.errors import RunAgain, WrongInput
from carryover.models.card import ASSEMBLY, CARD, WEIGHTS
from carryover.models.export import PREFIX, weights_of
from carryover.steps.model_source import open_model

BEST = "best"
_RUN = "run:"
_WORDS = (_RUN, "champion:")
_AT = re.compile(rf"(.+)@(\d+|{BEST})")
# So often a reader of a living run begins anew, because what it read was removed meanwhile.
_LOOKS = 20


@dataclass(frozen=True)
class Trained:
    """A network at rest: what it is made of and its weights, every byte verified.

    Attributes:
        files: as `export.model_files` gives them.
        weights: by the names of the state_dict.
        model, checkpoint, run_key, step, dataset, parent: as the Backbone's card has them.
        words: which one it is, for people.
    """

    files: Mapping[str, bytes] = field(repr=False)
    weights: Mapping[str, RawTensor] = field(repr=False)
    model: Mapping[str, Any] | None
    checkpoint: Mapping[str, Any] | None
    run_key: str
    step: int
    dataset: Mapping[str, Any]
    parent: Mapping[str, Any] | None
    words: str


def open_trained(source: str, *, store: str) -> Trained:
    """Return what a person's words name; see the module.

    Raises:
        WrongInput: when there is none.
        Damaged: when its bytes are not those that were written.
        RunAgain: when a living run removes its commits faster than they can be read.
    """
    said = _AT.fullmatch(source)
    if said and not _is_model(source):
        return _of_commit(_home(said[1], store), said[2])
    if source.startswith(_RUN) and _home(source, store).finish_record() is None:
        raise WrongInput(
            f"{source}: has not finished, so it has no Model yet; {source}@STEP or {source}@{BEST} is a commit of it"
        )
    if not source.startswith(_WORDS) and not _is_model(source):
        home = RunHome(storage.open_store(source))
        if home.exists():
            return _of_commit(home, "")
    return _of_model(source, store)


def _is_model(source: str) -> bool:
    """Tell whether a card lies there, whatever the name of the folder looks like."""
    if source.startswith(_WORDS):
        return False
    return source.endswith(".json") or storage.open_store(source).exists(CARD)


def _of_model(source: str, store: str) -> Trained:
    found = open_model(source, store=store)
    card = found.card
    return Trained(
        files=found.files(),
        weights=parse(found.read(WEIGHTS)),
        model={"digest": card.digest, "uri": found.folder.uri, "lineage": chain(card)},
        checkpoint=None,
        run_key=card.run_key,
        step=card.step,
        dataset=card.dataset,
        parent=card.parent,
        words=f"Model {card.digest}",
    )


def _home(place: str, store: str) -> RunHome:
    if place.startswith(_RUN):
        home = RunHome.open(storage.open_store(store), place.removeprefix(_RUN))
        if not home.exists():
            raise WrongInput(f"{place}: there is no such run in {store}")
        return home
    return RunHome.at(place)


def _of_commit(home: RunHome, at: str) -> Trained:
    for _ in range(_LOOKS):
        head, problems = home.log.head(), []
        for record in _chosen(home, at):
            try:
                trained = _read(home, record)
            except Damaged as error:
                # Damage, or the retention of a living attempt? Only who has written a record since may have removed it.
                if home.log.has_grown(head):
                    break
                problems.append(f"commit {record.number} (step {record.step}) can't be used: {error}")
                continue
            for problem in problems:
                warn(f"{home.store.uri}: {problem}")
            return trained
        else:
            raise Damaged(f"{home.store.uri}: {'; '.join(problems)}")
    raise RunAgain(
        f"{home.store.uri}: its checkpoints change faster than they can be read; try again later", trouble="busy"
    )


def _chosen(home: RunHome, at: str) -> Iterator[Record]:
    """Yield the commits that will do, the best suited first."""
    kept = home.commits()
    if not kept:
        raise WrongInput(f"{home.store.uri}: no commit yet; its training has to get further first")
    if not at:
        yield from reversed(kept)
        return
    step = kept[-1].state.get("best_step", -1) if at == BEST else int(at)
    if step < 0:
        raise WrongInput(f"{home.store.uri}@{BEST}: no validation has a score yet; leave out @{BEST} for the newest")
    fitting = [record for record in kept if record.step == step]
    if not fitting:
        steps = ", ".join(str(record.step) for record in kept)
        raise WrongInput(f"{home.store.uri}@{at}: no commit of step {step} is kept; there are those of steps {steps}")
    yield fitting[-1]


def _read(home: RunHome, record: Record) -> Trained:
    files = home.read_files(record)
    if ASSEMBLY not in files:
        raise WrongInput(
            f"{home.store.uri}: its commits don't say what the network is made of; it was not trained here",
            trouble="not-a-backbone",
        )
    run = home.run()
    return Trained(
        files=files,
        weights=weights_of(home.read_tensors(record, PREFIX)),
        model=None,
        checkpoint={"uri": home.store.uri, "number": record.number, "step": record.step},
        run_key=run.get("run_key", ""),
        step=record.step,
        dataset=run.get("dataset") or {},
        parent=run.get("parent"),
        words=f"commit {record.number} (step {record.step}) of {home.store.uri}",
    )
