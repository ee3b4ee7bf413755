"""Owns what a model is in a run, and how it begins: from a checkpoint, from a parent, or anew.

commit                         goes on; brings its own tokenizers and preprocessing      every later start
Model, --init-from             its files and weights, adapters as asked for now          extend
Backbone, any checkpoint       the weights that fit, all else new                        transfer
nothing                        what recipe and schema ask for
"""

import json
from dataclasses import dataclass, replace

import torch
from torch import nn

from carryover.carry import tables
from carryover.carry.foreign import Source
from carryover.carry.grow import grow_head
from carryover.carry.take import heads, take
from carryover.carry.transfer import placed
from carryover.checkpoint.home import Loaded, RunHome
from carryover.checkpoint.snapshot import restore, viewed
from carryover.data.config import DataConfig
from carryover.data.schema import Schema
from carryover.ground import dist, storage
from carryover.ground.console import say
from carryover.ground.digests import canonical
from carryover.ground.errors import CarryoverError, WrongInput
from carryover.models.assembly import (
    Assembly,
    ModelConfig,
    Preprocessing,
    adapt,
    assembly_from_json,
    build_network,
    build_preprocessing,
    choose,
    renewed,
    restore_preprocessing,
)
from carryover.models.card import ASSEMBLY
from carryover.models.export import Found, load_model, model_files
from carryover.models.peft import Adaptation, merged
from carryover.tasks.losses import AUTO
from carryover.tasks.task import Task, make_task, restore_task, task_files
from carryover.train.engine import MODEL
from carryover.train.optim import PREFIX as OPTIMIZER
from carryover.train.outcome import open_parent, store_of
from carryover.train.parent import EXTEND, Parent, parent_from_json
from carryover.train.spec import Spec


@dataclass(frozen=True)
class Parts:
    """What a model is on this rank.

    Attributes:
        files: what inference needs beside weights; they go into every commit.
    """

    assembly: Assembly
    preprocessing: Preprocessing
    task: Task
    network: nn.Module
    files: dict[str, bytes]


def build_parts(
    model: ModelConfig,
    data: DataConfig,
    schema: Schema,
    home: RunHome,
    loaded: Loaded | None,
    *,
    parent: Parent | None = None,
    source: Source | None = None,
    strict: bool = False,
    seed: int,
    loss_func: str = AUTO,
    adaptation: Adaptation | None = None,
) -> Parts:
    """Return the model that a recipe and a schema ask for, with a checkpoint's weights where there is one.

    A checkpoint brings its tokenizers and preprocessors along: nothing is fetched again, and nothing can have changed.
    Without one, the weights are those of the parent, where there is one; of a transfer, those that fit of `source`.
    """
    if not loaded and parent and parent.kind == EXTEND:
        found = open_parent(parent, home.store.uri)
        return _extended(found, model, data, schema, seed=seed, adaptation=adaptation)
    if not loaded and source:
        asked = choose(placed(model, source), schema, data, adaptation=adaptation)
        task = make_task(schema, data, loss_func=loss_func)
        return _transferred(source, asked, task, data, schema, home, seed=seed, strict=strict)
    if loaded:
        files = home.read_files(loaded.record)
        assembly = renewed(assembly_from_json(json.loads(files[ASSEMBLY])), model)
        preprocessing = restore_preprocessing(assembly, files, dropout=data.modality_dropout)
        task = restore_task(files)
    else:
        assembly = choose(model, schema, data, adaptation=adaptation)
        task = make_task(schema, data, loss_func=loss_func)
        preprocessing = build_preprocessing(assembly, schema, data)
        files = model_files(assembly, preprocessing, task_files(task))
    # New layers are a function of the seed, the same on every rank and at every start.
    torch.manual_seed(seed)
    network = build_network(assembly, preprocessing, task.num_outputs, pretrained=loaded is None)
    if loaded:
        load_weights(network, viewed(loaded.tensors(f"{MODEL}/")))
    return Parts(assembly, preprocessing, task, network, files)


