"""Owns how the parts of one attempt come to be: device, precision, weights, and what a checkpoint brings back."""

import json
import os
import shutil

import torch
from torch import nn

from carryover.checkpoint.home import Loaded, RunHome
from carryover.checkpoint.prefetch import hold
from carryover.checkpoint.record import decode
from carryover.checkpoint.writer import head_of
from carryover.ground import dist
from carryover.ground.errors import WrongInput
from carryover.train.environment import CompileConfig, Env
from carryover.train.spec import Spec


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
        raise WrongInput(
            f"env.compile.backend: {config.backend!r} is not possible; torch knows {', '.join(known)}",
            trouble="wrong-value",
        )
    compilers = (os.environ.get("CXX", ""), "g++", "clang++")
    if config.backend == "inductor" and not any(name and shutil.which(name) for name in compilers):
        raise WrongInput(
            "env.compile.backend: 'inductor' needs a C++ compiler, and there is none here; install g++ or clang++, "
            "name one by CXX, or set env.compile.turn_on to false",
            trouble="missing-package",
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


def load_agreed(home: RunHome, device: torch.device, spec: Spec) -> Loaded | None:
    """Return the newest commit that verifies, the same one on every rank; None when there is none. Collective.

    What the step has read of the log is not read again, nor are the objects that it reads ahead; the other ranks load
    the very record that rank 0 believes.

    Raises:
        CarryoverError: when there are commits and none can be used.
    """
    hold(home, spec.scratch)
    loaded = home.load_newest(head=head_of(spec.handoff)) if dist.rank() == 0 else None
    data = dist.bytes_from_first(loaded.record.data if loaded else b"", device)
    if dist.rank() and data:
        loaded = home.load_confirmed(decode(json.loads(data)["number"], data))
    return loaded
