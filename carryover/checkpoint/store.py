"""Owns the objects of a run: content named by its digest, verified by size and digest before anything in it is read.

    objects/<blake3 of the whole file>
        pack     safetensors; its keys are digests of tensors, so equal tensors are one (see pack.py)
        table    canonical JSON, the tensors of one checkpoint by name:
                 {"format": 1, "kind": "tensors", "save": 32 hex,
                  "packs":   [{"digest", "size"}, ...],
                  "tensors": {name: {"dtype", "shape", "digest", "pack": index into packs}}}
        file     32 hex, a line feed, then any bytes (preprocessors, tokenizers)

No two objects have one name, even of equal content: each carries 32 random hex digits. So an attempt that stood still
in the middle of a removal, and goes on with it when its successor has long saved the same content again, can't hit what
the successor refers to: a name that was ever due for removal is never written again.

A save hashes every tensor, looks the digests up in the tables it is given and in what this save has written, and packs
only the rest: one pack for each group (the first part of the name: model/..., optim/..., and apart from them what never
changes, since its pack stays when all others go), cut at about one GiB.
"""

import contextlib
import json
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from carryover.checkpoint.layout import FORMAT, OBJECTS, Damaged, is_digest, object_name, settled
from carryover.checkpoint.pack import ITEM_SIZES, RawTensor, parse, pieces
from carryover.ground.digests import Hasher, canonical, digest
from carryover.ground.storage import Store

PACK_BYTES = 1 << 30
_CHUNK = 8 << 20
_FILE_HEAD = 33
Bytes = bytes | bytearray | memoryview


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
    """The tensors of one checkpoint by name, and the packs that hold them; `ref` names the table itself."""

    ref: Ref
    packs: tuple[Ref, ...]
    tensors: Mapping[str, Entry] = field(repr=False)

    @property
    def objects(self) -> tuple[Ref, ...]:
        """All that must exist for this table to be read, itself first."""
        return (self.ref, *self.packs)


