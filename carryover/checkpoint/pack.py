"""Owns raw tensors and the packs that hold them: safetensors files whose keys are the digests of the content.

    +----------------+-------------------------------------------------------------+------------------------+
    | header length  | header: JSON, padded with blanks to a multiple of 8 bytes   | data, tensor by tensor |
    | 8 bytes, LE    | {digest: {"dtype", "shape", "data_offsets": [start, end]},  | largest items first    |
    |                |  "__metadata__": {"format": "pt", "save": 32 hex}}          |                        |
    +----------------+-------------------------------------------------------------+------------------------+

The format is https://github.com/huggingface/safetensors#format. It is written here, not by that library, because a pack
goes out piece by piece straight from the tensors' own memory and is read as views of one buffer: no copies either way.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from carryover.checkpoint.layout import Damaged
from carryover.ground.digests import Hasher, canonical

# Bytes of one item, by safetensors' names.
ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
_METADATA = "__metadata__"


@dataclass(frozen=True)
class RawTensor:
    """A tensor as bytes: little-endian, row-major, without padding.

    Attributes:
        dtype: safetensors' name, e.g. "F32", "BF16".
        shape: sizes, () for a single number.
        data: the bytes, which may be the live memory of a tensor: it must stand still until a save is over.
        lasting: whether it is the same in every save to come; such tensors are packed by themselves.

    Raises:
        ValueError: for an unknown dtype, or when dtype, shape and number of bytes don't agree.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview = field(repr=False)
    lasting: bool = field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dtype not in ITEM_SIZES:
            raise ValueError(f"dtype {self.dtype!r} is unknown; known are {', '.join(sorted(ITEM_SIZES))}")
        if self.size != math.prod(self.shape) * ITEM_SIZES[self.dtype]:
            raise ValueError(f"{self.dtype} of shape {self.shape} can't have {self.size} bytes")

    @property
    def size(self) -> int:
        """Number of bytes."""
        return memoryview(self.data).nbytes

    @cached_property
    def digest(self) -> str:
        """blake3 in hex over "F32|2,3|" (dtype and shape) and the data: equal content, equal digest."""
        head = f"{self.dtype}|{','.join(map(str, self.shape))}|".encode()
        return Hasher(head).update(self.data).hexdigest()


@dataclass(frozen=True)
class Kept:
    """A tensor whose bytes a commit that is kept has already, so that its digest is enough; fields as RawTensor's."""

    dtype: str
    shape: tuple[int, ...]
    digest: str
    lasting: bool = True


def pieces(tensors: Sequence[RawTensor], *, save: str) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the bytes of a pack of distinct tensors, header first, without copying any tensor.

    Args:
        tensors: what to pack.
        save: 32 hex digits that no other pack has (see store.py for why).
    """
    ordered = sorted(tensors, key=lambda tensor: (-ITEM_SIZES[tensor.dtype], tensor.digest))
    # "pt" is what other safetensors readers ask for.
    header: dict[str, object] = {_METADATA: {"format": "pt", "save": save}}
    end = 0
    for tensor in ordered:
        start, end = end, end + tensor.size
        header[tensor.digest] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = canonical(header)
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for tensor in ordered:
        yield tensor.data


def parse(data: bytes | bytearray | memoryview) -> dict[str, RawTensor]:
    """Return key -> tensor of a safetensors file; the tensors are views of `data`.

    Raises:
        Damaged: when it is no such file. The caller has checked the digest, so this means that it never was one.
    """
    view = memoryview(data)
    try:
        (length,) = struct.unpack_from("<Q", view)
        header = json.loads(bytes(view[8 : 8 + length]))
        body = view[8 + length :]
        return {key: _tensor(entry, body) for key, entry in header.items() if key != _METADATA}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"not a safetensors file: {error}") from error


def _tensor(entry: Mapping[str, object], body: memoryview) -> RawTensor:
    start, end = entry["data_offsets"]  # pyright: ignore[reportGeneralTypeIssues]
    if not 0 <= start <= end <= body.nbytes:
        raise ValueError(f"data offsets [{start}, {end}] lie outside the file")
    return RawTensor(str(entry["dtype"]), tuple(entry["shape"]), body[start:end])  # pyright: ignore[reportArgumentType]
