"""Owns the report and the pictures of a training: made from its run's folder, at the end and at any other time.

<run home>/report.html           the page, complete in itself
<run home>/curves/<name>.png     loss, each validation metric, learning rate, throughput ...; also .svg
DIR/report.html, DIR/curves/     the same in the output folder

What can't be drawn never fails a training: it is one warning. No torch.
"""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from carryover import __version__
from carryover.carry import lineage, tables
from carryover.carry.lineage import Known
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged
from carryover.checkpoint.log import Record
from carryover.data.manifest import find_dataset
from carryover.ground import storage
from carryover.ground.errors import CarryoverError
from carryover.ground.storage import Store
from carryover.models.card import CARD, MODELS, ModelCard, parse_card
from carryover.report.attempts import RUNNING, Attempt, read_attempts
from carryover.report.curve import Curve, read_curve
from carryover.report.curves import Drawn, pictures
from carryover.report.times import moment
from carryover.report.training import Facts, Setting, best_of, marks_of, training_page
from carryover.tasks.metrics import METRICS
from carryover.train import recipe as recipes
from carryover.train.outcome import store_of
from carryover.train.parent import EXTEND

REPORT, CURVES = "report.html", "curves"
# Only the page of a run that has finished says so.
ENDED = "has finished"
_WHAT = {EXTEND: "extends a Model", "transfer": "starts a new task from"}


def page_of(home: RunHome, *, curve: Curve | None = None, generations: str = "") -> str:
    """Return the report of a run as it is now.

    Args:
        curve: where a newer one is known than the home has.
        generations: HTML of the runs before it.

    Raises:
        Damaged: when run.json can't be believed.
    """
    curve = curve or read_curve(home.store)
    attempts = read_attempts(home, curve)
    facts = facts_of(home, curve, attempts, generations=generations)
    foot = f"Made by carryover {__version__}, {moment(time.time())} UTC"
    return training_page(facts, curve, attempts, foot=foot)


def pictures_of(home: RunHome, *, curve: Curve | None = None) -> dict[str, bytes]:
    """Return the pictures of a run as they are now: file name -> content. Imports matplotlib."""
    return pictures([drawn_of(home, curve=curve)])


def drawn_of(home: RunHome, *, curve: Curve | None = None, name: str = "") -> Drawn:
    """Return a run as pictures need it."""
    curve = curve or read_curve(home.store)
    metric, greatest = metric_of(curve)
    best = best_of(curve, metric, greatest=greatest) if metric else None
    marks = marks_of(read_attempts(home, curve))
    return Drawn(name or _key(home), curve, marks, {f"val_{metric}": best} if best else {})


def metric_of(curve: Curve) -> tuple[str, bool]:
    """Return the name of the validation metric and whether more is better, "" where there was no validation."""
    if not curve.checks:
        return "", True
    name = curve.checks[-1].removeprefix("val_")
    return name, METRICS[name].greater_is_better if name in METRICS else True


def facts_of(home: RunHome, curve: Curve, attempts: Sequence[Attempt], *, generations: str = "") -> Facts:
    """Return what a run's folder says of it beside its course."""
    run, finish = home.run(), home.finish_record()
    last = home.latest_claim()
    settings = recipes.settings_of(run["recipe"], last.body["changes"] if last else {})
    ended = finish if finish and last and finish.number > last.number else None
    metric, greatest = metric_of(curve)
    parent = run.get("parent") or {}
    store = store_of(home.store.uri)
    return Facts(
        run_key=run.get("run_key") or _key(home),
        home=home.store.uri,
        step="transfer-train" if parent.get("kind") == "transfer" else "train-ddp",
        standing=_standing(ended, attempts),
        metric=metric,
        greatest=greatest,
        finished=ended.body.get("reason", "") if ended else "",
        state=_state(home, ended, curve),
        settings=_settings(settings),
        data=_data(run["dataset"], store),
        parent=_parent(parent),
        transfer=_transfer(home),
        lineage=_lineage(home, ended, parent, store),
        versions=[*run.get("versions", {}).items(), ("begun", run.get("created", ""))],
        resume=_commands(run, home, store, finished=bool(ended)),
        generations=generations,
    )


def _key(home: RunHome) -> str:
    return storage.split(home.store.uri)[1]


def _standing(finish: Record | None, attempts: Sequence[Attempt]) -> str:
    if finish:
        return f"{ENDED} ({finish.body.get('reason', '')})"
    if not attempts:
        return "no attempt yet"
    last = attempts[-1]
    where = f"newest commit at step {last.commits[-1].step:,}" if last.commits else f"from step {last.from_step:,}"
    state = "may be running" if last.reason == RUNNING else last.reason
    return f"not finished: attempt {last.number}, {where}, {state}"


