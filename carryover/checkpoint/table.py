"""Owns the table of one checkpoint's tensors, and how it is written.

{"format": 2, "kind": "tensors", "save": 32 hex,
 "base":    {"digest", "size"} of the table of what never changes, where there is such a part
 "packs":   [{"digest", "size"}, ...], all of them
 "tensors": {name: [dtype, shape, digest, index into packs]}, but for those that the base has}

A base is a table without a base. It is written once, so that a save of an adapter or a head does not grow with the
frozen network below it. Format 1 knew no base, and had an object {"dtype", "shape", "digest", "pack"} for each tensor.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from carryover.checkpoint.layout import Damaged, is_digest, object_name
from carryover.checkpoint.pack import ITEM_SIZES
from carryover.ground.digests import canonical

FORMATS = (1, 2)


@dataclass(frozen=True)
class Ref:
    """Names one object: blake3 in hex, and size in bytes."""

    digest: str
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return the plain form that records and tables carry."""
        return {"digest": self.digest, "size": self.size}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Ref":
        """Read the plain form.

        Raises:
            Damaged: when it is none.
        """
        if not isinstance(value, Mapping) or not is_digest(value.get("digest")) or type(value.get("size")) is not int:
            raise Damaged(f"{str(value)[:80]!r} does not name an object")
        return cls(value["digest"], value["size"])


@dataclass(frozen=True)
class Entry:
    """One tensor of a table: what it is, and the index of the pack that holds it."""

    dtype: str
    shape: tuple[int, ...]
    digest: str
    pack: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * ITEM_SIZES[self.dtype]


@dataclass(frozen=True)
class Table:
    """The tensors of one checkpoint by name, and the packs that hold them; `ref` names the table itself.

    Attributes:
        tensors: all of them, those of the base too, with indices into `packs`.
        base: the table of those that never change, None where there is no such part.
    """

    ref: Ref
    packs: tuple[Ref, ...]
    tensors: Mapping[str, Entry] = field(repr=False)
    base: "Table | None" = field(default=None, repr=False)

    @property
    def objects(self) -> tuple[Ref, ...]:
        """All that must exist for this table to be read, itself first."""
        return (self.ref, *([self.base.ref] if self.base else []), *self.packs)


def among(table: Table, packs: Sequence[Ref]) -> dict[str, Entry]:
    """Return a table's tensors with indices into another list of packs.

    Raises:
        ValueError: when that list lacks one of its packs.
    """
    index = [packs.index(pack) for pack in table.packs]
    return {name: replace(entry, pack=index[entry.pack]) for name, entry in table.tensors.items()}


def base_of(known: Iterable[Table], packs: Sequence[Ref], entries: Mapping[str, Entry]) -> Table | None:
    """Return the base of a known table all of which these tensors have too, None where there is none."""
    for base in {table.base.ref: table.base for table in known if table.base}.values():
        if set(base.packs) <= set(packs) and among(base, packs).items() <= entries.items():
            return base
    return None


def encoded(packs: Sequence[Ref], entries: Mapping[str, Entry], *, save: str, base: Table | None = None) -> bytes:
    """Return the bytes of a table; `save` are 32 hex digits that no other object has."""
    own = {name: entry for name, entry in entries.items() if not base or name not in base.tensors}
    plain: dict[str, Any] = {"format": FORMATS[-1], "kind": "tensors", "save": save}
    plain |= {"base": base.ref.to_json()} if base else {}
    plain |= {"packs": [pack.to_json() for pack in packs]}
    listed = {name: [entry.dtype, list(entry.shape), entry.digest, entry.pack] for name, entry in own.items()}
    return canonical({**plain, "tensors": listed})


def decoded(ref: Ref, data: bytes | bytearray, load: Callable[[Ref], Table]) -> Table:
    """Read the bytes of the table that `ref` names; `load` reads its base.

    Raises:
        Damaged: when they are no table that this version reads.
    """
    try:
        plain = json.loads(data)
        if plain["format"] not in FORMATS or plain["kind"] != "tensors":
            raise Damaged(f"{object_name(ref.digest)}: format {plain['format']} is not one that this version reads")
        packs = tuple(Ref.from_json(pack) for pack in plain["packs"])
        base = load(Ref.from_json(plain["base"])) if "base" in plain else None
        entries = among(base, packs) if base else {}
        entries |= {name: _entry(value) for name, value in plain["tensors"].items()}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged(f"{object_name(ref.digest)}: not a table of tensors: {error}") from error
    return Table(ref, packs, entries, base)


def _entry(value: Any) -> Entry:
    dtype, shape, digest, pack = value if isinstance(value, list) else (value[key] for key in _KEYS)
    return Entry(dtype, tuple(shape), digest, pack)


_KEYS = ("dtype", "shape", "digest", "pack")
