"""Owns what a training step leaves behind: its Model in the store and the output folder, and what result.json says."""

import time
from typing import Any

from carryover import __version__
from carryover.checkpoint.log import Record
from carryover.data.manifest import load_card
from carryover.data.mix import NothingNew
from carryover.ground import storage
from carryover.ground.console import say
from carryover.models.card import CARD, MODELS, ModelCard
from carryover.models.export import write_model
from carryover.steps import redraw
from carryover.steps.model_source import open_model
from carryover.steps.plan import Plan
from carryover.steps.results import resolve_store
from carryover.train.outcome import model_of

NOTHING_NEW = "nothing_new"


def deliver(plan: Plan, finish: Record, output: str) -> ModelCard:
    """Put the Model into the store, where it may be already, and into the output folder."""
    card, files, weights = model_of(plan.home, finish)
    write_model(plan.store.sub(f"{MODELS}/{card.digest}"), card, files, weights)
    if output:
        write_model(storage.open_store(output), card, files, weights)
    return card


def unchanged(why: NothingNew, init_from: str, dataset: str, store: str, output: str, started: float) -> dict[str, Any]:
    """Give the Model that was to be extended again, where nothing is new: a schedule's run then ends well."""
    if not init_from:
        # A run that goes on by its key has begun with rows that are gone now.
        raise why
    say(f"{why}: it is given again")
    found = open_model(init_from, store=resolve_store(store))
    card = found.card
    if output:
        target = storage.open_store(output)
        storage.copy_tree(found.folder, target, sorted(card.files))
        target.write(CARD, card.to_bytes())
    return {
        "step": "train-ddp",
        "uri": found.folder.uri,
        "digest": card.digest,
        "run_key": card.run_key,
        "checkpoint_uri": card.checkpoint_uri,
        "checkpoint": None,
        "metrics": dict(card.metrics),
        "reason": NOTHING_NEW,
        "model_step": card.step,
        "step_count": 0,
        "samples": 0,
        "train_seconds": 0.0,
        "attempts": 0,
        "lost_steps": 0,
        "dataset_digest": load_card(dataset).digest,
        "parent_digest": card.digest,
        "parent_uri": found.folder.uri,
        "transfer": None,
        "report": redraw.of_model(card, output, store=store),
        "seconds": round(time.monotonic() - started, 3),
        "version": __version__,
    }


def result_of(plan: Plan, finish: Record, card: ModelCard, report: str, seconds: float) -> dict[str, Any]:
    """Return what result.json says of a finished run; `seconds` is how long this start took, `report` where its is."""
    metrics = finish.body["metrics"]
    last = plan.home.latest_claim()
    commits = plan.home.commits()
    return {
        "step": "transfer-train" if plan.sought else "train-ddp",
        "uri": card.at,
        "digest": card.digest,
        "run_key": plan.run_key,
        "checkpoint_uri": plan.home.store.uri,
        "checkpoint": commits[-1].number if commits else None,
        "metrics": {name: value for name, value in metrics.items() if name.startswith("val_")},
        "reason": finish.body["reason"],
        "model_step": finish.step,
        "step_count": metrics["steps"],
        "samples": metrics["samples"],
        "train_seconds": round(metrics["seconds"], 3),
        "attempts": last.attempt if last else 0,
        "lost_steps": metrics["lost_steps"],
        "dataset_digest": plan.card.digest,
        "parent_digest": plan.parent.digest if plan.parent else "",
        "parent_uri": plan.parent.uri if plan.parent else "",
        "transfer": (card.parent or {}).get("transfer"),
        "report": report,
        "seconds": round(seconds, 3),
        "version": __version__,
    }
