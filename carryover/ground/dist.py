"""Owns the ranks: the only importer of torch.distributed. One process without a launcher is a world of one."""

import contextlib
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn


def world() -> int:
    """Return the number of ranks."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return this process's rank, 0 in a world of one."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Return this process's rank on its node."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def nodes() -> int:
    """Return the number of machines that the ranks are on, 1 without a launcher."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1"))


def start(device: torch.device, *, timeout_seconds: float = 600.0) -> None:
    """Join the other ranks: NCCL on GPUs, gloo on CPUs. Collective; nothing to do in a world of one."""
    if world() > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))


def stop() -> None:
    """Leave the group of ranks."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def wrap(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network under DistributedDataParallel (rank 0 gives the weights), or itself in a world of one."""
    if world() == 1:
        return network
    from torch.nn.parallel import DistributedDataParallel

    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=ids, gradient_as_bucket_view=True)


def apart(wrapped: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which backward passes do not sum gradients over ranks; for a network under `wrap`."""
    from torch.nn.parallel import DistributedDataParallel

    assert isinstance(wrapped, DistributedDataParallel)
    return wrapped.no_sync()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over all ranks in place and return it. Collective."""
    if world() > 1:
        distributed.all_reduce(values)
    return values


def from_first(values: Tensor) -> Tensor:
    """Return rank 0's tensor, on every rank; shapes and dtypes must agree. Collective."""
    if world() > 1:
        distributed.broadcast(values, src=0)
    return values


def bytes_from_first(data: bytes, device: torch.device) -> bytes:
    """Return rank 0's bytes, on every rank; lengths may differ. Collective."""
    length = int(from_first(torch.tensor([len(data)], dtype=torch.long, device=device)))
    if not length:
        return b""
    mine = torch.zeros(length, dtype=torch.uint8, device=device)
    if rank() == 0:
        mine.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return bytes(from_first(mine).tolist())


def share_buffers(network: nn.Module) -> None:
    """Give every rank rank 0's buffers, such as a BatchNorm's running statistics, in place. Collective.

    DistributedDataParallel does so before a forward pass only: after the last one each rank has its own.
    """
    for buffer in network.buffers() if world() > 1 else ():
        distributed.broadcast(buffer, src=0)


def gather_rows(rows: Tensor) -> list[Tensor]:
    """Return every rank's [n_r, ...] tensor (n_r may differ), in rank order, on each rank. Collective.

    All ranks must give the same number of dimensions, trailing sizes and dtype.
    """
    if world() == 1:
        return [rows]
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world())]
    distributed.all_gather(counts, torch.tensor([rows.shape[0]], dtype=torch.long, device=rows.device))
    most = max(int(count) for count in counts)
    padded = rows.new_zeros((most, *rows.shape[1:]))
    padded[: rows.shape[0]] = rows
    parts = [torch.empty_like(padded) for _ in range(world())]
    distributed.all_gather(parts, padded)
    return [part[: int(count)] for part, count in zip(parts, counts, strict=True)]


def barrier() -> None:
    """Wait for all ranks. Collective."""
    if world() > 1:
        distributed.barrier()


def is_lost_peer(error: BaseException) -> bool:
    """Tell whether an error means that another rank is gone, rather than that this one did something wrong."""
    if isinstance(error, distributed.DistError):
        return True
    # gloo raises plain RuntimeErrors; they name its transport.
    return isinstance(error, RuntimeError) and "gloo/transport" in str(error)
