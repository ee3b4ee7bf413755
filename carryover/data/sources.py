"""Owns how sources are found: CSV, TSV, JSONL and Parquet by ending, folders of images, a folder a class, COCO and VOC.

    URI, glob or folder --> SourceFile --> Batch, Batch, ...        raw values: see values.py

Rows are counted from 1, a CSV's header not counted. In CSV and TSV the words that pandas reads as missing (an empty
field, NA, NaN, null, None, ...) are missing; in JSON null and NaN are, and keys that a row leaves out.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, cast

import pyarrow as pa

from carryover.data import coco, image_folder, values, voc
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
KNOWN = ".csv, .tsv, .jsonl, .ndjson, COCO's .json (each also with .gz), .parquet, .pq, or VOC's .xml"
ROBOFLOW = "_annotations.coco.json"
# What a format of annotated pictures says by itself: the label, the problem, the types of columns.
LABEL, PROBLEM_TYPE = coco.LABEL, "object_detection"
TYPES = {coco.IMAGE: "image_path", coco.IMAGE_ID: "identifier"}


@dataclass(frozen=True)
class SourceFile:
    """One file to read, or one folder of images, or VOC's XML files.

    Attributes:
        format: one of `readers.READERS`.
        packed: whether gzip is around it.
        image_root: the folder of the pictures that it names, "" where they lie beside it; of annotations only.
    """

    uri: str
    format: str
    packed: bool
    image_root: str = ""

    @property
    def annotated(self) -> bool:
        """Tell whether this is COCO's or VOC's, whose label and problem are known."""
        return self.format in (coco.FORMAT, voc.FORMAT)

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells one version from another without reading it."""
        return _FINGERPRINTS.get(self.format, storage.fingerprint)(self.uri)

    def open(self) -> BinaryIO:
        """Open the file, unpacked.

        Raises:
            WrongInput: it cannot be opened.
        """
        try:
            file = storage.open_uri(self.uri)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise WrongInput(
                f"{self.uri}: can't be opened: {storage.first_line(error)}", trouble="not-there"
            ) from error
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
        categories: class -> its id, of all that the file declares; of COCO.
        notes: what of the file is not read.
    """

    uri: str
    first_row: int
    rows: int
    names: tuple[str, ...]
    columns: Mapping[str, pa.Array]
    known: Mapping[str, frozenset[str]] = field(default_factory=dict)
    folder: str = ""
    identity: Mapping[str, pa.Array] = field(default_factory=dict)
    categories: Mapping[str, int | str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder or storage.split(self.uri)[0])

    def kinds(self, name: str) -> frozenset[str]:
        """Return the kinds of a column's values in this batch."""
        if name in self.known:
            return self.known[name]
        return values.text_kinds(self.columns[name], typed=False)


def find(uris: Sequence[str], *, flag: str, image_root: str = "") -> tuple[SourceFile, ...]:
    """Return the files that URIs, globs and folders stand for, in the order given and sorted within each.

    A folder whose folders hold images, and which holds no table, is one source; so are VOC's XML files. In another
    folder or behind a glob, files with other endings are left out, and that is said.

    Raises:
        WrongInput: nothing there, or a single file whose ending names no format.
    """
    found: dict[str, SourceFile] = {}
    for uri in uris:
        files = _expanded(uri)
        kept = [file for file in map(_source_file, files) if file]
        if not kept and (pictures := _annotated(uri, files) or _folder_of_images(uri)):
            files = kept = pictures
        if not files:
            storage.expand(uri)
        if not kept:
            shown = str(files[0]) if len(files) == 1 else f"{uri}: {len(files)} files, the first {files[0]}"
            raise WrongInput(f"--{flag} {shown}: the ending names no format that can be read; use {KNOWN}")
        if len(kept) < len(files):
            say(f"{uri}: {len(files) - len(kept)} of {len(files)} files left out, their endings name no known format")
        for file in kept:
            if file.uri in found:
                say(f"{file.uri}: named twice, read once")
            found[file.uri] = replace(file, image_root=image_root) if file.annotated else file
    return tuple(found.values())


