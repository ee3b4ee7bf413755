"""Owns one attempt of a run on one node: what its ranks are told, and what their end means.

    node 0        claim ---> ranks, a heartbeat meanwhile --------------------> finish record
    other nodes   watch the run until node 0's torchrun meets theirs; ranks --> look for the finish record

Only node 0 writes. Every other node makes its own local rows, and gives an exit code and one line.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.carry.foreign import Source
from carryover.checkpoint.heartbeat import PATIENCE, Beat, read_beat
from carryover.checkpoint.prefetch import prefetched
from carryover.checkpoint.writer import Writer
from carryover.data.rows import materialise
from carryover.ground.console import say
from carryover.ground.errors import CarryoverError, NoProgress, RunAgain, Superseded, WrongInput
from carryover.launch import ranks
from carryover.launch.nodes import Nodes, join_seconds
from carryover.launch.ranks import Ending
from carryover.steps import parent as parents
from carryover.steps import redraw
from carryover.steps.imports import imports_of
from carryover.steps.plan import Plan
from carryover.train.limits import is_finished
from carryover.train.listeners import heard, listeners_of
from carryover.train.spec import Spec

RANK_MODULE = "carryover.train.rank"
FIRST_STEP_VARIABLE = "CARRYOVER_FIRST_STEP_FILE"
_LOOK_EVERY_SECONDS = 3.0
# After another attempt's end node 0 takes the run within PATIENCE, and beats from then on.
_STILL_SECONDS = 4 * PATIENCE
_ERRORS = {error.exit_code: error for error in (WrongInput, RunAgain, Superseded, NoProgress)}


@dataclass(frozen=True)
class Launch:
    """How ranks are started; nothing of it is kept. `asked` is None where env.num_gpus decides how many.

    `output` is the folder that gets report and curves while they train too; "" for none.
    """

    asked: int | None
    grace_seconds: float
    trust_pickle: bool
    strict: bool
    nodes: Nodes
    output: str = ""


@dataclass(frozen=True)
class Inputs:
    """What lies on this node's disk for an attempt: split -> Arrow file, and what a transfer starts from."""

    rows: Mapping[str, str]
    old_rows: Mapping[str, str]
    source: Source | None
    scratch: Path


@contextmanager
def inputs_of(plan: Plan, source: Source | None) -> Iterator[Inputs]:
    """Make the local files of an attempt; they live as long as the block."""
    with tempfile.TemporaryDirectory(prefix="carryover-") as folder:
        scratch = Path(folder)
        rows = {name: str(materialise(plan.card, name, scratch)) for name in ("train", "validation")}
        rows |= {"train": str(plan.rows.path)} if plan.rows else {}
        old_rows = parents.old_rows(plan.parent, plan.recipe.remedy, scratch, store=plan.store.uri)
        yield Inputs(rows, old_rows, source, scratch)


def lead(plan: Plan, writer: Writer, inputs: Inputs, launch: Launch, count: int) -> None:
    """Run the ranks of an attempt that has the run; returns when they finished it, raises what ended them otherwise."""
    last = plan.home.latest_claim(writer.head)
    assert last is not None
    spec = _spec(plan, inputs, launch, handoff=writer.handoff(), lost_step=last.body["heartbeat_step"])
    plan.home.log.forget()
    limit, started = join_seconds(), time.monotonic()

    def joining() -> Ending | None:
        if time.monotonic() - started < limit:
            return None
        words = f"not all of {launch.nodes.count} nodes came within {limit:g} s; the same commands go on"
        return Ending(RunAgain.exit_code, words, -1, "nodes-apart")

    beat = Beat(plan.home.store, attempt=writer.attempt, step=lambda: _step(inputs.scratch))
    current = redraw.kept_current(plan.home, inputs.scratch, attempt=writer.attempt, output=launch.output)
    others = listeners_of(plan.home, plan.run_key, plan.recipe.flat())
    early = prefetched(plan.home, inputs.scratch, number=writer.resumed_from, ranks=count)
    with beat, current, heard(inputs.scratch, plan.home, others) as hearing, early:
        ending = _run(spec, inputs, launch, count, joining)
        hearing.exit_code = ending.exit_code
        _raise(plan, ending)


