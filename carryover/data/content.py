"""Owns the digest of a dataset: its logical content, never the bytes of Parquet, names of files, or how they were cut.

digest  = blake3 of canonical JSON of: label, problem type, classes, columns (name, type, arrow), and of each split
          its rows and the digests of its columns
column  = blake3 of what is present (a byte a row), and blake3 of the values one after the other: 8 bytes
          little-endian for a number, 1 for a bool; for text and bytes all lengths apart from all contents; for lists
          of bytes a row's number of items and their lengths (-1: null) where a single value has its length; for boxes
          their number and the lengths of their classes, and the four sides and the crowd byte of each, then the classes
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from carryover.data.compute import pc
from carryover.data.rows import BOXES
from carryover.data.schema import Schema
from carryover.ground.digests import Hasher, canonical, digest

FORMAT = 1


class ContentHash:
    """The running digest of one split's rows, in order."""

    def __init__(self, names: list[str]) -> None:
        self._rows = 0
        self._hashers = {name: (Hasher(), Hasher(), Hasher()) for name in names}

    def update(self, table: pa.Table) -> None:
        """Take in the next rows; how rows are cut into calls does not matter."""
        self._rows += table.num_rows
        for name, (present, lengths, contents) in self._hashers.items():
            array = table[name].combine_chunks()
            present.update(np.asarray(pc.is_valid(array)).astype(np.uint8).tobytes())
            if array.type == BOXES:
                _update_boxes(array, lengths, contents)
            elif pa.types.is_list(array.type):
                _update_lists(array, lengths, contents)
            elif pa.types.is_string(array.type) or pa.types.is_binary(array.type):
                _update_text(array, lengths, contents)
            else:
                contents.update(_plain(array))

    def summary(self) -> dict[str, Any]:
        """Return what stands for the split in the dataset's digest."""
        columns = {name: [hasher.hexdigest() for hasher in hashers] for name, hashers in self._hashers.items()}
        return {"rows": self._rows, "columns": columns}


def dataset_digest(schema: Schema, splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest (64 hex characters) of a dataset whose splits have these summaries."""
    described = {
        "format": FORMAT,
        "kind": "dataset",
        "label": schema.label,
        "problem_type": schema.problem_type,
        "classes": None if schema.classes is None else list(schema.classes),
        "columns": [[column.name, column.type, column.arrow] for column in schema.columns],
        "splits": dict(splits),
    }
    return digest(canonical(described))


def _plain(array: pa.Array) -> bytes:
    if pa.types.is_boolean(array.type):
        return np.asarray(pc.fill_null(array, False)).astype(np.uint8).tobytes()
    numbers = np.asarray(pc.fill_null(array, 0))
    return numbers.astype("<f8" if pa.types.is_floating(array.type) else "<i8").tobytes()


def _update_text(array: pa.Array, lengths: Any, contents: Any) -> None:
    filled = pc.cast(pc.fill_null(array, "" if pa.types.is_string(array.type) else b""), pa.binary())
    lengths.update(np.asarray(pc.binary_length(filled)).astype("<i8").tobytes())
    _update_contents(filled, contents)


def _update_lists(array: pa.Array, lengths: Any, contents: Any) -> None:
    items = array.flatten()
    sizes = np.asarray(pc.fill_null(pc.binary_length(items), -1)).astype("<i8")
    counts = np.asarray(pc.fill_null(pc.list_value_length(array), 0)).astype("<i8")
    # Each row's number stands before its sizes, so that it does not matter how rows are cut into calls.
    lengths.update(np.insert(sizes, np.cumsum(counts) - counts, counts).tobytes())
    _update_contents(pc.fill_null(items, b""), contents)


def _update_boxes(array: pa.ListArray, lengths: Any, contents: Any) -> None:
    boxes = array.flatten()
    sides = np.stack([_column(boxes, name).astype("<f8") for name in ("x1", "y1", "x2", "y2")], axis=-1)
    crowd, names = _column(boxes, "crowd").astype(np.uint8), [name.encode() for name in _column(boxes, "class")]
    start = 0
    for count in np.asarray(pc.fill_null(pc.list_value_length(array), 0)):
        end = start + int(count)
        own = names[start:end]
        lengths.update(np.array([count, *map(len, own)], dtype="<i8").tobytes())
        contents.update(sides[start:end].tobytes() + crowd[start:end].tobytes() + b"".join(own))
        start = end


def _column(boxes: pa.StructArray, name: str) -> np.ndarray:
    return pc.struct_field(boxes, name).to_numpy(zero_copy_only=False)


def _update_contents(filled: pa.Array, contents: Any) -> None:
    _, offsets, data = filled.buffers()
    if data is None or not len(filled):
        return
    ends = np.frombuffer(offsets, dtype=np.int32)
    start, end = int(ends[filled.offset]), int(ends[filled.offset + len(filled)])
    contents.update(memoryview(data)[start:end])
