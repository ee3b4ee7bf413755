"""Owns the arena: memory in which each tensor that changes has a place of its own, and which a second process can read.

    memfd            | weight | bias |  ...  | weight's exp_avg |  ...  |       every place begins at 64 bytes
    rank 0           maps it, and copies the state into it                      one an attempt, whatever the ranks
    writing process  maps the same pages, to read

Where the kernel has no memfd it is memory of this process alone.
"""

import ctypes
import math
import mmap
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from carryover.checkpoint.pack import ITEM_SIZES, RawTensor

_ALIGNED = 64


@dataclass(frozen=True)
class Place:
    """Where one tensor lies: its first byte, and what it is, in safetensors' words."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * ITEM_SIZES[self.dtype]


class Arena:
    """Memory with places; nothing in it is synchronised.

    Attributes:
        places: in the order of their bytes.
        memory: all of it, writable in the process that made it.
        descriptor: of the memfd; None where there is none.
    """

    def __init__(self, places: Sequence[Place], memory: mmap.mmap, descriptor: int | None) -> None:
        self.places = tuple(places)
        self.memory = memory
        self.descriptor = descriptor

    @classmethod
    def make(cls, tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> "Arena":
        """Return an arena for (name, dtype, shape) of each tensor; its memory is given when it is first written."""
        places, end = [], 0
        for name, dtype, shape in tensors:
            place = Place(name, dtype, shape, end)
            places.append(place)
            end += -(-place.size // _ALIGNED) * _ALIGNED
        # (No map may be empty.)
        end = max(end, _ALIGNED)
        if not hasattr(os, "memfd_create"):
            return cls(places, mmap.mmap(-1, end), None)
        descriptor = os.memfd_create("carryover-arena")
        os.ftruncate(descriptor, end)
        return cls(places, mmap.mmap(descriptor, end), descriptor)

    @classmethod
    def mapped(cls, descriptor: int, places: Sequence[Place]) -> "Arena":
        """Return another process's arena, to read."""
        return cls(places, mmap.mmap(descriptor, 0, prot=mmap.PROT_READ), descriptor)

    def tensors(self) -> dict[str, RawTensor]:
        """Return what lies there now by name: views, not copies, so it must stand still while they are used."""
        view = memoryview(self.memory)
        return {
            place.name: RawTensor(place.dtype, place.shape, view[place.start : place.start + place.size])
            for place in self.places
        }

    def touch(self) -> None:
        """Have the kernel give all the memory now, at nine times the cost of a later copy; other threads go on."""
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(self.memory)), 0, len(self.memory))

    def close(self) -> None:
        """Let the descriptor go; the memory goes when nobody has a view of it any more."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