def _extended(
    found: Found, model: ModelConfig, data: DataConfig, schema: Schema, *, seed: int, adaptation: Adaptation | None
) -> Parts:
    """Return a Model as a run begins with it: its files and weights, with the adapters that are asked for now."""
    files = found.files()
    before = restore_task(files)
    task = before.grown(schema)
    old = load_model(found, num_outputs=before.num_outputs)
    same = adaptation == old.assembly.adaptation
    assembly = renewed(old.assembly, model)
    preprocessing = restore_preprocessing(assembly, files, dropout=data.modality_dropout)
    if task.classes is not None and task.num_outputs > before.num_outputs:
        preprocessing = preprocessing.grown(task.classes)
    # New adapters, like all new layers, are a function of the seed; old ones that are not wanted are merged.
    torch.manual_seed(seed)
    bare = assembly if same else replace(assembly, adaptation=None)
    network = build_network(bare, preprocessing, task.num_outputs, pretrained=False)
    weights = (old.network if same else merged(old.network)).state_dict()
    if task.num_outputs > before.num_outputs:
        weights = grow_head(weights, network, old_classes=before.num_outputs)
    load_weights(network, {f"{MODEL}/{name}": value for name, value in weights.items()})
    if adaptation and not same:
        adapt({name: network.get_submodule(name) for name in network.branch_names}, adaptation)
    assembly = replace(assembly, adaptation=adaptation)
    return Parts(assembly, preprocessing, task, network, model_files(assembly, preprocessing, task_files(task)))


def carried(spec: Spec, network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the optimizer state that a run's parent ended with, "optim/<parameter>/<what>", as far as names fit.

    Raises:
        WrongInput: when the parent's run is no longer in the store, or nothing of its state fits.
    """
    parent = parent_from_json(spec.parent)
    key = "optimization.carry_optimizer"
    if parent is None or parent.kind != EXTEND or not parent.run_key:
        raise WrongInput(
            f"{key}: there is no run to carry it over from; name a Model by --init-from", trouble="wrong-flags"
        )
    there = RunHome.open(storage.open_store(store_of(spec.home)), parent.run_key)
    loaded = there.load_newest() if there.exists() else None
    if loaded is None:
        raise WrongInput(
            f"{key}: the run that made the Model, {parent.run_key}, has no checkpoint in {there.store.uri}"
        )
    state, weights = restore(loaded.tensors(f"{OPTIMIZER}/")), loaded.tensors(f"{MODEL}/")
    shapes = {name.removeprefix(f"{MODEL}/"): tuple(value.shape) for name, value in weights.items()}
    learning = {name: tuple(value.shape) for name, value in network.named_parameters() if value.requires_grad}
    same = {name for name, shape in learning.items() if shapes.get(name) == shape}
    fitting = {
        name: value for name, value in state.items() if name.removeprefix(f"{OPTIMIZER}/").rpartition("/")[0] in same
    }
    if not fitting:
        raise WrongInput(
            f"{key}: nothing of the optimizer state of run {parent.run_key} fits this network; leave the key out",
            trouble="nothing-fits",
        )
    if dist.rank() == 0:
        step, taken = loaded.record.step, f"{len(fitting)} of {len(state)} tensors"
        say(f"optimizer state of run {parent.run_key}, step {step}: {taken}")
    return fitting


def _transferred(
    source: Source,
    assembly: Assembly,
    task: Task,
    data: DataConfig,
    schema: Schema,
    home: RunHome,
    *,
    seed: int,
    strict: bool,
) -> Parts:
    """Return the model of a new task with the weights that fit of a source; rank 0 tells which, and notes it."""
    preprocessing = build_preprocessing(assembly, schema, data)
    torch.manual_seed(seed)
    network = build_network(replace(assembly, adaptation=None), preprocessing, task.num_outputs)
    found = take(network, assembly, preprocessing, task, source)
    tables.check(found, source, heads=heads(assembly), strict=strict)
    if assembly.adaptation:
        adapt({name: network.get_submodule(name) for name in network.branch_names}, assembly.adaptation)
    if dist.rank() == 0:
        home.store.write(tables.FILE, canonical(tables.summary(found, source, heads=heads(assembly))))
        for line in tables.lines(found):
            say(line)
    return Parts(assembly, preprocessing, task, network, model_files(assembly, preprocessing, task_files(task)))


def load_weights(network: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put "model/<name>" tensors into a network; every name must fit."""
    weights = {name.removeprefix(f"{MODEL}/"): value for name, value in tensors.items()}
    if any(value.dtype == torch.float64 for value in weights.values()):
        # Copied into float32, a run in 64 bits would lose half of its digits at each start.
        network.double()
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CarryoverError(
            f"the checkpoint's weights don't fit the network: {' '.join(str(error).split())}", trouble="nothing-fits"
        ) from error
