"""Owns a folder of images as a source: one folder a class, and the folder's name is the label.

DIR/dress/1.jpg  DIR/dress/2.jpg  DIR/hat/1.jpg  -->  image      label
                                                      dress/1.jpg dress   ...
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from carryover.data.images import ENDINGS
from carryover.ground import storage
from carryover.ground.digests import canonical, digest

if TYPE_CHECKING:
    pass

FORMAT = "images"
IMAGE, LABEL = "image", "label"
ROWS = 4096


def is_image_folder(uri: str) -> bool:
    """Tell whether a URI is a folder whose folders hold images."""
    store = storage.open_store(uri)
    return not any(mark in uri for mark in "*?[") and any(_images(uri, folder) for folder in _classes(store))


def fingerprint(uri: str) -> dict[str, Any]:
    """Return what tells one version of the folder from another without reading an image."""
    store = storage.open_store(uri)
    listed = [[folder, store.sub(folder).listing()] for folder in _classes(store)]
    return {"uri": uri, "listing": digest(canonical(listed))}


def batches(uri: str) -> Iterator[dict[str, pa.Array]]:
    """Yield columns of names, relative to the folder, and labels: class after class, by name."""
    for folder in _classes(storage.open_store(uri)):
        names = _images(uri, folder)
        for start in range(0, len(names), ROWS):
            some = names[start : start + ROWS]
            yield {IMAGE: pa.array([f"{folder}/{name}" for name in some]), LABEL: pa.array([folder] * len(some))}


def identity(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Return what tells images apart when rows are split: the names without their folders.

    So an image that is moved to another class, a corrected label, stays in its split.
    """
    return {IMAGE: pa.array([name.rpartition("/")[2] for name in columns[IMAGE].to_pylist()])}


def _classes(store: storage.Store) -> list[str]:
    return [name for name in store.folders() if not name.startswith((".", "_"))]


def _images(uri: str, folder: str) -> list[str]:
    names = storage.open_store(uri).names(folder)
    return [name for name in names if name.lower().endswith(ENDINGS) and not name.startswith((".", "_"))]
