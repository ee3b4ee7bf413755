"""Owns Pascal VOC's folders as a source: an XML file a picture, with its boxes (host.robots.ox.ac.uk/pascal/VOC).

ROOT/Annotations/2008_000002.xml   ROOT/JPEGImages/2008_000002.jpg   ROOT/ImageSets/Main/{train,val,test}.txt
    -->     image             image_id     rois
            2008_000002.jpg   2008_000002  {"size": [w, h], "boxes": [[x1, y1, x2, y2, class, crowd]]}

VOC counts pixels from 1, and xmax and ymax are inside the box: a box is stored from xmin - 1 to xmax. An object that is
"difficult" is stored as a crowd: it is not learned, and finding it or not is no fault.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa

from carryover.data import images
from carryover.data.coco import IMAGE, IMAGE_ID, LABEL
from carryover.data.problems import Problems
from carryover.ground import storage
from carryover.ground.digests import canonical, digest
from carryover.ground.errors import WrongInput

FORMAT = "voc"
ENDING = ".xml"
ROWS = 1024
LISTS = "ImageSets/Main"


@dataclass(frozen=True)
class Parsed:
    """One XML file: a picture's name and boxes as raw text, or what is wrong."""

    id: str
    name: str = ""
    text: str = ""
    problem: str = ""


@dataclass
class Voc:
    """The XML files that a source stands for, in order; `problems` fill as they are read."""

    uris: list[str]
    problems: Problems = field(default_factory=Problems)

    def rows(self) -> Iterator[dict[str, pa.Array]]:
        """Yield columns, some pictures at a time."""
        with ThreadPoolExecutor(images.THREADS) as pool:
            for start in range(0, len(self.uris), ROWS):
                yield self._columns(list(pool.map(_parsed, self.uris[start : start + ROWS])))

    def _columns(self, some: list[Parsed]) -> dict[str, pa.Array]:
        for one in some:
            if one.problem:
                kind, _, example = one.problem.partition(": ")
                self.problems.note(kind, example)
        good = [one for one in some if not one.problem]
        return {
            IMAGE: pa.array([one.name for one in good], pa.string()),
            IMAGE_ID: pa.array([one.id for one in good], pa.string()),
            LABEL: pa.array([one.text for one in good], pa.string()),
        }


def is_root(uri: str) -> bool:
    """Tell whether a URI is a folder with XML files in Annotations/."""
    if any(mark in uri for mark in "*?["):
        return False
    return any(name.endswith(ENDING) for name in storage.open_store(uri).names("Annotations"))


def is_annotation(uri: str) -> bool:
    """Tell whether a file is XML as VOC writes it."""
    with storage.open_uri(uri) as file:
        return b"<annotation" in file.read(1000)


def is_list(uri: str) -> bool:
    """Tell whether a URI is one of ImageSets' lists of names."""
    return uri.endswith(".txt") and "/ImageSets/" in storage.normal(uri)


def lists(root: str) -> dict[str, str]:
    """Return role ("source", "validation", "test") -> URI of the list that says its pictures; {} where there is none.

    A test list is taken only where its pictures have annotations: the challenges keep theirs back.
    """
    store = storage.open_store(root)
    there = set(store.names(LISTS))
    train = next((name for name in ("train.txt", "trainval.txt") if name in there), "")
    if not train:
        return {}
    found = {"source": train, **({"validation": "val.txt"} if train == "train.txt" and "val.txt" in there else {})}
    if "test.txt" in there:
        known = set(store.names("Annotations"))
        if any(name + ENDING in known for name in _listed(store.at(f"{LISTS}/test.txt"))):
            found["test"] = "test.txt"
    return {role: store.at(f"{LISTS}/{name}") for role, name in found.items()}


def files(uri: str) -> list[str]:
    """Return the XML files that a list, a folder of them, a VOC root, a glob or a file stands for.

    Raises:
        WrongInput: a list that names files which are not there.
    """
    if is_list(uri):
        return _files_of_list(uri)
    if is_root(uri):
        uri = storage.join(uri, "Annotations")
    return [one for one in storage.expand(uri) if one.endswith(ENDING)]


def annotations_of(uri: str) -> str:
    """Return an address inside the folder of XML files, beside which pictures are looked for."""
    if is_list(uri):
        root = storage.normal(uri).rpartition("/ImageSets/")[0]
        return storage.join(root, "Annotations/x.xml")
    return storage.join(uri, "Annotations/x.xml") if is_root(uri) else files(uri)[0]


def fingerprint(uri: str) -> dict[str, Any]:
    """Return what tells one version of the source from another without reading an XML file."""
    folder = storage.split(annotations_of(uri))[0]
    listed = [storage.open_store(folder).listing(), storage.fingerprint(uri) if is_list(uri) else None]
    return {"uri": storage.normal(uri), "listing": digest(canonical(listed))}


def _listed(uri: str) -> list[str]:
    with storage.open_uri(uri) as file:
        lines = file.read().decode("utf-8-sig").split("\n")
    # A list of one class has a second column: 1, 0 or -1.
    return [line.split()[0] for line in lines if line.strip()]


def _files_of_list(uri: str) -> list[str]:
    folder = storage.split(annotations_of(uri))[0]
    known = set(storage.open_store(folder).names())
    names = _listed(uri)
    gone = [name for name in names if name + ENDING not in known]
    if gone:
        raise WrongInput(
            f"{uri}: {len(gone):,} of {len(names):,} names have no file in {folder}: {', '.join(gone[:3])}"
        )
    if not names:
        raise WrongInput(f"{uri}: names no picture; it must list one name a line")
    return [storage.join(folder, name + ENDING) for name in names]


def _parsed(uri: str) -> Parsed:
    folder, file = storage.split(uri)
    own = file.removesuffix(ENDING)
    try:
        root = ElementTree.fromstring(storage.open_store(folder).read(file))
    except ElementTree.ParseError as error:
        return Parsed(own, problem=f"files are no XML: {file} ({error})")
    name = (root.findtext("filename") or "").strip()
    if not name:
        return Parsed(own, problem=f"files have no <filename>: {file}")
    boxes = []
    for item in root.iter("object"):
        box = _box(item)
        if box is None:
            return Parsed(own, problem=f"files have an <object> without <name> or <bndbox> of four numbers: {file}")
        boxes.append(box)
    size = _numbers(root.find("size"), ("width", "height"))
    known = size if size and all(size) else None
    return Parsed(own, name.replace("\\", "/").rpartition("/")[2], json.dumps({"size": known, "boxes": boxes}))


def _box(item: ElementTree.Element) -> list[Any] | None:
    name = (item.findtext("name") or "").strip()
    sides = _numbers(item.find("bndbox"), ("xmin", "ymin", "xmax", "ymax"))
    if not name or sides is None:
        return None
    x1, y1, x2, y2 = sides
    difficult = (item.findtext("difficult") or "").strip() == "1"
    return [x1 - 1, y1 - 1, x2, y2, name, int(difficult)]


def _numbers(item: ElementTree.Element | None, names: tuple[str, ...]) -> list[float] | None:
    try:
        return [float(item.findtext(name) or "") for name in names] if item is not None else None
    except ValueError:
        return None
