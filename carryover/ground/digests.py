"""Owns how content is named: blake3 in hex, over bytes or over canonical JSON."""

import json
from typing import Any

from blake3 import blake3

Hasher = blake3

# Folder names carry 128 bits: short enough to read, far too long to meet by chance.
SHORT = 32


def digest(data: bytes | bytearray | memoryview) -> str:
    """Return the blake3 of `data` as 64 hex characters."""
    # blake3 releases the GIL; its own threads pay off only on packs, not on records.
    return blake3(data).hexdigest()


def canonical(value: Any) -> bytes:
    """Return the one JSON spelling of `value`: sorted keys, no blanks, UTF-8.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def same(one: Any, other: Any) -> bool:
    """Tell whether two plain values are the same JSON: 1 (step) and 1.0 (epoch) are not, nor 1 and true."""
    return canonical(one) == canonical(other)


def short(hexadecimal: str) -> str:
    """Return the part of a digest that names folders."""
    return hexadecimal[:SHORT]
