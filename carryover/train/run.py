"""Owns one attempt on one rank: the newest checkpoint, the parts that the recipe asks for, the loop, the finish.

    every rank          newest commit -> weights, optimizer, state        (rank 0 names it, all read the same one)
                        recipe -> network, engine, batches, validator
                        loop
    rank 0              finish record: final weights and files; from it alone the Model can be made

Every start is this; a first start only finds no commit.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from carryover.carry.foreign import source_from_json
from carryover.checkpoint.home import Loaded, RunHome
from carryover.checkpoint.prefetch import let_go
from carryover.checkpoint.snapshot import viewed
from carryover.checkpoint.writer import Writer
from carryover.data import loader
from carryover.data.loader import MicroBatches
from carryover.data.rows import Rows
from carryover.data.schema import Schema
from carryover.ground import dist, storage
from carryover.ground.console import say, warn
from carryover.ground.errors import RunAgain
from carryover.models import trust
from carryover.tasks.metrics import Metric, find_metric
from carryover.train import recipe as recipes
from carryover.train.banner import introduce
from carryover.train.check import SplitValidator, validator_of
from carryover.train.engine import Engine
from carryover.train.environment import Env
from carryover.train.finish import finish
from carryover.train.lessons import Lessons, lessons_of
from carryover.train.limits import Limits, limits_of
from carryover.train.loop import PREEMPTED, Training, train
from carryover.train.memory import Memory, memory_of
from carryover.train.nodes import agreed
from carryover.train.optim import PREFIX as OPTIMIZER
from carryover.train.parent import parent_from_json
from carryover.train.parts import Parts, build_parts, carried
from carryover.train.progress import Progress, Silent, Start
from carryover.train.recipe import Recipe
from carryover.train.samples import SampleRecord
from carryover.train.saver import CommitSaver
from carryover.train.schedule import Curve, first_curve, next_curve
from carryover.train.setup import choose_device, choose_precision, compiled, load_agreed, make_deterministic
from carryover.train.soup import choose_weights
from carryover.train.spec import Spec
from carryover.train.state import RunState
from carryover.train.stop import Stop
from carryover.train.wise import Blend


def attempt(values: Mapping[str, Any], stop: Stop) -> None:
    """Train until a limit, and write the finish.

    Raises:
        RunAgain: when it was asked to stop; all is saved.
        CarryoverError: whatever ended it, with the exit code to end with.
    """
    spec = Spec(**values)
    recipe = recipes.make(spec.recipe)
    device = choose_device(recipe.env)
    if recipe.env.deterministic:
        make_deterministic()
    dist.start(device)
    try:
        spec = agreed(spec, device)
        _attempt(spec, recipes.make(spec.recipe), device, stop)
    finally:
        dist.stop()


def _attempt(spec: Spec, recipe: Recipe, device: torch.device, stop: Stop) -> None:
    home = RunHome(storage.open_store(spec.home))
    home.log.remember(spec.records)
    loaded = load_agreed(home, device, spec)
    writer = Writer.resume(home, spec.handoff, loaded) if dist.rank() == 0 else None
    asked, memory = recipe.optimization, memory_of(recipe.remedy, spec)
    parts, state, lessons, engine = _begin(spec, recipe, device, home, loaded, memory)
    # The tensors of the checkpoint are no longer needed in memory.
    del loaded
    let_go(home, spec.scratch)
    home.log.forget()
    run = _training(spec, recipe, home, writer, parts, lessons, state, engine, stop)
    try:
        reason = train(run)
        run.saver.end(state, reason)
    finally:
        run.saver.close()
    if reason == PREEMPTED:
        # Together: while rank 0 still saves, a rank that has ended would look like a lost one.
        dist.barrier()
        raise RunAgain(
            f"stopped on request; all is saved at step {state.step}: the same command goes on from there",
            trouble="preempted",
        )
    final = choose_weights(
        home,
        engine.network,
        state,
        run.validator,
        method=asked.top_k_average_method,
        count=asked.top_k,
        stop=stop,
    )
    blended = _blended(memory, spec, recipe, run, parts, engine) if memory else None
    if blended:
        final = replace(final, score=blended.score)
    if writer:
        finish(
            writer,
            spec,
            recipe.flat(),
            parts,
            state,
            reason=reason,
            limits=run.limits.asked(),
            metric=find_metric(asked.val_metric, parts.task.problem_type).name,
            weights=engine.weights(),
            final=final,
            more={"wise_ft": blended.part, "val_old": blended.old_score} if blended else {},
        )


def _blended(memory: Memory, spec: Spec, recipe: Recipe, run: Training, parts: Parts, engine: Engine) -> Blend | None:
    """Blend the final weights with those of the Model that the run extends, where the recipe asks for it."""
    metric = find_metric(recipe.optimization.val_metric, parts.task.problem_type)

    def old_rows() -> SplitValidator:
        return SplitValidator(Rows.open(Path(spec.old_rows["validation"])), parts, engine, recipe.env, metric)

    return memory.blended(engine.network, run.validator, old_rows if "validation" in spec.old_rows else None)


def _begin(
    spec: Spec, recipe: Recipe, device: torch.device, home: RunHome, loaded: Loaded | None, memory: Memory | None
) -> tuple[Parts, RunState, Lessons, Engine]:
    """Make what the recipe asks for, and put back what the checkpoint has."""
    schema = Schema.from_json(spec.schema)
    asked = recipe.optimization
    with trust.pickles(trusted=spec.trust_pickle):
        parts = build_parts(
            recipe.model,
            recipe.data,
            schema,
            home,
            loaded,
            parent=parent_from_json(spec.parent),
            source=source_from_json(spec.source) if spec.source else None,
            strict=spec.strict,
            seed=recipe.seed,
            loss_func=asked.loss_func,
            adaptation=asked.adaptation,
        )
    state = _state(spec, loaded)
    state.precision = choose_precision(recipe.env, device, state.precision)
    lessons = lessons_of(
        parts.preprocessing,
        parts.task,
        asked,
        recipe.data.mixup,
        memory.teacher(recipe.distiller) if memory else recipe.distiller,
        partly=recipe.remedy.lwf > 0,
        seed=recipe.seed,
        device=device,
        precision=state.precision,
    )
    network = parts.network.to(device)
    engine = Engine(
        compiled(network, recipe.env.compile),
        lessons.loss,
        asked,
        precision=state.precision,
        device=device,
        seed=recipe.seed,
        prepare=lessons.prepare,
        pull=memory.pull(network, spec, seed=recipe.seed) if memory else None,
    )
    if loaded:
        engine.load_optimizer(viewed(loaded.tensors(f"{OPTIMIZER}/")), state.scaler)
    elif asked.carry_optimizer:
        engine.load_optimizer(carried(spec, network), {})
    return parts, state, lessons, engine


def _state(spec: Spec, loaded: Loaded | None) -> RunState:
    state = RunState.from_json(loaded.record.body["state"]) if loaded else RunState()
    if spec.lost_step is not None:
        state.lost_steps += max(0, spec.lost_step - state.step)
    return state


def _lost(spec: Spec, step: int) -> int | None:
    """Return how many steps the attempt before did in vain, None where nobody knows."""
    if spec.lost_step is None:
        return 0 if spec.handoff["attempt"] == 1 else None
    return max(0, spec.lost_step - step)


def _training(
    spec: Spec,
    recipe: Recipe,
    home: RunHome,
    writer: Writer | None,
    parts: Parts,
    lessons: Lessons,
    state: RunState,
    engine: Engine,
    stop: Stop,
) -> Training:
    splits = {name: Rows.open(Path(path)) for name, path in spec.rows.items()}
    rows, env = len(splits["train"]), recipe.env
    validates = len(splits["validation"]) > 0
    limits = limits_of(
        recipe.optimization,
        env,
        recipe.resume,
        rows=rows,
        validates=validates,
        time_limit=spec.time_limit,
        spent=state.seconds,
    )
    before = replace(state)
    limits.renew(state)
    if dist.rank() == 0 and (words := limits.time_left(state)):
        say(words)
    curve = _curve(recipe, state, limits)
    metric = find_metric(recipe.optimization.val_metric, parts.task.problem_type)
    if writer:
        introduce(
            spec,
            parts,
            writer,
            before=before,
            state=state,
            limits=limits,
            optimization=recipe.optimization,
            schedule=recipe.resume.schedule,
            ranks=dist.world(),
            device=str(engine.device),
            metric=metric.name,
            lost=_lost(spec, state.step),
        )
    reporter = _reporter(spec, recipe, home, state, limits, metric, writer)
    record = recipe.data.record_samples
    samples = SampleRecord(attempt=spec.handoff["attempt"], step=state.step, device=engine.device) if record else None
    keep = recipe.checkpoint.keep(greater_is_better=metric.greater_is_better)
    candidates = recipe.optimization.candidates
    saver = CommitSaver(
        writer,
        engine=engine,
        config=recipe.checkpoint,
        step=state.step,
        # The final weights are made of commits: as many stay as that takes.
        keep=replace(keep, best=max(keep.best, candidates)),
        files=parts.files,
        reporter=reporter,
        samples=samples,
    )
    batches = MicroBatches(
        splits["train"],
        lessons.features,
        parts.task.targets,
        training=True,
        seed=recipe.seed,
        by_length=parts.preprocessing.padded if env.group_by_length else (),
    )
    pinned = engine.device.type == "cuda"
    micros = loader.training_micros(
        rows=rows,
        epoch=state.epoch,
        position=state.position,
        batch_size=env.batch_size,
        micro_size=micro_size(env),
        rank=dist.rank(),
        world=dist.world(),
    )
    return Training(
        state=state,
        limits=limits,
        curve=curve,
        engine=engine,
        steps=loader.steps(loader.load(micros, batches, workers=env.num_workers, pinned=pinned)),
        saver=saver,
        reporter=reporter,
        validator=validator_of(splits["validation"], parts, engine, recipe, metric) if validates else None,
        stop=stop,
        candidates=candidates,
    )


def micro_size(env: Env) -> int:
    """Return the samples of one micro-batch: as asked, but so that every rank has one in a whole global batch."""
    return max(1, min(env.per_gpu_batch_size, math.ceil(env.batch_size / dist.world())))


def _curve(recipe: Recipe, state: RunState, limits: Limits) -> Curve:
    total, config = limits.total_steps(state), recipe.optimization

    def at_epoch(epoch: int) -> int:
        return limits.step_of_epoch(state, epoch)

    if not state.curve:
        # An optimizer that is carried over is warm.
        config = replace(config, warmup_steps=0) if config.carry_optimizer else config
        curve = first_curve(config, total, at_epoch=at_epoch)
    else:
        curve = next_curve(
            Curve(**state.curve),
            config,
            step=state.step,
            total=total,
            on_change=recipe.resume.schedule,
            epoch=state.epoch,
            at_epoch=at_epoch,
        )
    state.curve = curve.as_json()
    return curve


def _reporter(
    spec: Spec, recipe: Recipe, home: RunHome, state: RunState, limits: Limits, metric: Metric, writer: Writer | None
) -> Progress | Silent:
    if writer is None:
        return Silent()
    rows, size = limits.rows, limits.batch_size
    if rows < size:
        warn(f"the training split has {rows} rows, fewer than env.batch_size {size}: one partial batch an epoch")
    return Progress(
        home.store,
        state,
        limits=limits,
        total=limits.total_steps(state),
        every=recipe.optimization.log_every_n_steps,
        metric=metric.name,
        start=Start(
            attempt=writer.attempt,
            ranks=dist.world(),
            nodes=spec.nodes,
            lost_steps=_lost(spec, state.step),
            commit_time=writer.resumed_time,
            changes=spec.changes,
        ),
        progress=Path(spec.progress),
        scratch=Path(spec.scratch) if spec.scratch else None,
        first_step=Path(spec.first_step) if spec.first_step else None,
    )
