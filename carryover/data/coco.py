"""Owns COCO's JSON of objects as a source: one row a picture, with its boxes (cocodataset.org, "Data format").

{"images": [{id, file_name, width, height}],  "annotations": [{image_id, category_id, bbox: [x, y, w, h], iscrowd}],
 "categories": [{id, name}]}     -->     image      image_id  rois
                                         a.jpg      17        {"size": [w, h], "boxes": [[x1, y1, x2, y2, class, 0]]}

The file is read item by item, and of it only names, sizes and boxes are kept. Pictures: see pictures.py.
"""

import json
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeGuard

import numpy as np
import pyarrow as pa

from carryover.data.json_stream import items
from carryover.data.problems import Problems
from carryover.ground.errors import WrongInput

FORMAT = "coco"
IMAGE, IMAGE_ID, LABEL = "image", "image_id", "rois"
LISTS = ("images", "annotations", "categories")
UNREAD = ("segmentation", "keypoints", "caption")
ROWS = 4096


@dataclass
class Coco:
    """What a file says; annotation `n` has the box [x, y, w, h] at 4 n.

    Attributes:
        categories: name -> id, in the order of the ids.
        unread: what annotations have that is not read.
    """

    names: list[str] = field(default_factory=list)
    ids: list[int | str] = field(default_factory=list)
    sizes: array = field(default_factory=lambda: array("d"))
    boxes: array = field(default_factory=lambda: array("d"))
    crowd: bytearray = field(default_factory=bytearray)
    box_images: list[int | str] = field(default_factory=list)
    box_categories: list[int | str] = field(default_factory=list)
    categories: dict[str, int | str] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    problems: Problems = field(default_factory=Problems)

    def add_image(self, item: dict[str, Any]) -> None:
        """Take in one of "images"."""
        name, own = item.get("file_name"), item.get("id")
        if not isinstance(name, str) or not name or not _is_id(own):
            self.problems.note("images lack an id or a file_name", _short(item))
            return
        sides = [item.get("width"), item.get("height")]
        self.names.append(name)
        self.ids.append(own)
        self.sizes.extend(float(side) if _is_number(side) else 0.0 for side in sides)

    def add_annotation(self, item: dict[str, Any]) -> None:
        """Take in one of "annotations"."""
        self.unread |= {key for key in UNREAD if item.get(key)}
        box = item.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            self.problems.note("annotations have no bbox of four numbers", _short(item))
        elif min(box[2:]) < 0:
            self.problems.note("boxes have a negative size", _short(item))
        elif not _is_id(item.get("image_id")) or not _is_id(item.get("category_id")):
            self.problems.note("annotations lack image_id or category_id", _short(item))
        else:
            self.boxes.extend(map(float, box))
            self.box_images.append(item["image_id"])
            self.box_categories.append(item["category_id"])
            self.crowd.append(bool(item.get("iscrowd")))

    def add_category(self, item: dict[str, Any]) -> None:
        """Take in one of "categories"."""
        name, own = item.get("name"), item.get("id")
        if not isinstance(name, str) or not name or not _is_id(own):
            self.problems.note("categories lack an id or a name", _short(item))
        elif name in self.categories or own in self.categories.values():
            self.problems.note("categories share a name or an id with another", f"{own!r} {name!r}")
        else:
            self.categories[name] = own

    def check(self) -> np.ndarray:
        """Note what does not fit together; return int64[annotations], the place of the picture of each."""
        place_of: dict[int | str, int] = {}
        for place, own in enumerate(self.ids):
            if own in place_of:
                self.problems.note(
                    "image ids are there twice", f"{own!r} ({self.names[place_of[own]]}, {self.names[place]})"
                )
            place_of[own] = place
        known = set(self.categories.values())
        places = np.array([place_of.get(own, -1) for own in self.box_images], dtype=np.int64)
        for number in np.flatnonzero(places < 0):
            self.problems.note("annotations are of images that are not listed", f"image_id {self.box_images[number]!r}")
        for category, image in zip(self.box_categories, self.box_images, strict=True):
            if category not in known:
                self.problems.note(
                    "annotations have an unknown category", f"category_id {category!r} (image_id {image!r})"
                )
        if len({type(own) for own in self.ids}) > 1:
            self.problems.note("images have ids of two kinds", "numbers and text")
        return places

    def rows(self, places: np.ndarray) -> Iterator[dict[str, pa.Array]]:
        """Yield columns, some pictures at a time, in the order of the file; `places` as `check` gives them."""
        order = np.argsort(places, kind="stable")
        starts = np.searchsorted(places[order], np.arange(len(self.names) + 1))
        names = {own: name for name, own in self.categories.items()}
        for start in range(0, len(self.names), ROWS):
            some = range(start, min(start + ROWS, len(self.names)))
            texts = [self._text(place, order[starts[place] : starts[place + 1]], names) for place in some]
            yield {
                IMAGE: pa.array([self.names[place] for place in some], pa.string()),
                IMAGE_ID: pa.array([self.ids[place] for place in some]),
                LABEL: pa.array(texts, pa.string()),
            }

    def _text(self, place: int, annotations: np.ndarray, names: dict[int | str, str]) -> str:
        boxes = []
        for number in annotations:
            x, y, width, height = self.boxes[4 * number : 4 * number + 4]
            boxes.append([x, y, x + width, y + height, names[self.box_categories[number]], self.crowd[number]])
        width, height = self.sizes[2 * place : 2 * place + 2]
        return json.dumps({"size": [width, height] if width and height else None, "boxes": boxes})


def load(uri: str, stream: BinaryIO) -> Coco:
    """Read a whole file; `problems` say what of it is wrong by itself.

    Raises:
        WrongInput: no JSON, or none of COCO's objects.
    """
    found, seen, coco = dict.fromkeys(LISTS, False), set(), Coco()
    take = {"images": coco.add_image, "annotations": coco.add_annotation, "categories": coco.add_category}
    try:
        for key, item in items(stream):
            seen.add(key)
            if key in found:
                found[key] = True
            if key in take and item is not None:
                if not isinstance(item, dict):
                    coco.problems.note(f"items of '{key}' are no objects", _short(item))
                else:
                    take[key](item)
    except ValueError as error:
        raise WrongInput(f"{uri}: can't be read as JSON: {error}; JSON lines have the ending .jsonl") from None
    lacks = [key for key in LISTS if not found[key]]
    if lacks:
        raise WrongInput(
            f"{uri}: a .json file is read as COCO's objects, and it has no {', '.join(map(repr, lacks))} "
            f"(it has {', '.join(map(repr, sorted(seen)[:10])) or 'nothing'}); name COCO's instances file, or a table"
        )
    coco.categories = dict(sorted(coco.categories.items(), key=lambda pair: (isinstance(pair[1], str), pair[1])))
    return coco


def is_coco(stream: BinaryIO) -> bool:
    """Tell whether a file is JSON of images and annotations; it is read no further than that takes."""
    wanted = {"images", "annotations"}
    try:
        for key, _ in items(stream):
            wanted.discard(key)
            if not wanted:
                return True
    except ValueError:
        pass
    return False


def _is_id(value: object) -> TypeGuard[int | str]:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _short(item: object) -> str:
    text = json.dumps(item)
    return text if len(text) <= 100 else f"{text[:97]}..."
