"""Owns what `carryover report` and `carryover curves` do: a run's page or pictures, made now, wherever it stands.

one run             report.html in its home      or: its pictures in a folder
several             their lines over each other
generations         the runs that led to a Model, one after the other: pictures and a page
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from carryover import __version__
from carryover.carry import champion
from carryover.carry.champion import CHAMPIONS
from carryover.carry.lineage import MODEL, Card, Known, Node, ancestry, read_card
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import RUNS
from carryover.ground import storage
from carryover.ground.console import warn
from carryover.ground.errors import CarryoverError, WrongInput
from carryover.ground.storage import Store, first_line
from carryover.report import generations as lives
from carryover.report.curve import Curve, read_curve
from carryover.report.curves import pictures
from carryover.report.generations import Generation, Verdict
from carryover.report.times import moment
from carryover.steps.run_source import find_run
from carryover.steps.training_report import REPORT, drawn_of, model_card, page_of
from carryover.tasks.metrics import METRICS
from carryover.train.outcome import store_of

PAGE = "generations.html"


def report(source: str, *, store: str = "", output: str = "") -> str:
    """Make the report of a run as it is now, and return where it was written.

    Args:
        source: see `run_source.find_run`.
        output: folder, or file that ends with .html, to write it to, a path or URI; "" for the run's own folder.

    Raises:
        WrongInput: when there is no such run.
    """
    home = find_run(source, store=store)
    if output and not output.endswith(".html"):
        output = storage.join(output, REPORT)
    folder, name = storage.split(output) if output else (home.store.uri, REPORT)
    place = storage.open_store(folder)
    place.write(name, page_of(home, generations=life_of(home)).encode())
    return output or place.at(name)


def curves(sources: Sequence[str], *, store: str = "", output: str = "curves", generations: bool = False) -> list[str]:
    """Draw the curves of runs into a folder, and return the files' places.

    Args:
        sources: see `run_source.find_run`; several are drawn over each other.
        generations: draw the whole life of the one Model that is named.

    Raises:
        WrongInput: when there is no such run, or it has no curve yet.
    """
    if generations and len(sources) > 1:
        raise WrongInput("--generations: tells the life of one model; name one run or Model")
    homes = [find_run(source, store=store) for source in sources]
    files = _life_files(homes[0]) if generations else pictures([drawn_of(home) for home in homes])
    if not files:
        words = f"{homes[0].store.uri}: has no curve yet; the first step that is logged begins one"
        raise WrongInput(words, trouble="no-such-run")
    place = storage.open_store(output)
    for name, data in files.items():
        place.write(name, data)
    return [storage.join(output, name) for name in files]


def life_of(home: RunHome) -> str:
    """Return the card of a run's generations for its report, "" where it is the first of its model."""
    parent = home.run().get("parent") or {}
    if not parent.get("run_key"):
        return ""
    try:
        life, rejected = _life(home)
    except (CarryoverError, OSError) as error:
        warn(f"generations before {home.store.uri} can't be told: {first_line(error)}")
        return ""
    return lives.life_card(life, rejected, greatest=_greatest(life)) if len(life) > 1 else ""


def _life_files(home: RunHome) -> dict[str, bytes]:
    life, rejected = _life(home)
    for one in life:
        if one.gone:
            warn(f"generation {one.node.digest[:12]} (run {one.node.run_key or 'unknown'}): {one.gone}")
    foot = f"Made by carryover {__version__}, {moment(time.time())} UTC"
    card = lives.life_card(life, rejected, greatest=_greatest(life))
    title = f"run {storage.split(home.store.uri)[1]} · {len(life)} generation{'s' if len(life) > 1 else ''}"
    text = lives.life_page(title, card, foot=foot)
    return {**lives.life_pictures(life, rejected), PAGE: text.encode()}


def _life(home: RunHome) -> tuple[list[Generation], list[Verdict]]:
    """Return the generations of a run's model, oldest first, its own last; and candidates that were rejected."""
    store = store_of(home.store.uri)
    known = list(reversed(_ancestors(home, store)))
    names = [one for one in known if one.node.kind == MODEL]
    verdicts = _verdicts(storage.open_store(store), {one.node.digest for one in names})
    life = [_generation(one, store, verdicts) for one in names]
    finish = home.finish_record()
    if finish is None or not life or life[-1].node.run_key != storage.split(home.store.uri)[1]:
        life.append(_unfinished(home))
    own = {one.node.digest for one in life}
    return life, [one for one in verdicts if one.kind == "reject" and one.model not in own]


def _ancestors(home: RunHome, store: str) -> Sequence[Known]:
    """Return a run's Model and what it was made from, newest first; of one that has none yet, its parent's."""
    card: Card | None = model_card(home)
    if card is None:
        parent = home.run().get("parent") or {}
        try:
            card = read_card(parent["uri"]) if parent.get("uri") else None
        except WrongInput:
            card = None
    return ancestry(card, stores=[store]) if card else ()


def _generation(one: Known, store: str, verdicts: Sequence[Verdict]) -> Generation:
    node = one.node
    own = tuple(verdict for verdict in verdicts if verdict.model == node.digest)
    places = [store, storage.split(storage.split(node.uri)[0])[0] if node.uri else ""]
    for place in dict.fromkeys(place for place in places if place and node.run_key):
        home = storage.open_store(storage.join(storage.join(place, RUNS), node.run_key))
        curve = read_curve(home)
        if curve.series:
            return Generation(node, curve, "", _unix(node.made), own)
    return Generation(node, Curve(), one.gone or "its run is gone", _unix(node.made), own)


def _unfinished(home: RunHome) -> Generation:
    parent, curve = home.run().get("parent") or {}, read_curve(home.store)
    node = Node(
        MODEL, "", "", by=parent.get("kind", ""), run_key=storage.split(home.store.uri)[1], step=curve.last_step
    )
    return Generation(replace(node, reason="not finished"), curve, "", float("nan"))


def _verdicts(store: Store, models: set[str]) -> list[Verdict]:
    """Return all decisions of the names under which one of these Models was decided about, oldest first."""
    found: list[Verdict] = []
    for name in store.folders(CHAMPIONS):
        try:
            decisions = champion.history(store, name).decisions
        except CarryoverError as error:
            warn(f"decisions about {name} can't be told: {first_line(error)}")
            continue
        if any(one.model.digest in models for one in decisions):
            found += [
                Verdict(one.kind, name, _unix(one.time), one.model.digest, one.reason, one.metrics) for one in decisions
            ]
    return sorted(found, key=lambda one: one.time)


def _greatest(life: Sequence[Generation]) -> dict[str, bool]:
    return {name: METRICS[name].greater_is_better for name in lives.measures(life) if name in METRICS}


def _unix(time: str) -> float:
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return float("nan")
