"""Owns how the parts of one attempt come to be: device, precision, weights, and what a checkpoint brings back."""

import json
import os
import shutil
from dataclasses import dataclass, replace

import torch
from torch import nn

from carryover.carry import tables
from carryover.carry.foreign import Source
from carryover.carry.take import heads, take
from carryover.carry.transfer import placed
from carryover.checkpoint.home import Loaded, RunHome
from carryover.checkpoint.snapshot import restore
from carryover.data.config import DataConfig
from carryover.data.schema import Schema
from carryover.ground import dist
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
from carryover.train.environment import CompileConfig, Env
from carryover.train.outcome import open_parent
from carryover.train.parent import EXTEND, Parent


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


def choose_device(env: Env) -> torch.device:
    """Return this rank's device.

    Raises:
        WrongInput: when a GPU is asked for and there are fewer than ranks.
    """
    count = torch.cuda.device_count() if env.allows_gpus else 0
    wanted = max(env.num_gpus, 1 if env.accelerator == "gpu" else 0)
    if wanted and not count and env.allows_gpus:
        name, value = ("accelerator", "gpu") if env.accelerator == "gpu" else ("num_gpus", env.num_gpus)
        raise WrongInput(f"env.{name}: {value!r} is not possible; this machine has no GPU that PyTorch can use")
    if not count:
        return torch.device("cpu")
    if dist.local_rank() >= count:
        raise WrongInput(
            f"--nproc-per-node, env.num_gpus: more ranks than GPUs ({count}); ask for at most {count}, or for "
            "accelerator cpu"
        )
    device = torch.device("cuda", dist.local_rank())
    torch.cuda.set_device(device)
    return device


def choose_precision(env: Env, device: torch.device, before: str) -> str:
    """Return the precision to compute in; `auto` stays what it was before, so that other hardware changes nothing."""
    if env.precision != "auto":
        return env.precision
    if before:
        return before
    if device.type != "cuda":
        return "32"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def compiled(network: nn.Module, config: CompileConfig) -> nn.Module:
    """Return the same network, compiled where that is asked for; its parameters and their names stay as they are.

    Raises:
        WrongInput: when the backend can't work here.
    """
    if not config.turn_on:
        return network
    # The compiler takes seconds to import.
    known = torch.compiler.list_backends(exclude_tags=())
    if config.backend not in known:
        raise WrongInput(f"env.compile.backend: {config.backend!r} is not possible; torch knows {', '.join(known)}")
    compilers = (os.environ.get("CXX", ""), "g++", "clang++")
    if config.backend == "inductor" and not any(name and shutil.which(name) for name in compilers):
        raise WrongInput(
            "env.compile.backend: 'inductor' needs a C++ compiler, and there is none here; install g++ or clang++, "
            "name one by CXX, or set env.compile.turn_on to false"
        )
    # What another attempt in this process compiled counts towards torch's limit, past which it compiles no more.
    torch.compiler.reset()
    network.compile(backend=config.backend, mode=config.mode, dynamic=config.dynamic)
    return network


def make_deterministic() -> None:
    """Ask for operations that give the same bits each time; one that has no such form warns."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The usual call for the same switch imports the compiler, which takes seconds (docs/decisions.md).
    torch.set_deterministic_debug_mode("warn")
    # Nothing here reads memory that nobody wrote; filling all of it first would cost every operation.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = False


def load_agreed(home: RunHome, device: torch.device) -> Loaded | None:
    """Return the newest commit that verifies, the same one on every rank; None when there is none. Collective.

    Raises:
        CarryoverError: when there are commits and none can be used.
    """
    loaded = home.load_newest() if dist.rank() == 0 else None
    number = torch.tensor([loaded.record.number if loaded else -1], dtype=torch.long, device=device)
    agreed = int(dist.from_first(number))
    if dist.rank() and agreed >= 0:
        loaded = home.load(home.log.read(agreed))
    return loaded


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
        load_weights(network, restore(loaded.tensors(f"{MODEL}/")))
    return Parts(assembly, preprocessing, task, network, files)


def _extended(
    found: Found, model: ModelConfig, data: DataConfig, schema: Schema, *, seed: int, adaptation: Adaptation | None
) -> Parts:
    """Return a Model as a run begins with it: its files and weights, with the adapters that are asked for now."""
    files = found.files()
    task = restore_task(files)
    old = load_model(found, num_outputs=task.num_outputs)
    same = adaptation == old.assembly.adaptation
    assembly = renewed(old.assembly, model)
    preprocessing = restore_preprocessing(assembly, files, dropout=data.modality_dropout)
    # New adapters, like all new layers, are a function of the seed; old ones that are not wanted are merged.
    torch.manual_seed(seed)
    bare = assembly if same else replace(assembly, adaptation=None)
    network = build_network(bare, preprocessing, task.num_outputs, pretrained=False)
    weights = (old.network if same else merged(old.network)).state_dict()
    load_weights(network, {f"{MODEL}/{name}": value for name, value in weights.items()})
    if adaptation and not same:
        adapt({name: network.get_submodule(name) for name in network.branch_names}, adaptation)
    assembly = replace(assembly, adaptation=adaptation)
    return Parts(assembly, preprocessing, task, network, model_files(assembly, preprocessing, task_files(task)))


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
            f"the checkpoint's weights don't fit the network: {' '.join(str(error).split())}"
        ) from error