def _state(home: RunHome, finish: Record | None, curve: Curve) -> Mapping[str, Any]:
    if finish:
        metrics = finish.body.get("metrics", {})
        return {"step": metrics.get("steps"), "epoch": metrics.get("epochs"), **metrics}
    commits = home.commits()
    return commits[-1].state if commits else {"step": curve.last_step}


def _settings(settings: Mapping[str, Any]) -> list[Setting]:
    try:
        known = recipes.keys_of(recipes.make(settings))
    except CarryoverError:
        known = recipes.keys()  # Of another version, whose keys are not ours.
    found = []
    for name, value in sorted(settings.items()):
        default = known[name].default if name in known else None
        found.append(Setting(name, value, list(default) if isinstance(default, tuple) else default))
    return found


def _data(dataset: Mapping[str, Any], store: str) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = [("at", dataset.get("uri", "")), ("digest", dataset.get("digest", ""))]
    card, _ = find_dataset(dataset, store=store)
    if card is None:
        return [*pairs, ("state", "it is not there any more")]
    schema = card.schema
    rows = ", ".join(f"{name} {rows:,}" for name, rows in card.rows().items())
    classes = schema.classes or ()
    pairs += [("rows", rows), ("problem", schema.problem_type), ("label", schema.label)]
    if classes:
        shown = ", ".join(map(str, classes[:12]))
        pairs.append(("classes", f"{len(classes):,}: {shown}{', …' if len(classes) > 12 else ''}"))
    kinds: dict[str, int] = {}
    for column in schema.features():
        kinds[column.type] = kinds.get(column.type, 0) + 1
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return [*pairs, ("columns", told), ("prepared", card.created)]


def _parent(parent: Mapping[str, Any]) -> list[tuple[str, object]]:
    names = ("uri", "digest", "run_key", "step", "checkpoint_uri")
    pairs: list[tuple[str, object]] = [(name, parent[name]) for name in names if parent.get(name)]
    return [("how", _WHAT.get(parent["kind"], parent["kind"])), *pairs] if parent else []


def _transfer(home: RunHome) -> Mapping[str, Any]:
    try:
        return json.loads(home.store.read(tables.FILE))
    except (FileNotFoundError, ValueError):
        return {}


def _lineage(home: RunHome, finish: Record | None, parent: Mapping[str, Any], store: str) -> Sequence[Known]:
    """Return where the Model comes from; while there is none, where what it starts from does."""
    try:
        if finish:
            return lineage.ancestry(_card(home, finish), stores=[store])
        return lineage.ancestry(lineage.read_card(parent["uri"]), stores=[store]) if parent.get("uri") else ()
    except (CarryoverError, OSError):
        return ()  # A parent of others, or gone: the parent's card above says what is known.


def model_card(home: RunHome) -> ModelCard | None:
    """Return the card of a finished run's Model, None where it has not finished; its weights are not read."""
    finish = home.finish_record()
    return _card(home, finish) if finish else None


def _card(home: RunHome, finish: Record) -> ModelCard:
    ref = finish.files.get(CARD)
    if ref is None:
        raise Damaged(f"{home.store.uri}, record {finish.number}: has no card")
    card = parse_card(home.objects.get_file(ref), where=f"{home.store.uri}, record {finish.number}")
    # The run may have been moved since.
    return replace(card, at=storage.join(storage.join(store_of(home.store.uri), MODELS), card.digest))


def _commands(run: Mapping[str, Any], home: RunHome, store: str, *, finished: bool) -> list[tuple[str, str]]:
    dataset, key = shlex.quote(str(run["dataset"].get("uri", ""))), _key(home)
    where = f"--store {shlex.quote(store)}"
    again = f"carryover train-ddp --dataset {dataset} --run-key {key} {where}"
    epochs = run["recipe"].get("optimization.max_epochs", 10)
    more = f"{again} --set optimization.max_epochs={epochs * 2}"
    first = [] if finished else [("Go on where the newest checkpoint stands:", again)]
    return [
        *first,
        ("Go on for longer, or with another learning rate:", more),
        ("Look at its checkpoints:", f"carryover checkpoint ls {shlex.quote(home.store.uri)}"),
        ("Make this report again:", f"carryover report run:{key} {where}"),
    ]


def put(files: Mapping[str, bytes], places: Sequence[Store]) -> None:
    """Write files to each place."""
    for place in places:
        for name, data in files.items():
            place.write(name, data)


def in_folder(drawn: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return pictures under the names that they have in a run's home."""
    return {f"{CURVES}/{name}": data for name, data in drawn.items()}
