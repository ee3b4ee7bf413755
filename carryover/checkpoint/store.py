"""Owns the objects of a run: content named by its digest, verified by size and digest before anything in it is read.

    objects/<blake3 of the whole file>
        pack     safetensors; its keys are digests of tensors, so equal tensors are one (see pack.py)
        table    canonical JSON, the tensors of one checkpoint by name (see table.py)
        file     32 hex, a line feed, then any bytes (preprocessors, tokenizers)

No two objects have one name, even of equal content: each carries 32 random hex digits. So an attempt that stood still
in the middle of a removal, and goes on with it when its successor has long saved the same content again, can't hit what
the successor refers to: a name that was ever due for removal is never written again.

A save hashes every tensor, looks the digests up in the tables it is given and in what this save has written, and packs
only the rest: one pack for each group (the first part of the name: model/..., optim/..., and apart from them what never
changes, since its pack stays when all others go), cut at about one GiB.
"""

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from carryover.checkpoint.layout import OBJECTS, Damaged, is_digest, object_name, settled
from carryover.checkpoint.pack import Kept, RawTensor, parse, pieces
from carryover.checkpoint.table import Entry, Ref, Table, base_of, decoded, encoded
from carryover.ground.digests import Hasher, digest
from carryover.ground.storage import Store

PACK_BYTES = 1 << 30
_FILE_HEAD = 33
_ASKED_AT_ONCE = 8
Bytes = bytes | bytearray | memoryview


class Objects:
    """The objects of one run home; `bytes_written` counts what was sent since the start, lost tries too.

    Attributes:
        held: digest -> content of objects that were read and verified already (see prefetch.py).
    """

    def __init__(self, home: Store) -> None:
        self.home = home
        self.bytes_written = 0
        self.held: Mapping[str, memoryview] = {}
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

    def get(self, ref: Ref) -> bytearray:
        """Return an object's content.

        Raises:
            Damaged: when it is missing, or not of the size and digest that `ref` says.
            RunAgain: when every read gives something else.
        """
        if (there := self._held(ref)) is not None:
            return bytearray(there)
        try:
            data = bytearray(ref.size)
        except (MemoryError, OverflowError, ValueError):
            # A size that no machine has memory for is hardly that of the object.
            self.check_sizes([ref])
            raise
        self.get_into(ref, data)
        return data

    def _held(self, ref: Ref) -> memoryview | None:
        there = self.held.get(ref.digest)
        return there if there is not None and there.nbytes == ref.size else None

    def get_into(self, ref: Ref, buffer: bytearray | memoryview) -> None:
        """Fill a buffer of just its size with an object's content; raises as `get` does, and then it holds anything."""
        settled(lambda: self._get_into(ref, buffer))

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
        return bytes(memoryview(data)[_FILE_HEAD:])

    def check(self, ref: Ref) -> None:
        """Hash an object in pieces, in little memory; raises as `get` does."""
        settled(lambda: self._check(ref))

    def _get_into(self, ref: Ref, buffer: bytearray | memoryview) -> None:
        name, hasher = object_name(ref.digest), Hasher()
        try:
            size = self.home.read_into(name, buffer, seen=hasher.update)
            # What is longer or shorter was not read to its end; a report says what is there instead.
            _check(ref, size, hasher.hexdigest() if size == ref.size else digest(self.home.read(name)))
        except FileNotFoundError:
            raise Damaged(f"{name}: missing") from None

    def _check(self, ref: Ref) -> None:
        hasher, size = Hasher(), 0
        try:
            for piece in self.home.pieces(object_name(ref.digest)):
                hasher.update(piece)
                size += len(piece)
        except FileNotFoundError:
            raise Damaged(f"{object_name(ref.digest)}: missing") from None
        _check(ref, size, hasher.hexdigest())

    def check_sizes(self, refs: Iterable[Ref]) -> None:
        """See that objects are there with their sizes, without reading them; raises as `get` does."""
        refs = list(refs)
        for ref, size in zip(refs, self._sizes(refs), strict=True):
            if size is None:
                raise Damaged(f"{object_name(ref.digest)}: missing")
            _check(ref, size, ref.digest)

    def _sizes(self, refs: Sequence[Ref]) -> Iterable[int | None]:
        names = [object_name(ref.digest) for ref in refs]
        if self.home.local or len(refs) < 2:
            return map(self.home.size, names)
        # Each of them is a request that waits for its answer, and a start waits for all.
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            return list(pool.map(self.home.size, names))

    def names(self) -> list[str]:
        """Return the digests of all objects there, referred to or not."""
        return [name for name in self.home.names(OBJECTS) if is_digest(name)]

    def delete(self, name: str) -> None:
        """Remove the object of this digest."""
        self.home.delete(object_name(name))

    def put_tensors(self, tensors: Mapping[str, RawTensor | Kept], known: Iterable[Table] = ()) -> Table:
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
        base = base_of(known, packs, entries) or self._put_base(tensors, packs, entries)
        return Table(self.put(encoded(packs, entries, save=_save(), base=base)), tuple(packs), entries, base)

    def load_table(self, ref: Ref) -> Table:
        """Read a table (not its packs); raises as `get` does."""
        return decoded(ref, self.get(ref), self.load_table)

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
            pack = table.packs[index]
            there = self._held(pack)
            contents[index] = parse(memoryview(self.get(pack)) if there is None else there)
        return {name: _pick(contents[entry.pack], name, entry) for name, entry in wanted.items()}

    def _put_base(self, tensors: Mapping[str, Any], packs: Sequence[Ref], entries: Mapping[str, Entry]) -> Table | None:
        """Write the table of what never changes, None where that is nothing, or all."""
        lasting = {name: entry for name, entry in entries.items() if getattr(tensors[name], "lasting", False)}
        if len(lasting) in (0, len(entries)):
            return None
        own = [packs[index] for index in sorted({entry.pack for entry in lasting.values()})]
        moved = {name: replace(entry, pack=own.index(packs[entry.pack])) for name, entry in lasting.items()}
        return Table(self.put(encoded(own, moved, save=_save())), tuple(own), moved)

    def _put_pack(self, tensors: Sequence[RawTensor]) -> Ref:
        hasher, size, save = Hasher(), 0, _save()
        for piece in pieces(tensors, save=save):
            hasher.update(piece)
            size += memoryview(piece).nbytes
        # The name is known before the first byte goes out: hashing twice is cheaper than one copy.
        ref = Ref(hasher.hexdigest(), size)
        self._written.append(ref.digest)
        self.home.write_pieces(object_name(ref.digest), pieces(tensors, save=save), size=size)
        self.bytes_written += size
        return ref


