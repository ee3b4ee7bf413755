"""Owns the way between torch tensors and raw ones; alone on this floor it imports torch."""

import sys
from collections.abc import Mapping

import numpy as np
import torch

from carryover.checkpoint.pack import RawTensor

_NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


def dtype_name(tensor: torch.Tensor) -> str:
    """Return what safetensors calls a tensor's dtype.

    Raises:
        ValueError: for one that it can't hold, or a sparse tensor.
    """
    assert sys.byteorder == "little", "tensors are stored little-endian"
    if tensor.dtype not in _NAMES or tensor.layout is not torch.strided:
        raise ValueError(f"a {tensor.layout} tensor of {tensor.dtype} can't be saved; it must be dense")
    return _NAMES[tensor.dtype]


def to_raw(tensor: torch.Tensor, *, lasting: bool = False) -> RawTensor:
    """Return a tensor's bytes: its own memory where it is contiguous and on the CPU, otherwise a copy.

    Args:
        lasting: see `RawTensor`.

    Raises:
        ValueError: for a dtype that safetensors can't hold, or a sparse tensor.
    """
    dtype = dtype_name(tensor)
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return RawTensor(dtype, tuple(tensor.shape), flat.view(torch.uint8).numpy().data, lasting)


def to_torch(raw: RawTensor) -> torch.Tensor:
    """Return a CPU tensor of its own memory, same dtype and shape, bit for bit.

    Raises:
        ValueError: for a dtype that torch does not have.
    """
    if raw.dtype not in _DTYPES:
        raise ValueError(f"torch has no dtype for {raw.dtype}")
    tensor = torch.empty(raw.shape, dtype=_DTYPES[raw.dtype])
    if raw.size:
        tensor.reshape(-1).view(torch.uint8).numpy()[:] = np.frombuffer(raw.data, dtype=np.uint8)
    return tensor


def viewed(tensors: Mapping[str, RawTensor]) -> dict[str, torch.Tensor]:
    """Return CPU tensors by the same names in the raw ones' own memory: for who copies them at once, and keeps none."""
    return {name: _view(raw) for name, raw in tensors.items()}


def _view(raw: RawTensor) -> torch.Tensor:
    if not raw.size or memoryview(raw.data).readonly or raw.dtype not in _DTYPES:
        return to_torch(raw)
    return torch.frombuffer(raw.data, dtype=torch.uint8).view(_DTYPES[raw.dtype]).reshape(raw.shape)


def snapshot(tensors: Mapping[str, torch.Tensor], *, lasting: bool = False) -> dict[str, RawTensor]:
    """Return raw tensors by the same names; see `to_raw` for when they alias the originals."""
    return {name: to_raw(tensor, lasting=lasting) for name, tensor in tensors.items()}


def restore(tensors: Mapping[str, RawTensor]) -> dict[str, torch.Tensor]:
    """Return CPU tensors by the same names."""
    return {name: to_torch(raw) for name, raw in tensors.items()}
