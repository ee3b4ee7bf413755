"""Owns every file access by URI: the only importer of fsspec.

A `Store` is one folder, local or in an object store. Names inside it are relative, with "/" between parts.

    write    replaces, atomically          local: temporary file, fsync, rename      S3: one PUT or a multipart upload
    create   puts if absent, atomically    local: temporary file, fsync, link        S3: one PUT with If-None-Match
"""

import contextlib
import glob
import io
import logging
import os
import shutil
import stat
import threading
import uuid
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

from carryover.ground import bars, failures
from carryover.ground.disk import FULL, make_folder, sync_folder, write_synced
from carryover.ground.errors import WrongInput
from carryover.ground.uris import join as join
from carryover.ground.uris import normal, scheme_of, split

# Object stores answer in milliseconds or not at all. By default a dead one is asked 25 times, a minute each.
S3_OPTIONS = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 20, "retries": {"total_max_attempts": 2}}}
S3_RETRIES = 3
# At DEBUG they write whole requests, and with them the session token.
_TELLTALE_LOGGERS = ("botocore.auth", "botocore.endpoint")
# A whole call with all its tries: this long, and longer for what has to be carried.
_CALL_SECONDS, _SLOWEST_BYTES_A_SECOND = 60.0, 1 << 20
TEMPORARY = ".tmp-"
_CHUNK = 8 << 20
_memory_lock = threading.Lock()


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
    folder, name = split(uri)
    info = open_store(folder).info(name)
    return {"uri": normal(uri), "size": info["size"], "etag": _version(info)}


