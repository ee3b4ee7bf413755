"""Owns every file access by URI: the only importer of fsspec.

A `Store` is one folder, local (local_folder.py) or not (remote_folder.py). Names inside it are relative, with "/"
between parts.

    write    replaces, atomically          local: temporary file, fsync, rename      S3: one PUT or a multipart upload
    create   puts if absent, atomically    local: temporary file, fsync, link        S3: one PUT with If-None-Match
    bulk     packs, shards, weights: S3 gets and gives them in parts, many at once (transfer.py)
"""

import contextlib
import glob
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from carryover.ground import bars, failures
from carryover.ground.disk import Bytes
from carryover.ground.errors import WrongInput
from carryover.ground.local_folder import TEMPORARY as TEMPORARY
from carryover.ground.local_folder import LocalFolder
from carryover.ground.uris import join as join
from carryover.ground.uris import normal, scheme_of, split

if TYPE_CHECKING:
    from carryover.ground.remote_folder import RemoteFolder

# Object stores answer in milliseconds or not at all. By default a dead one is asked 25 times, a minute each. What a
# payload is proven by is its signature, and for bulk bytes digests of ours: a third checksum costs as much as sending.
S3_OPTIONS: dict[str, Any] = {
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 20,
        "retries": {"total_max_attempts": 2},
        "max_pool_connections": 64,
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
}
S3_RETRIES = 3
# At DEBUG they write whole requests, and with them the session token.
_TELLTALE_LOGGERS = ("botocore.auth", "botocore.endpoint")
# A whole call with all its tries: this long, and longer for what has to be carried.
_CALL_SECONDS, _SLOWEST_BYTES_A_SECOND = 60.0, 1 << 20
_CHUNK = 8 << 20


def open_store(uri: str) -> "Store":
    """Return the folder at `uri`; nothing is read or made yet."""
    return Store(normal(uri))


def open_uri(uri: str) -> BinaryIO:
    """Open one file for reading.

    Raises:
        FileNotFoundError: when there is none.
    """
    folder, name = split(uri)
    return open_store(folder).open(name)


def expand(uri: str) -> list[str]:
    """Return the files that a URI, a glob pattern or a folder stands for, sorted.

    Raises:
        WrongInput: when nothing is there.
    """
    uri = normal(uri)
    if scheme_of(uri) == "file":
        path = Path(uri)
        if path.is_dir():
            found = [
                str(child) for child in path.iterdir() if child.is_file() and not child.name.startswith((".", "_"))
            ]
        else:
            # A file whose name holds brackets is itself before it is a pattern.
            found = [uri] if path.is_file() else [hit for hit in glob.glob(uri, recursive=True) if os.path.isfile(hit)]
    else:
        found = _expand_remote(uri)
    if not found:
        raise WrongInput(f"{uri}: no file found there")
    return sorted(found)


def fingerprint(uri: str) -> dict[str, Any]:
    """Return what tells one version of a file from another without reading it: size, and ETag or modification time."""
    scheme = scheme_of(uri)
    if scheme == "file":
        found = os.stat(normal(uri))
        return {"uri": normal(uri), "size": found.st_size, "mtime": found.st_mtime_ns}
    from carryover.ground.remote_folder import version

    folder, name = split(uri)
    info = open_store(folder).info(name)
    return {"uri": normal(uri), "size": info["size"], "etag": version(info)}


