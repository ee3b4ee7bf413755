"""Owns the end of a run: the record from which the Model can be made at any time."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from carryover.carry import tables
from carryover.checkpoint.snapshot import snapshot
from carryover.checkpoint.writer import Writer
from carryover.data.rows import Rows
from carryover.data.schema import Schema
from carryover.ground import storage
from carryover.ground.console import say
from carryover.models.card import CARD
from carryover.models.export import make_card, weights_of
from carryover.train import recipe as recipes
from carryover.train.outcome import store_of, versions
from carryover.train.parts import Parts
from carryover.train.soup import Final
from carryover.train.spec import Spec
from carryover.train.state import RunState


def finish(
    writer: Writer,
    spec: Spec,
    recipe: Mapping[str, Any],
    parts: Parts,
    state: RunState,
    *,
    reason: str,
    limits: Mapping[str, Any],
    metric: str,
    weights: Mapping[str, Tensor],
    final: Final,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write the finish record. Rank 0 only.

    Args:
        weights: the final ones, "model/<name>".
        final: which they are.
        metric: name of the validation metric.
        more: metrics beside the usual ones.
    """
    step, tensors, files = final.steps[0], snapshot(weights), parts.files
    card = make_card(
        files,
        weights_of(tensors),
        schema=Schema.from_json(spec.schema),
        recipe=recipe,
        run_key=spec.run_key,
        step=step,
        checkpoint_uri=spec.home,
        dataset=spec.dataset,
        store=store_of(spec.home),
        parent=_parent(spec),
        metrics={f"val_{metric}": final.score},
        versions=versions(),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        reason=reason,
        rows={split: len(Rows.open(Path(file))) for split, file in spec.rows.items()},
        asked=recipes.asked(recipes.make(recipe)),
    )
    writer.finish(
        step=step,
        reason=reason,
        tensors=tensors,
        files={**files, CARD: card.to_bytes()},
        metrics={
            f"val_{metric}": final.score,
            "model_steps": list(final.steps),
            "steps": state.step,
            "epochs": state.epoch,
            "samples": state.samples,
            "seconds": state.seconds,
            "lost_steps": state.lost_steps,
            **(more or {}),
        },
        model=card.digest,
        limits=limits,
    )
    steps = ", ".join(map(str, final.steps))
    say(f"finished at step {state.step} ({reason}); the Model has the weights of step {steps}")


def _parent(spec: Spec) -> Mapping[str, Any] | None:
    """Return what the run started from; of a transfer with the weights that were taken, as its first start noted."""
    home = storage.open_store(spec.home)
    if not spec.parent or not home.exists(tables.FILE):
        return spec.parent
    return {**spec.parent, "transfer": json.loads(home.read(tables.FILE))}