class Store:
    """One folder of a local disk or an object store; see the module for what is atomic."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.scheme = scheme_of(uri)
        self.local = Path(uri) if self.scheme == "file" else None

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    @cached_property
    def fs(self) -> Any:
        """The fsspec file system behind a folder that is not local; listings are never cached."""
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": False}
        if self.scheme == "s3":
            options |= S3_OPTIONS
            for name in _TELLTALE_LOGGERS:
                logger = logging.getLogger(name)
                logger.setLevel(max(logger.level, logging.INFO))
        try:
            fs = fsspec.filesystem(self.scheme, **options)
        except ImportError as error:
            raise WrongInput(f"{self.uri}: {error}", trouble="missing-package") from error
        if self.scheme == "s3":
            fs.retries = S3_RETRIES
        return fs

    def deadline(self, size: int = 0) -> dict[str, float]:
        """Return the deadline of one call that carries `size` bytes, as the file systems of object stores take it."""
        if self.scheme == "memory":
            return {}
        return {"timeout": _CALL_SECONDS + size / _SLOWEST_BYTES_A_SECOND}

    def at(self, name: str) -> str:
        """Return the full URI of `name`."""
        return f"{self.uri.rstrip('/')}/{name}" if name else self.uri

    def sub(self, name: str) -> "Store":
        """Return the folder `name` inside this one."""
        return Store(self.at(name))

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        if self.local:
            return open(self.local / name, "rb")
        return cast(BinaryIO, self.fs.open(self.at(name), "rb"))

    def read(self, name: str) -> bytes:
        """Return a whole file.

        Raises:
            FileNotFoundError: when there is none.
        """
        if self.local:
            return (self.local / name).read_bytes()
        return self.fs.cat_file(self.at(name), **self.deadline(1 << 30))

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes [start, end) of a file."""
        if self.local:
            with self.open(name) as file:
                file.seek(start)
                return file.read(end - start)
        return self.fs.cat_file(self.at(name), start=start, end=end, **self.deadline(end - start))

    def info(self, name: str) -> dict[str, Any]:
        """Return what the store knows of a file without reading it; "size" is always there.

        Raises:
            FileNotFoundError: when there is none; a folder is no file.
        """
        if self.local:
            found = (self.local / name).stat()
            if stat.S_ISDIR(found.st_mode):
                raise FileNotFoundError(self.at(name))
            return {"size": found.st_size, "mtime": found.st_mtime_ns}
        if self.scheme == "s3":
            # The file system's own info also lists, to tell a folder from nothing; a start asks about many such names.
            bucket, key, _ = self.fs.split_path(self.at(name))
            found = self.fs.call_s3("head_object", Bucket=bucket, Key=key, **self.deadline())
            return {"size": found["ContentLength"], "ETag": found["ETag"]}
        known = self.fs.info(self.at(name), refresh=True, **self.deadline())
        if known["type"] == "directory":
            raise FileNotFoundError(self.at(name))
        return known

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, None when there is no such file."""
        try:
            return int(self.info(name)["size"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return self.size(name) is not None

    def write(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Put a file there, over any old one; readers see the old or the new one whole."""
        if self.local:
            with self._temporary(name) as (temporary, target):
                write_synced(temporary, data)
                os.replace(temporary, target)
            return
        self.fs.pipe_file(self.at(name), data if isinstance(data, bytes) else bytes(data), **self.deadline(len(data)))

    def create(self, name: str, data: bytes) -> bool:
        """Put a file there if none is; returns False when there is one already (it is left as it is)."""
        if self.local:
            with self._temporary(name) as (temporary, target):
                write_synced(temporary, data)
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    return False
            return True
        if self.scheme == "memory":
            with _memory_lock:
                if self.fs.exists(self.at(name)):
                    return False
                self.fs.pipe_file(self.at(name), data)
            return True
        try:
            self.fs.pipe_file(self.at(name), data, mode="create", **self.deadline(len(data)))
        except OSError as error:
            if _is_precondition_failure(error):
                return False
            raise
        return True

    @contextlib.contextmanager
    def open_write(self, name: str) -> Iterator[BinaryIO]:
        """Give a file to write in pieces; it appears under its name only when the block ends without an error."""
        if self.local:
            with self._temporary(name) as (temporary, target):
                with open(temporary, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
            return
        if self.scheme == "memory":
            # This file system shows a file from its first byte on.
            buffer = io.BytesIO()
            yield buffer
            self.write(name, buffer.getvalue())
            return
        file = self.fs.open(self.at(name), "wb")
        try:
            yield cast(BinaryIO, file)
            file.close()
        except BaseException:
            # Closing would complete the upload; a file that is not whole must not appear. What was sent of it is
            # dropped if the store can be asked; what went wrong first is what is said.
            file.closed = True
            with contextlib.suppress(Exception):
                file.discard()
            raise

    def upload(self, path: Path, name: str) -> None:
        """Copy a local file into the store."""
        with open(path, "rb") as source, self.open_write(name) as target:
            _copy(source, target, name, "" if self.local else "uploading", path.stat().st_size)

    def download(self, name: str, path: Path) -> None:
        """Copy a file of the store to a local path, whose folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.open(name) as source, open(path, "wb") as target:
            _copy(source, target, name, "" if self.local else "downloading", getattr(source, "size", None))

    def names(self, folder: str = "") -> list[str]:
        """Return the names of the files directly in a folder, sorted; none when there is no such folder."""
        return self._children(folder, "file")

    def folders(self, folder: str = "") -> list[str]:
        """Return the names of the folders directly in a folder, sorted."""
        return self._children(folder, "directory")

    def listing(self) -> list[list[Any]]:
        """Return name, size, and time or ETag of the files directly in this folder, sorted; none without a folder."""
        if self.local:
            if not self.local.is_dir():
                return []
            with os.scandir(self.local) as entries:
                found = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
            return sorted([name, stat.st_size, stat.st_mtime_ns] for name, stat in found)
        try:
            how = {} if self.scheme == "memory" else {"refresh": True, **self.deadline()}
            entries = self.fs.ls(self.uri, detail=True, **how)
        except FileNotFoundError:
            return []
        files = [entry for entry in entries if entry["type"] == "file"]
        return sorted([file["name"], file["size"], _version(file)] for file in files)

    def walk(self, folder: str = "") -> list[str]:
        """Return the relative names of all files below a folder, sorted."""
        top = self.at(folder)
        if self.local:
            found = [path for path in Path(top).rglob("*") if path.is_file()]
            return sorted(p.relative_to(top).as_posix() for p in found if not p.name.startswith(TEMPORARY))
        root = self.fs._strip_protocol(top)
        try:
            return sorted(name[len(root) :].lstrip("/") for name in self.fs.find(top, **self.deadline()))
        except FileNotFoundError:
            return []

    def delete(self, name: str) -> None:
        """Remove a file; no error when it is gone already."""
        try:
            if self.local:
                (self.local / name).unlink()
            else:
                self.fs.rm_file(self.at(name), **self.deadline())
        except FileNotFoundError:
            pass

    def delete_folder(self, name: str) -> None:
        """Remove a folder and all below it; no error when it is gone already."""
        if self.local:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.local / name)
            return
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.at(name), recursive=True, **self.deadline())

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

    def _children(self, folder: str, kind: str) -> list[str]:
        top = self.at(folder)
        if self.local:
            if not os.path.isdir(top):
                return []
            with os.scandir(top) as entries:
                names = [entry.name for entry in entries if entry.is_dir() == (kind == "directory")]
            return sorted(name for name in names if not name.startswith(TEMPORARY))
        try:
            found = (
                self.fs.ls(top, detail=True, refresh=True, **self.deadline())
                if self.scheme != "memory"
                else self.fs.ls(top, detail=True)
            )
        except FileNotFoundError:
            return []
        own = self.fs._strip_protocol(top)
        names = [entry["name"] for entry in found if entry["type"] == kind and entry["name"].rstrip("/") != own]
        return sorted(name.rstrip("/").rpartition("/")[2] for name in names)

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[tuple[Path, Path]]:
        target = cast(Path, self.local) / name
        make_folder(target.parent)
        temporary = target.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        try:
            yield temporary, target
        except OSError as error:
            if error.errno in FULL and not error.filename:
                # A write without room says what went wrong, and not where.
                error.filename = str(target)
            raise
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(target.parent)


def copy_tree(source: Store, target: Store, names: Sequence[str]) -> None:
    """Copy the named files from one folder to another, whatever the stores are."""
    verb = "" if source.local and target.local else "copying"
    for name in names:
        with source.open(name) as reader, target.open_write(name) as writer:
            _copy(reader, writer, name, verb, source.size(name) if verb else None)


def _copy(source: BinaryIO, target: BinaryIO, name: str, verb: str, size: int | None) -> None:
    """Copy a file in pieces; with a verb (a store that is not this machine's) it shows how far it is."""
    if not verb:
        return shutil.copyfileobj(source, target, _CHUNK)
    with bars.bar(f"{verb} {name}", total=size, unit=bars.BYTES) as shown:
        while piece := source.read(_CHUNK):
            target.write(piece)
            shown.add(len(piece))
    return None


def _version(info: dict[str, Any]) -> str:
    """Return what changes when a file of an object store does."""
    version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or ""
    return str(version).strip('"')


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


def _is_precondition_failure(error: OSError) -> bool:
    """Tell a lost race from other failures; gateways word it differently, so the code underneath decides."""
    if isinstance(error, FileExistsError):
        return True
    # (None where nobody answered.)
    answer = getattr(error.__cause__, "response", None) or {}
    code = answer.get("Error", {}).get("Code", "")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code in ("PreconditionFailed", "ConditionalRequestConflict", "412") or status in (409, 412)
