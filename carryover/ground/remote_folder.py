"""Owns a folder of an object store, or of this process's memory, as a store: what is there is there whole.

    small       records and other metadata, listings, deletions    fsspec's calls; "create" is a PUT with If-None-Match
    bulk, s3    from a MiB on, and what is written in pieces       transfer.py: by obstore, or by s3fs where that can't
    bulk, else                                                     fsspec's calls

`CARRYOVER_OBJECT_CLIENT` = obstore | fsspec forces one of the two for bulk bytes on S3. Clients belong to a file system
object, and that to a process: nothing alive crosses a fork (storage.py makes a new one there).
"""

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, cast

from carryover.ground import transfer, transfer_obstore, transfer_s3fs
from carryover.ground.disk import Bytes
from carryover.ground.errors import WrongInput

CHOICE = "CARRYOVER_OBJECT_CLIENT"
_memory_lock = threading.Lock()


class RemoteFolder:
    """The folder at `uri`; names are relative to it.

    Args:
        uri: canonical, with its scheme.
        scheme: "s3", "gs", "az", "abfs" or "memory".
        connect: gives the fsspec file system, on first use and in each process.
        seconds: gives the deadline of a call that carries so many bytes.
    """

    def __init__(self, uri: str, scheme: str, connect: Callable[[], Any], seconds: Callable[[int], float]) -> None:
        self.uri, self.scheme = uri, scheme
        self._connect, self._seconds = connect, seconds

    @property
    def fs(self) -> Any:
        """The fsspec file system."""
        return self._connect()

    def at(self, name: str) -> str:
        """Return the full URI of `name`."""
        return f"{self.uri.rstrip('/')}/{name}" if name else self.uri

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return cast(BinaryIO, self.fs.open(self.at(name), "rb"))

    def read(self, name: str) -> bytes:
        """Return a whole file."""
        # s3fs would ask for the size first, to read what is large in parts; what is large goes by `read_into`.
        more = {"max_concurrency": 1} if self.scheme == "s3" else {}
        return self.fs.cat_file(self.at(name), **more, **self._deadline(1 << 30))

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes [start, end) of a file."""
        return self.fs.cat_file(self.at(name), start=start, end=end, **self._deadline(end - start))

    def read_into(self, name: str, buffer: memoryview, seen: Callable[[memoryview], object]) -> int:
        """Fill `buffer` with a file of its size; returns the size that the file has."""
        found = self._client(name) if len(buffer) >= transfer.LEAST else None
        if found is None:
            data = self.read(name)
            if len(data) == len(buffer):
                buffer[:] = data
                seen(buffer)
            return len(data)
        at = 0
        for piece, size in transfer.fetching(*found, len(buffer), lambda a, b: buffer[a:b], seconds=self._seconds):
            if size != len(buffer):
                return size
            seen(piece)
            at += len(piece)
        return at

    def pieces(self, name: str, size: int | None = None) -> Iterator[Bytes]:
        """Yield a file in pieces, the next ones on their way; `size` spares a question where it is known."""
        found = self._client(name)
        if found is None:
            with self.open(name) as file:
                while piece := file.read(transfer.PART):
                    yield piece
            return
        size = int(self.info(name)["size"]) if size is None else size
        if size < transfer.LEAST:
            yield self.read(name)
            return

        def fresh(start: int, end: int) -> memoryview:
            return memoryview(bytearray(end - start))

        for piece, _ in transfer.fetching(*found, size, fresh, seconds=self._seconds):
            yield piece

    def info(self, name: str) -> dict[str, Any]:
        """Return what the store knows of a file."""
        if self.scheme == "s3":
            # The file system's own info also lists, to tell a folder from nothing; a start asks about many such names.
            bucket, key, _ = self.fs.split_path(self.at(name))
            found = self.fs.call_s3("head_object", Bucket=bucket, Key=key, **self._deadline())
            return {"size": found["ContentLength"], "ETag": found["ETag"]}
        known = self.fs.info(self.at(name), refresh=True, **self._deadline())
        if known["type"] == "directory":
            raise FileNotFoundError(self.at(name))
        return known

    def write(self, name: str, data: Bytes) -> None:
        """Put a file there, over any old one."""
        size = memoryview(data).nbytes
        found = self._client(name) if size >= transfer.LEAST else None
        if found is not None:
            transfer.put(*found, data, size, seconds=self._seconds)
            return
        self.fs.pipe_file(self.at(name), data if isinstance(data, bytes) else bytes(data), **self._deadline(size))

    def takes_pieces(self, size: int) -> bool:
        """Tell whether a file of this size can be sent from where its pieces lie."""
        return self.scheme == "s3" and size > transfer.PART

    def write_pieces(self, name: str, pieces: Iterable[Bytes], size: int) -> None:
        """Put a file there, over any old one, of pieces that stand still until this returns."""
        found = self._client(name)
        assert found is not None, "asked for by takes_pieces"
        flat = (memoryview(piece).cast("B") for piece in pieces)
        transfer.put(*found, flat, size, seconds=self._seconds)

    def create(self, name: str, data: bytes) -> bool:
        """Put a file there if none is."""
        if self.scheme == "memory":
            with _memory_lock:
                if self.fs.exists(self.at(name)):
                    return False
                self.fs.pipe_file(self.at(name), data)
            return True
        try:
            self.fs.pipe_file(self.at(name), data, mode="create", **self._deadline(len(data)))
        except OSError as error:
            if _is_precondition_failure(error):
                return False
            raise
        return True

    @contextlib.contextmanager
    def open_write(self, name: str, size: int = 0) -> Iterator[BinaryIO]:
        """Give a file to write in pieces; `size` is about how large it will be, 0 where nobody knows."""
        if self.scheme == "memory":
            # This file system shows a file from its first byte on.
            buffer = io.BytesIO()
            yield buffer
            self.write(name, buffer.getvalue())
        elif found := self._client(name):
            with transfer.sending(*found, size, seconds=self._seconds) as file:
                yield file
        else:
            with self._opened_write(name) as file:
                yield file

    def carrier(self) -> str:
        """Return the name of what carries bulk bytes here."""
        found = self._client("bulk")
        return found[0].name if found else "fsspec"

    def children(self, folder: str, kind: str) -> list[str]:
        """Return the names of the files or folders directly in a folder."""
        top = self.at(folder)
        found = self._entries(top)
        own = self.fs._strip_protocol(top)
        names = [entry["name"] for entry in found if entry["type"] == kind and entry["name"].rstrip("/") != own]
        return [name.rstrip("/").rpartition("/")[2] for name in names]

    def listing(self) -> list[list[Any]]:
        """Return name, size and version of the files directly in this folder."""
        files = [entry for entry in self._entries(self.uri) if entry["type"] == "file"]
        return [[file["name"], file["size"], version(file)] for file in files]

    def walk(self, folder: str) -> list[str]:
        """Return the relative names of all files below a folder."""
        top = self.at(folder)
        root = self.fs._strip_protocol(top)
        try:
            return [name[len(root) :].lstrip("/") for name in self.fs.find(top, **self._deadline())]
        except FileNotFoundError:
            return []

    def delete(self, name: str) -> None:
        """Remove a file."""
        self.fs.rm_file(self.at(name), **self._deadline())

    def delete_folder(self, name: str) -> None:
        """Remove a folder and all below it."""
        self.fs.rm(self.at(name), recursive=True, **self._deadline())

    def _deadline(self, size: int = 0) -> dict[str, float]:
        return {} if self.scheme == "memory" else {"timeout": self._seconds(size)}

    def _entries(self, top: str) -> list[dict[str, Any]]:
        how = {} if self.scheme == "memory" else {"refresh": True, **self._deadline()}
        try:
            return self.fs.ls(top, detail=True, **how)
        except FileNotFoundError:
            return []

    def _client(self, name: str) -> tuple[transfer.Client, str] | None:
        """Return who carries the bulk bytes of a file, and the key that it has there; None where fsspec does."""
        if self.scheme != "s3":
            return None
        bucket, key, _ = self.fs.split_path(self.at(name))
        return client_of(self.fs, bucket, is_plain=not {"", ".", ".."} & set(key.split("/"))), key

    @contextlib.contextmanager
    def _opened_write(self, name: str) -> Iterator[BinaryIO]:
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


def client_of(fs: Any, bucket: str, *, is_plain: bool = True) -> transfer.Client:
    """Return what carries the bulk bytes of a bucket of an s3fs file system; made once for each of both.

    Args:
        fs: the file system, of this process.
        bucket: its name.
        is_plain: whether the key has no empty part, "." or "..", which obstore would refuse.

    Raises:
        WrongInput: for a choice that is unknown or can't be had.
    """
    choice = os.environ.get(CHOICE, "")
    if choice not in ("", "obstore", "fsspec"):
        raise WrongInput(
            f"{CHOICE}: {choice!r} is unknown; give obstore or fsspec, or leave it out", trouble="wrong-value"
        )
    # (File systems of equal options are equal, so they can't be told apart as keys of a table.)
    made: dict[tuple[str, str], transfer.Client] = vars(fs).setdefault("_carryover_clients", {})
    kind = "fsspec" if choice == "fsspec" or not is_plain else choice
    if (bucket, kind) not in made:
        made[bucket, kind] = _made(fs, bucket, kind)
    return made[bucket, kind]


def _made(fs: Any, bucket: str, kind: str) -> transfer.Client:
    why = "" if kind == "fsspec" else transfer_obstore.refused(fs)
    if kind != "fsspec" and not why:
        if (client := transfer_obstore.connect(fs, bucket)) is not None:
            return client
        why = f"{bucket} is reached through a proxy, a certificate or a region that only s3fs can follow"
    if kind == "obstore":
        raise WrongInput(f"{CHOICE}=obstore: {why}; leave it out, and s3fs carries the bytes", trouble="wrong-value")
    return transfer_s3fs.S3fsClient(fs, bucket)


def version(info: dict[str, Any]) -> str:
    """Return what changes when a file of an object store does."""
    found = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or ""
    return str(found).strip('"')


def _is_precondition_failure(error: OSError) -> bool:
    """Tell a lost race from other failures; gateways word it differently, so the code underneath decides."""
    if isinstance(error, FileExistsError):
        return True
    # (None where nobody answered.)
    answer = getattr(error.__cause__, "response", None) or {}
    code = answer.get("Error", {}).get("Code", "")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code in ("PreconditionFailed", "ConditionalRequestConflict", "412") or status in (409, 412)