def find_all(given: Mapping[str, Sequence[str]], *, image_root: str = "") -> dict[str, tuple[SourceFile, ...]]:
    """Return role ("source", "validation", "test") -> files; a VOC root gives the roles that it has lists for.

    Raises:
        WrongInput: see `find`; or `image_root` is given and nothing names pictures that way.
    """
    wanted: dict[str, list[str]] = {role: list(uris) for role, uris in given.items()}
    for uri in given["source"]:
        lists = voc.lists(uri) if voc.is_root(uri) else {}
        if lists:
            wanted["source"] = [lists["source"] if one == uri else one for one in wanted["source"]]
            taken = [role for role in lists if role == "source" or not given[role]]
            for role in taken[1:]:
                wanted[role].append(lists[role])
            say(f"{uri}: splits by {', '.join(lists[role].rpartition('/')[2] for role in taken)} of {voc.LISTS}")
    flags = {"source": "source", "validation": "validation-source", "test": "test-source"}
    found = {role: find(uris, flag=flags[role], image_root=image_root) for role, uris in wanted.items()}
    if image_root and not any(file.annotated for files in found.values() for file in files):
        raise WrongInput(
            f"--image-root {image_root}: is for COCO and VOC; in tables, names are relative to their folder",
            trouble="wrong-flags",
        )
    return found


def implied(files: Iterable[SourceFile], label: str, problem_type: str) -> tuple[str, str]:
    """Return the label and the problem type: those that are given, or those that COCO and VOC have.

    Raises:
        WrongInput: given ones that do not agree with them.
    """
    if not any(file.annotated for file in files):
        return label, problem_type
    for flag, value, known in (("--label", label, LABEL), ("--problem-type", problem_type, PROBLEM_TYPE)):
        if value not in ("", known):
            raise WrongInput(f"{flag} {value}: of COCO and VOC it is {known}; leave it out", trouble="wrong-flags")
    return LABEL, PROBLEM_TYPE


def _annotated(uri: str, files: Sequence[str]) -> list[SourceFile]:
    """Return COCO's or VOC's files; those of a folder are known by their content, as it may hold anything else too."""
    told = list(files) == [storage.normal(uri)]
    parsed = [file for file in files if file.endswith(voc.ENDING)]
    if voc.is_root(uri) or voc.is_list(uri) or (parsed and (told or voc.is_annotation(parsed[0]))):
        return [SourceFile(storage.normal(uri), voc.FORMAT, packed=False)]
    # Files of a folder that begin with an underscore are left out, but in Roboflow's exports one is the table.
    own = [] if told or _is_pattern(uri) else [name for name in storage.open_store(uri).names() if name == ROBOFLOW]
    listed = [*files, *(storage.join(uri, name) for name in own)]
    named = [_coco_file(file) for file in listed if file.lower().endswith((".json", ".json.gz"))]
    if not told:
        named = [file for file in named if _is_coco(file)]
    there = [] if named else _annotations(uri)
    if there:
        example = next((name for name in there if name.startswith("instances")), there[0])
        raise WrongInput(
            f"{uri}: has COCO files in annotations/; name the one that is wanted, e.g. "
            f"{storage.join(uri, f'annotations/{example}')}"
        )
    return named


def _is_pattern(uri: str) -> bool:
    return any(mark in uri for mark in "*?[")


def _coco_file(uri: str) -> SourceFile:
    return SourceFile(uri, coco.FORMAT, packed=uri.lower().endswith(".gz"))


def _is_coco(file: SourceFile) -> bool:
    with file.open() as stream:
        try:
            return coco.is_coco(stream)
        except (OSError, EOFError, zlib.error):
            # Not what its ending says.
            return False


def _annotations(uri: str) -> list[str]:
    """Return the COCO files of a folder that has the usual shape, none for anything else."""
    names = [] if _is_pattern(uri) else storage.open_store(uri).names("annotations")
    return [name for name in names if name.endswith(".json")]


def _folder_of_images(uri: str) -> list[SourceFile]:
    if not image_folder.is_image_folder(uri):
        return []
    return [SourceFile(storage.normal(uri), image_folder.FORMAT, packed=False)]


_FINGERPRINTS = {image_folder.FORMAT: image_folder.fingerprint, voc.FORMAT: voc.fingerprint}


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
