"""Owns the training loop, and nothing that stands beside it.

for each global batch, from the state's position on:
    forward and backward over this rank's micro-batches, one optimizer step      Engine
    count it                                                                     RunState
    agree with the other ranks: loss, stop wanted, save due, time up             one reduction
    tell people                                                                  Reporter
    validate, when a check is due or training is over                            Validator
    commit, when a save is due, the score is among the best, or it is time to go   Saver
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, SupportsFloat

import torch

from carryover.data.loader import Batch
from carryover.ground import dist
from carryover.train.engine import Engine, StepResult
from carryover.train.limits import Limits
from carryover.train.schedule import Curve
from carryover.train.state import RunState
from carryover.train.stop import Stop

PREEMPTED = "preempted"
VALIDATING = "validating"


class Validator(Protocol):
    """Scores the current weights on the validation split. Collective."""

    greater_is_better: bool

    def score(self) -> float: ...


class Check(Validator, Protocol):
    """A validator that knows the mean training loss of its newest pass, None where a task has none in evaluation."""

    loss: float | None


class Saver(Protocol):
    """Decides when to save, and saves behind the loop. `due` is asked on rank 0 only; `commit` is collective."""

    def due(self, state: RunState) -> bool: ...
    def seen(self, state: RunState, batches: list[Batch]) -> None: ...
    def commit(self, state: RunState, engine: Engine) -> None: ...
    def flush(self) -> None: ...
    def end(self, state: RunState, reason: str) -> None: ...
    def close(self) -> None: ...


class Reporter(Protocol):
    """Tells people how it goes; called on every rank, speaks on rank 0."""

    def step(
        self,
        state: RunState,
        *,
        loss: SupportsFloat,
        rate: float,
        norm: SupportsFloat | None,
        tracked: Mapping[str, SupportsFloat],
    ) -> None: ...
    def phase(self, name: str) -> None: ...
    def check(self, state: RunState, *, loss: float | None) -> None: ...


class Votes(NamedTuple):
    """What the ranks agree on after a step; loss is the mean over the global batch."""

    loss: SupportsFloat
    preempted: bool
    save: bool
    time_up: bool


@dataclass
class Training:
    """The parts of one attempt, as the loop needs them.

    Attributes:
        candidates: how many of the best checks are each committed, for the final weights.
    """

    state: RunState
    limits: Limits
    curve: Curve
    engine: Engine
    steps: Iterable[list[Batch]]
    saver: Saver
    reporter: Reporter
    validator: Check | None
    stop: Stop
    candidates: int = 1


def train(run: Training) -> str:
    """Train until a limit or a stop; return why it ended. The state and a commit hold everything. Collective."""
    state = run.state
    if state.done:
        return state.done
    started = time.monotonic() - state.seconds
    agree = _alone if dist.world() == 1 else _agree
    for batches in run.steps:
        rate, size = run.curve.rate(state.step), batches[0].micro.size
        result = run.engine.step(batches, step=state.step, rate=rate)
        state.advance(size, run.limits.rows)
        state.seconds = time.monotonic() - started
        run.saver.seen(state, batches)
        votes = agree(run, result, size)
        run.reporter.step(state, loss=votes.loss, rate=rate, norm=result.norm, tracked=result.tracked)
        good = _look(run, votes)
        if good or votes.save or votes.preempted or state.done:
            run.saver.commit(state, run.engine)
        if state.done or votes.preempted:
            run.saver.flush()
            return state.done or PREEMPTED
    raise AssertionError("the stream of steps has no end of its own")


class _Mean(NamedTuple):
    """The mean loss of a step, computed if somebody wants to know: a device need not be waited for."""

    result: StepResult
    size: int

    def __float__(self) -> float:
        return float(self.result.loss) / self.size


def _agree(run: Training, result: StepResult, size: int) -> Votes:
    """Sum the loss and the ranks' wishes in the one reduction that every step makes anyway."""
    first = dist.rank() == 0
    save = first and run.saver.due(run.state)
    time_up = first and run.state.seconds >= run.limits.deadline
    device = run.engine.device
    wishes = torch.tensor([run.stop.wanted, save, time_up], dtype=torch.float64, device=device)
    loss = result.loss.reshape(1).to(device)
    loss, preempted, save, time_up = dist.sum_over_ranks(torch.cat([loss, wishes])).tolist()
    return Votes(loss / size, preempted > 0, save > 0, time_up > 0)


def _alone(run: Training, result: StepResult, size: int) -> Votes:
    """Agree with nobody."""
    time_up = run.state.seconds >= run.limits.deadline
    return Votes(_Mean(result, size), run.stop.wanted, run.saver.due(run.state), time_up)


def _look(run: Training, votes: Votes) -> bool:
    """Decide whether training is over, validate when due; tell whether the score is among the best."""
    state, limits = run.state, run.limits
    state.done = limits.reached(state) or ("time_limit" if votes.time_up else "")
    good = False
    if run.validator and limits.check_wanted(state):
        run.reporter.phase(VALIDATING)
        score = run.validator.score()
        greater = run.validator.greater_is_better
        good = state.record(score, greater_is_better=greater, keep=run.candidates)
        run.reporter.check(state, loss=run.validator.loss)
        if not state.done and state.bad_checks >= limits.patience:
            state.done = "early_stopping"
    return good
