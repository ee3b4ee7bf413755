"""Owns the end of a run: the record from which the Model can be made at any time."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from carryover.checkpoint.snapshot import snapshot
from carryover.checkpoint.writer import Writer
from carryover.data.schema import Schema
from carryover.ground.console import say
from carryover.models.card import CARD
from carryover.models.export import make_card, weights_of
from carryover.train.outcome import store_of, versions
from carryover.train.setup import Parts
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
) -> None:
    """Write the finish record. Rank 0 only.

    Args:
        weights: the final ones, "model/<name>".
        final: which they are.
        metric: name of the validation metric.
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
        parent=spec.parent,
        metrics={f"val_{metric}": final.score},
        versions=versions(),
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
        },
        model=card.digest,
        limits=limits,
    )
    steps = ", ".join(map(str, final.steps))
    say(f"finished at step {state.step} ({reason}); the Model has the weights of step {steps}")
