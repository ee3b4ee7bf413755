"""Owns how a stored picture becomes a small one that a page can hold: a data URI, turned as its EXIF data say."""

import base64
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

WIDTH, QUALITY = 480, 72


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a page shows it: `uri` is a data URI, its size is in pixels, `scale` that of the stored one's."""

    uri: str
    width: int
    height: int
    scale: float

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Thumbnail":
        """Return what `vars` of one gave."""
        return cls(value["uri"], value["width"], value["height"], value["scale"])


def thumbnail(data: bytes | None, *, width: int = WIDTH) -> Thumbnail | None:
    """Return a stored picture made small, up to `width` wide and twice as high; None for one that can't be read."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            seen = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
        return None
    scale = min(1.0, width / seen.width, 2 * width / seen.height)
    small = seen.resize(scaled(seen.size, scale), Image.Resampling.LANCZOS)
    return Thumbnail(data_uri(small, "JPEG", quality=QUALITY), small.width, small.height, scale)


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return a size in pixels made smaller, at least one pixel each way."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def data_uri(image: "Image.Image", format: str, **options: object) -> str:
    """Return a picture as a data URI."""
    sink = io.BytesIO()
    image.save(sink, format, **options)  # pyright: ignore[reportArgumentType]
    return f"data:image/{format.lower()};base64,{base64.b64encode(sink.getvalue()).decode()}"
