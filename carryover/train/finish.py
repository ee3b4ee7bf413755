"""Owns the end of a run: which weights are final, and the record from which the Model can be made at any time."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged
from carryover.checkpoint.snapshot import snapshot
from carryover.checkpoint.store import RawTensor
from carryover.checkpoint.writer import Writer
from carryover.data.schema import Schema
from carryover.ground.console import say, warn
from carryover.models.card import CARD
from carryover.models.export import make_card, weights_of
from carryover.train.engine import MODEL
from carryover.train.outcome import store_of, versions
from carryover.train.setup import Parts
from carryover.train.spec import Spec
from carryover.train.state import RunState


def finish(
    home: RunHome,
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
) -> None:
    """Write the finish record with the best weights, or with the last ones where there was no score. Rank 0 only.

    Args:
        weights: the network's own, "model/<name>".
        metric: name of the validation metric.
    """
    step, tensors = _final_weights(home, state, weights)
    files = parts.files
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
        metrics={f"val_{metric}": state.best_score},
        versions=versions(),
    )
    writer.finish(
        step=step,
        reason=reason,
        tensors=tensors,
        files={**files, CARD: card.to_bytes()},
        metrics={
            f"val_{metric}": state.best_score,
            "steps": state.step,
            "epochs": state.epoch,
            "samples": state.samples,
            "seconds": state.seconds,
            "lost_steps": state.lost_steps,
        },
        model=card.digest,
        limits=limits,
    )
    say(f"finished at step {state.step} ({reason}); the Model has the weights of step {step}")


def _final_weights(
    home: RunHome, state: RunState, weights: Mapping[str, Tensor]
) -> tuple[int, Mapping[str, RawTensor]]:
    """Return (step, "model/<name>" tensors) of the best checkpoint, or of this moment where there is none better."""
    if state.best_step in (-1, state.step):
        return state.step, snapshot(weights)
    found = [record for record in home.commits() if record.step == state.best_step]
    try:
        if found:
            return state.best_step, home.read_tensors(found[-1], f"{MODEL}/")
        lost = "it is no longer kept"
    except Damaged as error:
        lost = str(error)
    warn(f"the best weights (step {state.best_step}) can't be used: {lost}; the Model gets those of step {state.step}")
    return state.step, snapshot(weights)