def follow(plan: Plan, inputs: Inputs, launch: Launch, count: int) -> None:
    """Run the ranks of a node that does not lead; returns when the run is finished."""
    waiting = Waiting(plan)
    # Node 0 may take the run, and go on with it, long after this look: then these ranks read the newer commit.
    newest = plan.home.log.head().newest.commit
    plan.home.log.forget()
    with prefetched(plan.home, inputs.scratch, number=newest, ranks=count):
        ending = _run(_spec(plan, inputs, launch, handoff={}, lost_step=None), inputs, launch, count, waiting)
    _raise(plan, ending)
    beat, since = read_beat(plan.home.store), time.monotonic()
    # Rank 0 writes the finish when the others have ended.
    while not waiting.is_done():
        now = read_beat(plan.home.store)
        beat, since = (now, time.monotonic()) if now != beat else (beat, since)
        if time.monotonic() - since > _STILL_SECONDS:
            raise RunAgain(
                f"run {plan.run_key}: the ranks here are done, but {plan.home.store.uri} has no finish and nobody "
                "beats there; does every node see the same store?",
                trouble="nodes-apart",
            )
        time.sleep(_LOOK_EVERY_SECONDS / 3)


class Waiting:
    """Looks at a run while node 0 is awaited: asked often, it looks every few seconds.

    Node 0 may wait for another owner for hours, and a sign of life is any change of the heartbeat: it is given up when
    a heartbeat that moved stands still, or when nothing moves for the whole time that a node waits for others.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._limit = join_seconds()
        self._finish = plan.home.finish_record()
        self._beat: Mapping[str, Any] = read_beat(plan.home.store)
        self._moved_at = self._looked_at = time.monotonic()
        self._has_moved = False

    def __call__(self) -> Ending | None:
        """Return how the wait ends, None to go on."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_SECONDS:
            return None
        self._looked_at = now
        if self.is_done():
            return Ending(0, "", -1)
        beat = read_beat(self._plan.home.store)
        if beat != self._beat:
            self._beat, self._moved_at, self._has_moved = beat, now, True
        still = now - self._moved_at
        if still > (min(self._limit, _STILL_SECONDS) if self._has_moved else self._limit):
            words = f"node 0 gave no sign of life for {still:.0f} s; the same commands on all nodes go on"
            return Ending(RunAgain.exit_code, words, -1, "nodes-apart")
        return None

    def is_done(self) -> bool:
        """Tell whether the run is finished, by the limits now asked for or by an attempt that ended after our start."""
        finish = self._plan.home.finish_record()
        if finish is None:
            return False
        return (
            is_finished(finish.body, self._plan.limits) or self._finish is None or finish.number > self._finish.number
        )


def _run(spec: Spec, inputs: Inputs, launch: Launch, count: int, joining: Any) -> Ending:
    if launch.nodes.several:
        say(f"waiting for {launch.nodes.count} nodes to meet at {launch.nodes.address}:{launch.nodes.port}")
    return ranks.run_ranks(
        RANK_MODULE,
        spec.as_json(),
        ranks=count,
        scratch=inputs.scratch,
        grace_seconds=launch.grace_seconds,
        nodes=launch.nodes,
        joining=joining,
    )


def _raise(plan: Plan, ending: Ending) -> None:
    if ending.exit_code:
        raise _ERRORS.get(ending.exit_code, CarryoverError)(
            f"run {plan.run_key}: {ending.message}", trouble=ending.trouble
        )


def _spec(plan: Plan, inputs: Inputs, launch: Launch, *, handoff: Mapping[str, Any], lost_step: int | None) -> Spec:
    return Spec(
        home=plan.home.store.uri,
        run_key=plan.run_key,
        recipe=plan.recipe.flat(),
        schema=plan.schema.to_json(),
        parent=plan.parent.to_json() if plan.parent else None,
        rows=inputs.rows,
        dataset={"digest": plan.card.digest, "uri": plan.card.at},
        handoff=handoff,
        time_limit=plan.time_limit,
        lost_step=lost_step,
        progress=str(ranks.progress_file(inputs.scratch)),
        first_step=os.environ.get(FIRST_STEP_VARIABLE, ""),
        source=inputs.source.to_json() if inputs.source else None,
        old_rows=inputs.old_rows,
        strict=launch.strict,
        trust_pickle=launch.trust_pickle,
        scratch=str(inputs.scratch),
        nodes=launch.nodes.count,
        changes={name: [plan.before.get(name), value] for name, value in plan.changes.items()},
        imports=imports_of(plan.recipe, plan.schema).to_json(),
        records=plan.home.log.remembered(),
    )


def _step(scratch: Path) -> int | None:
    step = ranks.read_progress(scratch)
    return None if step < 0 else step
