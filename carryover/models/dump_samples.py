"""Owns the rows that a dumped branch is tried on: made up, so that no data has to be at hand, and always the same."""

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "A film that was too long, but worth it: 7 of 10!",
    None,
    "straße, naïve café, 東京, здравствуй",
    "words " * 700,
    "",
)
_SIZES = ((40, 30), (300, 260), (260, 300), (64, 64), (7, 90), (32, 32))
COUNT = len(_TEXTS)


def texts(column: int) -> pa.Array:
    """Return sentences for one of several columns, other ones for each: short, too long, of other scripts, missing."""
    return pa.array([_TEXTS[(row + column) % COUNT] for row in range(COUNT)], pa.string())


def images(column: int) -> pa.Array:
    """Return lists of images: one, two, none."""
    found = [[_image(row, column)] for row in range(COUNT)]
    found[1].append(_image(COUNT, column))
    found[(2 + column) % COUNT] = []
    return pa.array(found, pa.list_(pa.binary()))


def numbers(column: int, *, middle: float, spread: float) -> pa.Array:
    """Return numbers around `middle`, and a missing one."""
    drawn = np.random.default_rng(column).normal(middle, spread or 1.0, COUNT).tolist()
    return pa.array([*drawn[1:], None], pa.float64())


def categories(column: int, values: Sequence[str]) -> pa.Array:
    """Return some of the values, one that nobody knows, and a missing one."""
    drawn = np.random.default_rng(column).integers(0, len(values), COUNT - 2) if values else [0] * (COUNT - 2)
    return pa.array([*(values[place] if values else "" for place in drawn), "\x00 unknown", None], pa.string())


def _image(row: int, column: int) -> bytes:
    from PIL import Image

    width, height = _SIZES[row % COUNT]
    pixels = np.random.default_rng([row, column]).integers(0, 256, (height, width, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()