class Store:
    """One folder; see the module for what is atomic. Each process makes its own clients, when they are first needed."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.scheme = scheme_of(uri)
        self.local = Path(uri) if self.scheme == "file" else None
        self._folder = LocalFolder(self.local) if self.local else self._remote()
        self._fs: tuple[int, Any] | None = None

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    @property
    def fs(self) -> Any:
        """The fsspec file system behind a folder that is not local; listings are never cached."""
        return self._connected()

    def deadline(self, size: int = 0) -> dict[str, float]:
        """Return the deadline of one call that carries `size` bytes, as the file systems of object stores take it."""
        return {} if self.scheme == "memory" else {"timeout": self._seconds(size)}

    def at(self, name: str) -> str:
        """Return the full URI of `name`."""
        return f"{self.uri.rstrip('/')}/{name}" if name else self.uri

    def sub(self, name: str) -> "Store":
        """Return the folder `name` inside this one."""
        return Store(self.at(name))

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; what is read whole comes faster by `read_into`, `pieces` or `download`."""
        return self._folder.open(name)

    def read(self, name: str, *, large: bool = False) -> bytes:
        """Return a whole file; a `large` one, of some MiB or more, in parts at once for one question more.

        Raises:
            FileNotFoundError: when there is none.
        """
        return b"".join(self.pieces(name)) if large and self.scheme == "s3" else self._folder.read(name)

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes [start, end) of a file."""
        return self._folder.read_range(name, start, end)

    def read_into(
        self, name: str, buffer: bytearray | memoryview, *, seen: Callable[[memoryview], object] = lambda piece: None
    ) -> int:
        """Fill a buffer with a file of just its size, and return the size that the file has.

        Args:
            name: the file.
            buffer: writable bytes; where the file is longer or shorter, what is in it afterwards means nothing.
            seen: is given each piece of it in order as it arrives, to be hashed while the next ones are on their way.

        Raises:
            FileNotFoundError: when there is none.
        """
        return self._folder.read_into(name, memoryview(buffer).cast("B"), seen)

    def pieces(self, name: str, size: int | None = None) -> Iterator[Bytes]:
        """Yield a file in pieces of some MiB; `size` spares a question where it is known. Raises as `read` does."""
        return self._folder.pieces(name, size)

    def info(self, name: str) -> dict[str, Any]:
        """Return what the store knows of a file without reading it; "size" is always there.

        Raises:
            FileNotFoundError: when there is none; a folder is no file.
        """
        return self._folder.info(name)

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, None when there is no such file."""
        try:
            return int(self.info(name)["size"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return self.size(name) is not None

    def write(self, name: str, data: Bytes) -> None:
        """Put a file there, over any old one; readers see the old or the new one whole."""
        self._folder.write(name, data)

    def write_pieces(self, name: str, pieces: Iterable[Bytes], *, size: int) -> None:
        """Put a file of `size` bytes there, over any old one, from where its pieces lie.

        Args:
            name: the file.
            pieces: its bytes in order; each must stand still until this returns. Another thread may ask for them.
            size: how many bytes they are in all.
        """
        if not isinstance(self._folder, LocalFolder) and self._folder.takes_pieces(size):
            self._folder.write_pieces(name, pieces, size)
            return
        with self.open_write(name, size=size) as file:
            for piece in pieces:
                file.write(piece)

    def create(self, name: str, data: bytes) -> bool:
        """Put a file there if none is; returns False when there is one already (it is left as it is)."""
        return self._folder.create(name, data)

    def open_write(self, name: str, *, size: int = 0) -> contextlib.AbstractContextManager[BinaryIO]:
        """Give a file to write in pieces; it appears under its name only when the block ends without an error.

        Args:
            name: the file.
            size: about how large it will be. S3 takes 10,000 parts: without it, 75 GB are the limit there.
        """
        return self._folder.open_write(name, size)

    def upload(self, path: Path, name: str) -> None:
        """Copy a local file into the store."""
        size = path.stat().st_size
        with open(path, "rb") as source, self.open_write(name, size=size) as target:
            _copy(iter(lambda: source.read(_CHUNK), b""), target, name, "" if self.local else "uploading", size)

    def download(self, name: str, path: Path) -> None:
        """Copy a file of the store to a local path, whose folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        size = None if self.local else int(self.info(name)["size"])
        pieces = self.pieces(name, size)
        with open(path, "wb") as target:
            _copy(pieces, target, name, "" if self.local else "downloading", size)

    def carrier(self) -> str:
        """Return the name of the library that carries bulk bytes, "" on a local disk."""
        return "" if isinstance(self._folder, LocalFolder) else self._folder.carrier()

    def names(self, folder: str = "") -> list[str]:
        """Return the names of the files directly in a folder, sorted; none when there is no such folder."""
        return sorted(self._folder.children(folder, "file"))

    def folders(self, folder: str = "") -> list[str]:
        """Return the names of the folders directly in a folder, sorted."""
        return sorted(self._folder.children(folder, "directory"))

    def listing(self) -> list[list[Any]]:
        """Return name, size, and time or ETag of the files directly in this folder, sorted; none without a folder."""
        return sorted(self._folder.listing())

    def walk(self, folder: str = "") -> list[str]:
        """Return the relative names of all files below a folder, sorted."""
        return sorted(self._folder.walk(folder))

    def delete(self, name: str) -> None:
        """Remove a file; no error when it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            self._folder.delete(name)

    def delete_folder(self, name: str) -> None:
        """Remove a folder and all below it; no error when it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            self._folder.delete_folder(name)

    def probe(self) -> bool:
        """Write here and see whether "put if absent" is honoured.

        Raises:
            WrongInput: when the store cannot be written or read.
        """
        name = f"probe-{uuid.uuid4().hex}"
        try:
            first = self.create(name, b"first")
            second = self.create(name, b"second")
            kept = self.read(name)
            self.delete(name)
        except Exception as error:
            # Object store clients raise their own kinds (no credentials, no server); here all of them mean the same.
            if isinstance(error, WrongInput):
                raise
            missing = isinstance(error, FileNotFoundError) and not self.local
            why = "its bucket does not exist; create it first" if missing else first_line(error)
            trouble = "store-forbidden" if missing else failures.trouble_of(error, "path-refused")
            raise WrongInput(f"store {self.uri}: can't be written: {why}", trouble=trouble) from error
        return first and not second and kept == b"first"

    def _remote(self) -> "RemoteFolder":
        # Event loops and all that they bring are for those who need them.
        from carryover.ground.remote_folder import RemoteFolder

        return RemoteFolder(self.uri, self.scheme, self._connected, self._seconds)

    def _connected(self) -> Any:
        if self._fs is None or self._fs[0] != os.getpid():
            self._fs = os.getpid(), _file_system(self.uri, self.scheme)
        return self._fs[1]

    def _seconds(self, size: int) -> float:
        return _CALL_SECONDS + size / _SLOWEST_BYTES_A_SECOND


def copy_tree(source: Store, target: Store, names: Sequence[str]) -> None:
    """Copy the named files from one folder to another, whatever the stores are."""
    verb = "" if source.local and target.local else "copying"
    for name in names:
        size = int(source.info(name)["size"])
        with target.open_write(name, size=size) as writer:
            _copy(source.pieces(name, size), writer, name, verb, size)


def _copy(pieces: Iterable[Bytes], target: BinaryIO, name: str, verb: str, size: int | None) -> None:
    """Copy a file in pieces; with a verb (a store that is not this machine's) it shows how far it is."""
    with bars.bar(f"{verb} {name}", total=size, unit=bars.BYTES) if verb else contextlib.nullcontext() as shown:
        for piece in pieces:
            target.write(piece)
            if shown:
                shown.add(len(piece))


def _file_system(uri: str, scheme: str) -> Any:
    import fsspec
    from fsspec.config import conf

    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": False}
    if scheme == "s3":
        options |= S3_OPTIONS
        # What a person configured for s3fs counts more than what we find good.
        theirs = conf.get("s3", {}).get("config_kwargs") or {}
        options["config_kwargs"] = _merged(S3_OPTIONS.get("config_kwargs", {}), theirs)
        for name in _TELLTALE_LOGGERS:
            logger = logging.getLogger(name)
            logger.setLevel(max(logger.level, logging.INFO))
    try:
        fs = fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise WrongInput(f"{uri}: {error}", trouble="missing-package") from error
    if scheme == "s3":
        fs.retries = S3_RETRIES
    return fs


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    both = ours.keys() & theirs.keys()
    deep = {key: _merged(ours[key], theirs[key]) for key in both if isinstance(theirs[key], Mapping)}
    return {**ours, **theirs, **deep}


def first_line(error: BaseException) -> str:
    """Return an error's kind and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _expand_remote(uri: str) -> list[str]:
    folder, name = split(uri)
    store = open_store(uri)
    scheme = store.scheme
    if any(mark in uri for mark in "*?["):
        hits = store.fs.glob(uri, detail=True)
        return [f"{scheme}://{name.lstrip('/')}" for name, info in hits.items() if info["type"] == "file"]
    if open_store(folder).exists(name):
        return [uri]
    return [store.at(child) for child in store.names() if not child.startswith((".", "_"))]
