"""Owns how sources are found and read: CSV, TSV, JSONL and Parquet, by ending, and folders of images, a folder a class.

    URI, glob or folder --> SourceFile --> Batch, Batch, ...        raw values: see values.py

Rows are counted from 1, a CSV's header not counted. In CSV and TSV the words that pandas reads as missing (an empty
field, NA, NaN, null, None, ...) are missing; in JSON null and NaN are, and keys that a row leaves out.
"""

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import pyarrow as pa

from carryover.data import image_folder, values
from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.errors import WrongInput

# About so much is held at once.
BATCH_BYTES = 4 << 20
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
KNOWN = ".csv, .tsv, .jsonl, .ndjson (each also with .gz), .parquet or .pq"


@dataclass(frozen=True)
class SourceFile:
    """One file to read, or one folder of images.

    Attributes:
        format: "csv", "tsv", "jsonl", "parquet" or "images".
        packed: whether gzip is around it.
    """

    uri: str
    format: str
    packed: bool

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells one version from another without reading it."""
        known = image_folder.fingerprint if self.format == image_folder.FORMAT else storage.fingerprint
        return known(self.uri)

    def open(self) -> BinaryIO:
        """Open the file, unpacked.

        Raises:
            WrongInput: it cannot be opened.
        """
        try:
            file = storage.open_uri(self.uri)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise WrongInput(f"{self.uri}: can't be opened: {storage.first_line(error)}") from error
        return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if self.packed else file


@dataclass(frozen=True)
class Batch:
    """Some rows of one file, in order; there is at least one batch a file, with no rows if need be.

    Attributes:
        columns: name -> array of bool, int64, double, string, binary or null; all of one length.
        names: all columns of the file as far as it was read, those that are not wanted too.
        first_row: the number of the first row in its file, from 1.
        known: kinds of the columns whose arrays do not say them; the others are told by `kinds`.
        folder: where relative names that stand in the rows are looked for.
        identity: columns that stand for those of the same name where it is told which split a row is in.
    """

    uri: str
    first_row: int
    rows: int
    names: tuple[str, ...]
    columns: Mapping[str, pa.Array]
    known: Mapping[str, frozenset[str]] = field(default_factory=dict)
    folder: str = ""
    identity: Mapping[str, pa.Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder or storage.split(self.uri)[0])

    def kinds(self, name: str) -> frozenset[str]:
        """Return the kinds of a column's values in this batch."""
        if name in self.known:
            return self.known[name]
        return values.text_kinds(self.columns[name], typed=False)


def find(uris: Sequence[str], *, flag: str) -> tuple[SourceFile, ...]:
    """Return the files that URIs, globs and folders stand for, in the order given and sorted within each.

    A folder whose folders hold images, and which holds no table, is one source. In another folder or behind a glob,
    files with other endings are left out, and that is said.

    Raises:
        WrongInput: nothing there, or a single file whose ending names no format.
    """
    found: dict[str, SourceFile] = {}
    for uri in uris:
        files = _expanded(uri)
        kept = [file for file in map(_source_file, files) if file]
        if not kept and image_folder.is_image_folder(uri):
            files, kept = [uri], [SourceFile(storage.normal(uri), image_folder.FORMAT, packed=False)]
        if not files:
            storage.expand(uri)
        if not kept:
            shown = files[0] if len(files) == 1 else f"{uri}: {len(files)} files, the first {files[0]}"
            raise WrongInput(f"--{flag} {shown}: the ending names no format that can be read; use {KNOWN}")
        if len(kept) < len(files):
            say(f"{uri}: {len(files) - len(kept)} of {len(files)} files left out, their endings name no known format")
        for file in kept:
            if file.uri in found:
                say(f"{file.uri}: named twice, read once")
            found[file.uri] = file
    return tuple(found.values())


def _expanded(uri: str) -> list[str]:
    try:
        return storage.expand(uri)
    except WrongInput:
        # A folder may hold folders only, and they images.
        return []


def _source_file(uri: str) -> SourceFile | None:
    name = uri.lower()
    packed = name.endswith(".gz")
    ending = re.sub(r".*(\.[^./]*)$", r"\1", name.removesuffix(".gz"))
    kind = ENDINGS.get(ending, "")
    return SourceFile(uri, kind, packed) if kind and not (packed and kind == "parquet") else None
