"""Owns a folder of a local disk as a store: what appears under a name is whole and durable, or is not there.

write    temporary file, fsync, rename, fsync of the folder
create   temporary file, fsync, link (which fails where the name is taken), fsync of the folder
"""

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from carryover.ground.disk import FULL, Bytes, make_folder, sync_folder, write_synced

TEMPORARY = ".tmp-"
_CHUNK = 8 << 20


class LocalFolder:
    """The folder at `path`, which need not be there yet; names are relative to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return open(self.path / name, "rb")

    def read(self, name: str) -> bytes:
        """Return a whole file."""
        return (self.path / name).read_bytes()

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes [start, end) of a file."""
        with self.open(name) as file:
            file.seek(start)
            return file.read(end - start)

    def read_into(self, name: str, buffer: memoryview, seen: Callable[[memoryview], object]) -> int:
        """Fill `buffer` with a file of its size; returns the size that the file has."""
        with open(self.path / name, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            at = 0
            while size == len(buffer) and at < size:
                count = file.readinto(buffer[at : at + _CHUNK])
                if not count:
                    return at
                seen(buffer[at : at + count])
                at += count
        return size

    def pieces(self, name: str, size: int | None = None) -> Iterator[Bytes]:
        """Yield a file in pieces (`size` is for stores that would have to ask)."""
        with self.open(name) as file:
            while piece := file.read(_CHUNK):
                yield piece

    def info(self, name: str) -> dict[str, Any]:
        """Return size and modification time of a file."""
        found = (self.path / name).stat()
        if stat.S_ISDIR(found.st_mode):
            raise FileNotFoundError(str(self.path / name))
        return {"size": found.st_size, "mtime": found.st_mtime_ns}

    def write(self, name: str, data: Bytes) -> None:
        """Put a file there, over any old one."""
        with self._temporary(name) as (temporary, target):
            write_synced(temporary, data)
            os.replace(temporary, target)

    def create(self, name: str, data: bytes) -> bool:
        """Put a file there if none is."""
        with self._temporary(name) as (temporary, target):
            write_synced(temporary, data)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
        return True

    @contextlib.contextmanager
    def open_write(self, name: str, size: int = 0) -> Iterator[BinaryIO]:
        """Give a file to write in pieces (`size` is for stores that must know the size of their parts)."""
        with self._temporary(name) as (temporary, target):
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)

    def children(self, folder: str, kind: str) -> list[str]:
        """Return the names of the files or folders directly in a folder."""
        top = self.path / folder
        if not top.is_dir():
            return []
        with os.scandir(top) as entries:
            names = [entry.name for entry in entries if entry.is_dir() == (kind == "directory")]
        return [name for name in names if not name.startswith(TEMPORARY)]

    def listing(self) -> list[list[Any]]:
        """Return name, size and time of the files directly in this folder."""
        if not self.path.is_dir():
            return []
        with os.scandir(self.path) as entries:
            found = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in found]

    def walk(self, folder: str) -> list[str]:
        """Return the relative names of all files below a folder."""
        top = self.path / folder
        found = [path for path in top.rglob("*") if path.is_file()]
        return [path.relative_to(top).as_posix() for path in found if not path.name.startswith(TEMPORARY)]

    def delete(self, name: str) -> None:
        """Remove a file."""
        (self.path / name).unlink()

    def delete_folder(self, name: str) -> None:
        """Remove a folder and all below it."""
        shutil.rmtree(self.path / name)

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[tuple[Path, Path]]:
        target = self.path / name
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
