"""Owns how the images that a column names become bytes of the dataset, so that training needs no place but the store.

    "a.jpg;b.jpg" --split, relative to the source's folder--> threads read ahead --> [bytes, bytes]
                                                              no image there     --> [bytes, null], counted and said

An image is kept byte for byte as it is. Memory holds a few megabytes of rows, and the images that are being read.
"""

import errno
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pyarrow as pa

from carryover.data import images
from carryover.data.rows import ARROW_TYPES
from carryover.ground import bars, storage
from carryover.ground.console import warn
from carryover.ground.digests import canonical, digest
from carryover.ground.errors import WrongInput

PIECE_BYTES = 8 << 20
AHEAD = 2 * images.THREADS
SHOWN = 3
# So many folders of images are looked through again to tell whether a source is unchanged.
FOLDERS = 1000
# A name that cannot be one of a file names no image; other troubles of a disk or a store are not the data's.
_NO_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)


class Embedder(AbstractContextManager["Embedder"]):
    """Replaces names by images in the columns of one dataset, and remembers what could not be read.

    Args:
        columns: the columns that name images; with none, tables pass as they are.
        several: whether a value may name several images.
    """

    def __init__(self, columns: Sequence[str], *, several: bool = True) -> None:
        self._several = several
        self._columns = tuple(columns)
        self._pool = ThreadPoolExecutor(images.THREADS)
        self._named = dict.fromkeys(columns, 0)
        self._unreadable: dict[str, list[str]] = {name: [] for name in columns}
        self._lost = dict.fromkeys(columns, 0)
        self._folders: dict[str, str] = {}
        self._open = ExitStack()
        self._bar = self._open.enter_context(bars.bar("images", unit="images"))

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._pool.shutdown(cancel_futures=True)

    def pieces(self, table: pa.Table, folder: str) -> Iterator[pa.Table]:
        """Yield the table's rows, in order, a few megabytes at a time, with images for names.

        Args:
            folder: where relative names are looked for.
        """
        if not self._columns:
            yield table
            return
        named = {name: [self._names(value) for value in table[name].to_pylist()] for name in self._columns}
        wanted = ((name, folder, one) for row in range(table.num_rows) for name in named for one in named[name][row])
        read = self._read_ahead(wanted)
        start, size = 0, 0
        held: dict[str, list[list[bytes | None] | None]] = {name: [] for name in named}
        for row in range(table.num_rows):
            for name, values in named.items():
                found = [next(read) for _ in values[row]]
                held[name].append(found or None)
                size += sum(len(data) for data in found if data)
            if size >= PIECE_BYTES or row + 1 == table.num_rows:
                yield _replaced(table.slice(start, row + 1 - start), held)
                start, size, held = row + 1, 0, {name: [] for name in named}

    def _names(self, value: str | None) -> list[str]:
        parts = (value or "").split(";") if self._several else [value or ""]
        return [name for part in parts if (name := part.strip())]

    def _read_ahead(self, wanted: Iterator[tuple[str, str, str]]) -> Iterator[bytes | None]:
        waiting: deque[tuple[str, str, Future[bytes | None]]] = deque()
        for column, folder, name in wanted:
            uri = images.resolve(folder, name)
            self._note_folder(uri)
            waiting.append((column, uri, self._pool.submit(read_image, uri)))
            if len(waiting) >= AHEAD:
                yield self._taken(*waiting.popleft())
        while waiting:
            yield self._taken(*waiting.popleft())

    def _taken(self, column: str, uri: str, future: "Future[bytes | None]") -> bytes | None:
        data = future.result()
        self._named[column] += 1
        self._bar.add(1)
        if data is None:
            self._lost[column] += 1
            if len(self._unreadable[column]) < SHOWN:
                self._unreadable[column].append(uri)
        return data

    def _note_folder(self, uri: str) -> None:
        try:
            folder = storage.split(uri)[0]
        except WrongInput:
            return
        if folder not in self._folders and len(self._folders) <= FOLDERS:
            self._folders[folder] = folder_print(folder)

    def say(self) -> None:
        """Say how many images could not be read, and which."""
        for column, lost in self._lost.items():
            if lost:
                shown = ", ".join(self._unreadable[column])
                more = f" and {lost - SHOWN} more" if lost > SHOWN else ""
                warn(
                    f"column '{column}': {lost:,} of {self._named[column]:,} images are missing or cannot be read: "
                    f"{shown}{more}; data.image.missing_value_strategy says what becomes of their rows"
                )

    def unreadable(self, column: str) -> tuple[int, list[str]]:
        """Return how many images of a column could not be read, and the first of them."""
        return self._lost[column], self._unreadable[column]

    def folders(self) -> dict[str, str] | None:
        """Return folder -> what stands for its files; None where there are too many, or one changed meanwhile."""
        if len(self._folders) > FOLDERS or not unchanged(self._folders):
            return None
        return dict(self._folders)


def unchanged(folders: dict[str, str]) -> bool:
    """Tell whether folders still hold the same files, by their sizes and times or ETags."""
    with ThreadPoolExecutor(images.THREADS) as pool:
        return list(pool.map(folder_print, folders)) == list(folders.values())


def folder_print(folder: str) -> str:
    """Return what stands for the files directly in a folder, without reading them."""
    return digest(canonical(storage.open_store(folder).listing()))


def read_image(uri: str) -> bytes | None:
    """Return the bytes of an image, None where there is none. Trouble of a store is not the data's, and raises."""
    try:
        folder, name = storage.split(uri)
        data = storage.open_store(folder).read(name)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, WrongInput, ValueError):
        return None
    except OSError as error:
        if error.errno not in _NO_NAME:
            raise
        return None
    return data if images.is_image(data) else None


def _replaced(table: pa.Table, held: dict[str, list[Any]]) -> pa.Table:
    for name, values in held.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(values, ARROW_TYPES["list<binary>"]))
    return table