def _save() -> str:
    return secrets.token_hex(16)


def _check(ref: Ref, size: int, found: str) -> None:
    if size != ref.size:
        raise Damaged(f"{object_name(ref.digest)}: {size} bytes, must be {ref.size}", found=found)
    if found != ref.digest:
        raise Damaged(f"{object_name(ref.digest)}: content has changed, its blake3 is {found}", found=found)


def _groups(tensors: Mapping[str, RawTensor | Kept], places: Mapping[str, Ref]) -> list[list[RawTensor]]:
    """Return the tensors to write, each digest once, in packs-to-be."""
    seen = set(places)
    open_groups: dict[tuple[str, bool], list[RawTensor]] = {}
    full: list[list[RawTensor]] = []
    for name, tensor in tensors.items():
        if tensor.digest in seen:
            continue
        assert isinstance(tensor, RawTensor), f"{name}: said to be kept, but no commit has it"
        seen.add(tensor.digest)
        group = name.partition("/")[0], tensor.lasting
        pending = open_groups.setdefault(group, [])
        if pending and sum(other.size for other in pending) + tensor.size > PACK_BYTES:
            full.append(pending)
            pending = open_groups[group] = []
        pending.append(tensor)
    return full + list(open_groups.values())


def _pick(pack: Mapping[str, RawTensor], name: str, entry: Entry) -> RawTensor:
    tensor = pack.get(entry.digest)
    if tensor is None or (tensor.dtype, tensor.shape) != (entry.dtype, entry.shape):
        raise Damaged(f"tensor {name}: its pack does not hold {entry.dtype} {entry.shape} {entry.digest}")
    return tensor