class Objects:
    """The objects of one run home; `bytes_written` counts what was sent since the start, lost tries too."""

    def __init__(self, home: Store) -> None:
        self.home = home
        self.bytes_written = 0
        self._written: list[str] = []

    @contextlib.contextmanager
    def taken_back_on_error(self) -> Iterator[None]:
        """Remove the objects that the block wrote when it fails, where that costs nothing: on a local disk.

        On a full one the next try needs the room. An object store that failed would be waited for again; there, and
        where the process dies, a later sweep removes them.
        """
        self._written = []
        try:
            yield
        except Exception:
            self.take_back()
            raise

    def take_back(self) -> None:
        """Remove what was written and is referred to by no record, on a local disk; elsewhere a sweep does."""
        if self.home.local:
            with contextlib.suppress(OSError):
                for name in self._written:
                    self.delete(name)
        self._written = []

    def referred_to(self) -> None:
        """Take note that a record has arrived that may refer to all that was written."""
        self._written = []

    def put(self, data: Bytes) -> Ref:
        """Write one object and return its name; `data` must be what nobody has written before."""
        ref = Ref(digest(data), memoryview(data).nbytes)
        self._written.append(ref.digest)
        self.home.write(object_name(ref.digest), data)
        self.bytes_written += ref.size
        return ref

    def get(self, ref: Ref) -> bytes:
        """Return an object's content.

        Raises:
            Damaged: when it is missing, or not of the size and digest that `ref` says.
            RunAgain: when every read gives something else.
        """
        return settled(lambda: self._get(ref))

    def put_files(self, files: Mapping[str, bytes], known: Mapping[str, Ref] = MappingProxyType({})) -> dict[str, Ref]:
        """Write files and return the object of each by name.

        Args:
            files: name -> content.
            known: digest of a content -> its object, verified or written by this process, and still kept: not written.
        """
        written = dict(known)
        stored: dict[str, Ref] = {}
        for name, content in files.items():
            key = digest(content)
            if key not in written:
                written[key] = self.put(f"{_save()}\n".encode() + content)
            stored[name] = written[key]
        return stored

    def get_file(self, ref: Ref) -> bytes:
        """Return a file's content; raises as `get` does."""
        data = self.get(ref)
        if len(data) < _FILE_HEAD or data[_FILE_HEAD - 1 : _FILE_HEAD] != b"\n":
            raise Damaged(f"{object_name(ref.digest)}: not a file")
        return data[_FILE_HEAD:]

    def check(self, ref: Ref) -> None:
        """Hash an object in pieces, in little memory; raises as `get` does."""
        settled(lambda: self._check(ref))

    def _get(self, ref: Ref) -> bytes:
        try:
            data = self.home.read(object_name(ref.digest))
        except FileNotFoundError:
            raise Damaged(f"{object_name(ref.digest)}: missing") from None
        _check(ref, len(data), digest(data))
        return data

    def _check(self, ref: Ref) -> None:
        hasher, size = Hasher(), 0
        try:
            with self.home.open(object_name(ref.digest)) as file:
                while chunk := file.read(_CHUNK):
                    hasher.update(chunk)
                    size += len(chunk)
        except FileNotFoundError:
            raise Damaged(f"{object_name(ref.digest)}: missing") from None
        _check(ref, size, hasher.hexdigest())

    def check_sizes(self, refs: Iterable[Ref]) -> None:
        """See that objects are there with their sizes, without reading them; raises as `get` does."""
        for ref in refs:
            size = self.home.size(object_name(ref.digest))
            if size is None:
                raise Damaged(f"{object_name(ref.digest)}: missing")
            _check(ref, size, ref.digest)

    def names(self) -> list[str]:
        """Return the digests of all objects there, referred to or not."""
        return [name for name in self.home.names(OBJECTS) if is_digest(name)]

    def delete(self, name: str) -> None:
        """Remove the object of this digest."""
        self.home.delete(object_name(name))

    def put_tensors(self, tensors: Mapping[str, RawTensor], known: Iterable[Table] = ()) -> Table:
        """Write the tensors that no known table has, then the table of all; one that is known already is returned.

        Args:
            tensors: name -> tensor; names are paths such as "model/hf_text.weight".
            known: tables whose packs were verified or written by this process and are still kept.
        """
        places: dict[str, Ref] = {}
        known = list(known)
        for table in known:
            places.update({entry.digest: table.packs[entry.pack] for entry in table.tensors.values()})
        for group in _groups(tensors, places):
            pack = self._put_pack(group)
            places.update({tensor.digest: pack for tensor in group})
        packs = list(dict.fromkeys(places[tensor.digest] for tensor in tensors.values()))
        index = {pack: i for i, pack in enumerate(packs)}
        entries = {
            name: Entry(raw.dtype, raw.shape, raw.digest, index[places[raw.digest]]) for name, raw in tensors.items()
        }
        for table in known:
            if (table.packs, table.tensors) == (tuple(packs), entries):
                return table
        return Table(self.put(_table_bytes(packs, entries)), tuple(packs), entries)

    def load_table(self, ref: Ref) -> Table:
        """Read a table (not its packs); raises as `get` does."""
        data = self.get(ref)
        try:
            plain = json.loads(data)
            if (plain["format"], plain["kind"]) != (FORMAT, "tensors"):
                raise Damaged(f"{object_name(ref.digest)}: format {plain['format']} is not one that this version reads")
            packs = tuple(Ref.from_json(pack) for pack in plain["packs"])
            entries = {
                name: Entry(value["dtype"], tuple(value["shape"]), value["digest"], value["pack"])
                for name, value in plain["tensors"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{object_name(ref.digest)}: not a table of tensors: {error}") from error
        return Table(ref, packs, entries)

    def read_tensors(self, table: Table | Ref, prefix: str | tuple[str, ...] = "") -> dict[str, RawTensor]:
        """Return name -> tensor for the names that start with (one) `prefix`; reads only the packs that hold them.

        The tensors are views of whole packs, which stay in memory as long as one of them does.

        Raises:
            Damaged: when the table or a pack is not what it must be; nothing is returned then.
        """
        if isinstance(table, Ref):
            table = self.load_table(table)
        wanted = {name: entry for name, entry in table.tensors.items() if name.startswith(prefix)}
        contents: dict[int, dict[str, RawTensor]] = {}
        for index in sorted({entry.pack for entry in wanted.values()}):
            if not 0 <= index < len(table.packs):
                raise Damaged(f"{object_name(table.ref.digest)}: names pack {index}, which it does not have")
            contents[index] = parse(self.get(table.packs[index]))
        return {name: _pick(contents[entry.pack], name, entry) for name, entry in wanted.items()}

    def _put_pack(self, tensors: Sequence[RawTensor]) -> Ref:
        hasher, size, save = Hasher(), 0, _save()
        for piece in pieces(tensors, save=save):
            hasher.update(piece)
            size += memoryview(piece).nbytes
        # The name is known before the first byte goes out: hashing twice is cheaper than one copy.
        ref = Ref(hasher.hexdigest(), size)
        self._written.append(ref.digest)
        with self.home.open_write(object_name(ref.digest)) as file:
            for piece in pieces(tensors, save=save):
                file.write(piece)
        self.bytes_written += size
        return ref


def _save() -> str:
    return secrets.token_hex(16)


def _check(ref: Ref, size: int, found: str) -> None:
    if size != ref.size:
        raise Damaged(f"{object_name(ref.digest)}: {size} bytes, must be {ref.size}", found=found)
    if found != ref.digest:
        raise Damaged(f"{object_name(ref.digest)}: content has changed, its blake3 is {found}", found=found)


def _groups(tensors: Mapping[str, RawTensor], places: Mapping[str, Ref]) -> list[list[RawTensor]]:
    """Return the tensors to write, each digest once, in packs-to-be."""
    seen = set(places)
    open_groups: dict[tuple[str, bool], list[RawTensor]] = {}
    full: list[list[RawTensor]] = []
    for name, tensor in tensors.items():
        if tensor.digest in seen:
            continue
        seen.add(tensor.digest)
        group = name.partition("/")[0], tensor.lasting
        pending = open_groups.setdefault(group, [])
        if pending and sum(other.size for other in pending) + tensor.size > PACK_BYTES:
            full.append(pending)
            pending = open_groups[group] = []
        pending.append(tensor)
    return full + list(open_groups.values())


def _table_bytes(packs: Sequence[Ref], entries: Mapping[str, Entry]) -> bytes:
    tensors = {
        name: {"dtype": entry.dtype, "shape": list(entry.shape), "digest": entry.digest, "pack": entry.pack}
        for name, entry in entries.items()
    }
    plain = {"format": FORMAT, "kind": "tensors", "save": _save(), "packs": [pack.to_json() for pack in packs]}
    return canonical({**plain, "tensors": tensors})


def _pick(pack: Mapping[str, RawTensor], name: str, entry: Entry) -> RawTensor:
    tensor = pack.get(entry.digest)
    if tensor is None or (tensor.dtype, tensor.shape) != (entry.dtype, entry.shape):
        raise Damaged(f"tensor {name}: its pack does not hold {entry.dtype} {entry.shape} {entry.digest}")
    return tensor
