"""Owns what an attempt says of itself before its first step: from where, with what, and what is other than before.

attempt 3 goes on from step 1206, epoch 7, sample 96 of it
  checkpoint  record 11 of s3://bucket/store/runs/121dfff73df9f06e, made 25s ago
  restored    weights and optimizer (adamw, 2 x 4,802 numbers), cosine_decay schedule, early stopping (2 of 10), ...
  lost        at least 17 steps (about 272 samples, 1s) of the attempt before: they are done again
  changed     optimization.max_epochs: 43 -> 100
  to do       epochs 43 -> 100, 10,854 steps from here; the rate here 8.77e-04 -> 9.12e-04
  best        roc_auc 0.9371 at step 603
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carryover.checkpoint.writer import Writer
from carryover.ground.amounts import duration
from carryover.ground.console import panel
from carryover.train.limits import Limits
from carryover.train.parent import EXTEND
from carryover.train.schedule import Curve
from carryover.train.sections import Optimization
from carryover.train.spec import Spec
from carryover.train.state import RunState

if TYPE_CHECKING:
    # It imports torch.
    from carryover.train.parts import Parts


@dataclass(frozen=True)
class Setting:
    """What an attempt works with.

    Attributes:
        home: URI of the run's folder.
        branches: instances of the network.
        trained, numbers: parameters that train, and all, counted in single numbers.
        ranks: in words; `device` as torch names it.
        schedule: `resume.schedule`.
    """

    home: str
    run_key: str
    branches: tuple[str, ...]
    trained: int
    numbers: int
    rows: int
    batch_size: int
    ranks: str
    device: str
    metric: str
    optimization: Optimization
    schedule: str
    begins: str


@dataclass(frozen=True)
class Resumed:
    """What an attempt goes on from.

    Attributes:
        record: number of the commit, made at `made` (Unix seconds).
        state: as the commit has it.
        lost: steps that the attempt before did in vain, None where nobody knows.
        changes: recipe key -> [old, new].
    """

    record: int
    made: float | None
    state: RunState
    lost: int | None
    changes: Mapping[str, Any]


def introduce(
    spec: Spec,
    parts: "Parts",
    writer: Writer,
    *,
    before: RunState,
    state: RunState,
    limits: Limits,
    optimization: Optimization,
    schedule: str,
    ranks: int,
    device: str,
    metric: str,
    lost: int | None,
) -> None:
    """Say how an attempt begins.

    Args:
        before: the state as the commit has it; `state` is the one to train on with.
        schedule: `resume.schedule`.
        lost: steps that the attempt before did in vain, None where nobody knows.
    """
    numbers = [(weight.numel(), weight.requires_grad) for weight in parts.network.parameters()]
    setting = Setting(
        home=spec.home,
        run_key=spec.run_key,
        branches=tuple(branch.name for branch in parts.assembly.branches),
        trained=sum(count for count, trains in numbers if trains),
        numbers=sum(count for count, _ in numbers),
        rows=limits.rows,
        batch_size=limits.batch_size,
        ranks=f"{ranks} rank{'s' if ranks > 1 else ''}" + (f" on {spec.nodes} nodes" if spec.nodes > 1 else ""),
        device=device,
        metric=metric,
        optimization=optimization,
        schedule=schedule,
        begins=_begins(spec),
    )
    found = writer.resumed_from
    resumed = None if found is None else Resumed(found, writer.resumed_time, before, lost, spec.changes)
    show(setting, state, limits, attempt=writer.attempt, resumed=resumed)


def _begins(spec: Spec) -> str:
    if not spec.parent:
        return "at step 0"
    verb = "to extend Model" if spec.parent["kind"] == EXTEND else "with weights of"
    return f"at step 0, {verb} {spec.parent['digest']}"


def show(setting: Setting, state: RunState, limits: Limits, *, attempt: int, resumed: Resumed | None) -> None:
    """Print it; `state` is the one to train on with."""
    if resumed is None:
        lead = "" if attempt == 1 else f"; nothing was saved by the {attempt - 1} before"
        panel(f"attempt {attempt} starts {setting.begins}{lead}", _fresh(setting, state, limits), attempt=attempt)
        return
    title = f"attempt {attempt} goes on from step {state.step}, epoch {state.epoch + 1}, sample {state.position} of it"
    fields = {"attempt": attempt, "step": state.step, "epoch": state.epoch, "lost_steps": resumed.lost}
    panel(title, _resumed(setting, state, limits, resumed), **fields, changes=resumed.changes)


def _fresh(setting: Setting, state: RunState, limits: Limits) -> dict[str, str]:
    share = "" if setting.trained == setting.numbers else f" of {setting.numbers:,}"
    batches = math.ceil(setting.rows / setting.batch_size)
    return {
        "model": f"{', '.join(setting.branches)}; {setting.trained:,}{share} parameters train",
        "data": f"{setting.rows:,} rows, {setting.batch_size} a step, {batches:,} steps an epoch",
        "hardware": f"{setting.ranks}, {setting.device}, precision {state.precision}",
        "to do": _ahead(state, limits),
        "resume": f"the same command goes on after any end; with other settings: --run-key {setting.run_key}",
    }


def _resumed(setting: Setting, state: RunState, limits: Limits, resumed: Resumed) -> dict[str, str]:
    made = "" if resumed.made is None else f", made {duration(max(0.0, time.time() - resumed.made))} ago"
    changed = [f"{name}: {_plain(old)} -> {_plain(new)}" for name, (old, new) in resumed.changes.items()]
    before, rows = resumed.state, {"checkpoint": f"record {resumed.record} of {setting.home}{made}"}
    rows["restored"] = _restored(setting, before, limits)
    rows["lost"] = _lost(resumed.lost, before, setting.batch_size)
    if changed:
        rows["changed"] = "; ".join(changed)
    rows["to do"] = f"{_raised(before, limits)}{_ahead(state, limits)}{_rates(before, state, setting.schedule)}"
    if before.best_score is not None:
        rows["best"] = f"{setting.metric} {before.best_score:.4f} at step {before.best_step}"
    rows["hardware"] = f"{setting.ranks}, {setting.device}, precision {state.precision}"
    return rows


def _restored(setting: Setting, state: RunState, limits: Limits) -> str:
    parts = [
        f"weights ({setting.numbers:,} numbers)",
        f"optimizer ({setting.optimization.optim_type})",
        f"schedule ({setting.optimization.lr_schedule})",
        *(["loss scaler"] if state.scaler else []),
        *([f"early stopping ({state.bad_checks} of {limits.patience} checks)"] if state.checks else []),
        *(["best score"] if state.best_score is not None else []),
        f"place in the data ({state.samples:,} samples seen)",
        f"time used ({duration(state.seconds)})",
    ]
    return ", ".join(parts)


def _lost(lost: int | None, state: RunState, batch_size: int) -> str:
    if lost is None:
        return "not known: the attempt before gave no sign of how far it came"
    if not lost:
        return "nothing that the heartbeat knew of"
    seconds = f", {duration(lost * state.seconds / state.step)}" if state.step else ""
    # The last heartbeat is some seconds before a kill.
    about = f"about {lost * batch_size:,} samples{seconds}"
    return f"at least {lost:,} steps ({about}) of the attempt before: they are done again"


def _raised(before: RunState, limits: Limits) -> str:
    old, new = before.limits, limits.asked()
    names = {"max_epochs": "epochs", "max_steps": "steps at most", "patience": "patience"}
    told = [f"{words} {old[key]} -> {new[key]}" for key, words in names.items() if key in old and old[key] != new[key]]
    return "".join(f"{one}, " for one in told)


def _ahead(state: RunState, limits: Limits) -> str:
    total = limits.total_steps(state)
    if state.done:
        return f"nothing ({state.done})"
    return f"{total - state.step:,} steps, to step {total:,} and epoch {limits.max_epochs}"


def _rates(before: RunState, state: RunState, schedule: str) -> str:
    """Return what becomes of the learning rate where another curve leads on."""
    if not before.curve or before.curve == state.curve:
        return ""
    old, new = (Curve(**one).rate(state.step) for one in (before.curve, state.curve))
    return f"; resume.schedule {schedule}: the learning rate here {old:.2e} -> {new:.2e}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
