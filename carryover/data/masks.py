"""Owns what a mask is: how sources write class ids into pictures, how they are stored, and what is told of them.

PNG (or another lossless picture) of one channel, of a palette, or of equal channels --> uint8[H, W] of ids
    --ids renamed: the one to ignore to 255; 255 to 1 where there is nothing but 0 and 255--> PNG of one channel
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from carryover.ground import storage

# What keeps every pixel as it was; in a JPEG ids run into each other.
LOSSLESS = ("PNG", "BMP", "TIFF", "GIF", "PPM")


def ids_of(data: bytes) -> np.ndarray:
    """Return the ids of a mask's pixels, uint8[H, W].

    Raises:
        ValueError: it is no mask; the words stand behind its name.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format not in LOSSLESS:
                raise ValueError(f"is {image.format}, which does not keep ids as they are; give PNG")
            pixels, bands = np.asarray(image), image.getbands()
    except UnidentifiedImageError:
        raise ValueError("is no picture") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"can't be read ({storage.first_line(error)})") from None
    if pixels.ndim == 3:
        # The last of two or four is how opaque a pixel is.
        colours = pixels[..., : len(bands) - (bands[-1] in ("A", "a"))]
        if (colours != colours[..., :1]).any():
            raise ValueError("has colours; a mask has one channel of ids, or a palette")
        pixels = colours[..., 0]
    if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
        raise ValueError(f"has the id {int(pixels.max() if pixels.max() > 255 else pixels.min())}; ids are 0 to 255")
    return pixels.astype(np.uint8)


def pixels_of(ids: np.ndarray) -> np.ndarray:
    """Return int64[256], how many pixels have each id."""
    from PIL import Image

    # numpy's own count would first make eight bytes of each pixel.
    return np.array(Image.fromarray(ids).histogram(), dtype=np.int64)


def stored(ids: np.ndarray) -> bytes:
    """Return ids as they are stored: a PNG of one channel."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(ids).save(sink, "PNG")
    return sink.getvalue()


def rename(ids: np.ndarray, renamed: Mapping[int, int]) -> np.ndarray:
    """Return ids with some of them renamed."""
    table = np.arange(256, dtype=np.uint8)
    for old, new in renamed.items():
        table[old] = new
    return table[ids] if renamed else ids


class Masks:
    """How many pixels each id has, the ignored one too."""

    def __init__(self) -> None:
        self._missing = self._count = 0
        self._pixels = np.zeros(256, dtype=np.int64)

    def add(self, array: pa.Array) -> None:
        from PIL import Image

        self._missing += array.null_count
        self._count += len(array) - array.null_count
        for data in array.drop_null().to_pylist():
            with Image.open(io.BytesIO(data)) as image:
                self._pixels += np.array(image.histogram(), dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        pixels = {str(id): int(count) for id, count in enumerate(self._pixels) if count}
        return {"missing": self._missing, "count": self._count, "pixels": pixels}
