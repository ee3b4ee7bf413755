"""Owns the copy of the live state that a save is made of, and whether it is whole.

    commit                      beside the next forward and backward          right before the update
    note versions               copy weights and optimizer state              whole: versions are as they were
    copy buffers                (one thread, none of torch's pools)

Only an update writes weights and optimizer state; they stand still in between. Where something else writes them (a
network that changes a parameter in its forward pass), torch's version counters tell, except for writes through `.data`:
so the first copy of an attempt is taken while training stands still, and compared bit by bit right before the update.
(A network that begins to write through `.data` later than that is not found out.)
"""

import ctypes
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from carryover.checkpoint.arena import Arena
from carryover.checkpoint.snapshot import dtype_name

# Below that one call for all is cheaper than a call for each, and no copy of torch's is spread over threads.
_LARGE_NUMBERS = 32768


class Staging:
    """Copies state into an arena.

    Args:
        device: where the state lives.
    """

    def __init__(self, device: torch.device) -> None:
        self.arena: Arena | None = None
        self._device = device
        self._places: dict[str, Tensor] = {}
        self._fitted: list[tuple[Any, ...]] = []
        self._live: dict[str, Tensor] = {}
        self._still: list[str] = []
        self._watched: list[Tensor] = []
        self._versions: list[int] = []
        self._left: list[str] = []
        self._pinned: Tensor | None = None

    def fit(self, tensors: Mapping[str, Tensor]) -> bool:
        """Make the arena for these tensors unless the one there is; tells whether it was made. No copy is on its way.

        Raises:
            ValueError: for a tensor that can't be saved.
        """
        wanted = [(name, tensor.shape, tensor.dtype, tensor.layout) for name, tensor in tensors.items()]
        if self.arena and self._fitted == wanted:
            return False
        self.close()
        self.arena = Arena.make((name, dtype_name(tensor), tuple(tensor.shape)) for name, tensor in tensors.items())
        self._fitted = wanted
        flat = torch.frombuffer(self.arena.memory, dtype=torch.uint8)
        if self._device.type == "cuda":
            # A GPU copies into such memory directly; where it can't be had, copies are slower and nothing else.
            _runtime().cudaHostRegister(flat.data_ptr(), flat.numel(), 0)
            self._pinned = flat
        self._places = {
            place.name: flat[place.start : place.start + place.size].view(tensors[place.name].dtype).view(place.shape)
            for place in self.arena.places
        }
        return True

    def begin(self, tensors: Mapping[str, Tensor], still: Collection[str], *, beside: bool) -> None:
        """Copy the tensors; the arena fits them.

        Args:
            still: names of those that only an update writes.
            beside: leave these to `finish`.
        """
        self._live = {name: tensor.detach() if tensor.requires_grad else tensor for name, tensor in tensors.items()}
        self._still = [name for name in tensors if name in still]
        self._watched = [self._live[name] for name in self._still]
        self._versions = [tensor._version for tensor in self._watched]
        self._left = self._still if beside else []
        self._copy([name for name in tensors if name not in still] if beside else list(tensors))
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def finish(self) -> None:
        """Copy what is left; for a thread beside the loop."""
        self._copy(self._left)

    def whole(self, *, thorough: bool = False) -> bool:
        """Tell whether what stands still did so since `begin`: asked once, when the copy is finished.

        Args:
            thorough: compare all of it bit by bit too.
        """
        untouched = [tensor._version for tensor in self._watched] == self._versions
        live, self._live, self._watched = self._live, {}, []
        return untouched and (not thorough or all(_same(self._places[name], live[name]) for name in self._still))

    def close(self) -> None:
        """Give the memory back."""
        if self._pinned is not None:
            _runtime().cudaHostUnregister(self._pinned.data_ptr())
        self._places, self._live, self._watched, self._pinned = {}, {}, [], None
        if self.arena:
            self.arena.close()
        self.arena = None

    def _copy(self, names: Collection[str]) -> None:
        small, large = [], []
        for name in names:
            (large if _is_plain(self._live[name]) else small).append(name)
        if small:
            to, of = [self._places[name] for name in small], [self._live[name] for name in small]
            torch._foreach_copy_(to, of, non_blocking=True)  # pyright: ignore[reportPrivateImportUsage]
        for name in large:
            to, of = self._places[name], self._live[name]
            ctypes.memmove(to.data_ptr(), of.data_ptr(), of.numel() * of.element_size())


def _runtime() -> Any:
    return torch.cuda.cudart()


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.numel() >= _LARGE_NUMBERS
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
        and not tensor.is_conj()
        and not tensor.is_neg()
    )


def _same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are the same bits: NaN is NaN, and 0 is not -0."""
    other = other.resolve_conj().resolve_neg().contiguous()
    size = other.numel() * other.element_size()
    memcmp = ctypes.CDLL(None).memcmp
    memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    return memcmp(one.data_ptr(), other.data_ptr(), size) == 0
