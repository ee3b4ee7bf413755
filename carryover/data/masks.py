"""Owns what a mask is: how sources write class ids into pictures, how they are stored, and what is told of them.

PNG (or another lossless picture) of one channel, of a palette, or of equal channels --> uint8[H, W] of ids
    --ids renamed: the one to ignore to 255; 255 to 1 where there is nothing but 0 and 255--> PNG of one channel
"""

import io
from typing import Any

import numpy as np
import pyarrow as pa


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
                self._pixels += np.bincount(np.asarray(image).ravel(), minlength=256)

    def to_json(self) -> dict[str, Any]:
        pixels = {str(id): int(count) for id, count in enumerate(self._pixels) if count}
        return {"missing": self._missing, "count": self._count, "pixels": pixels}
