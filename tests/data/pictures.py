"""Owns small annotated pictures for tests of the data floor."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = ({"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 9, "name": "emu"})


def picture(width: int = 40, height: int = 30, *, shade: int = 0, kind: str = "PNG", **how: Any) -> bytes:
    """Return the bytes of a picture of one shade."""
    sink = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 0, 0)).save(sink, kind, **how)
    return sink.getvalue()


def mask(ids: Any, *, palette: bool = False) -> bytes:
    """Return the bytes of a PNG of ids, uint8[H, W]."""
    image = Image.fromarray(np.asarray(ids, dtype=np.uint8))
    if palette:
        image.putpalette([9, 8, 7] * 256)
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def coco(boxes: Sequence[Sequence[Sequence[Any]]], **more: Any) -> dict[str, Any]:
    """Return COCO's JSON of pictures 0.png, 1.png, ... of 40 x 30, and the boxes [x, y, w, h, category id] of each."""
    images = [{"id": 100 + n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(len(boxes))]
    annotations = [
        {"id": 1000 * n + place, "image_id": 100 + n, "bbox": list(box[:4]), "category_id": box[4]}
        for n, own in enumerate(boxes)
        for place, box in enumerate(own)
    ]
    return {"images": images, "annotations": annotations, "categories": list(CATEGORIES), **more}


def write_coco(
    path: Path, value: Mapping[str, Any], *, images: str = "images", size: tuple[int, int] = (40, 30)
) -> Path:
    """Write COCO's JSON and its pictures, in a folder relative to the file's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    for place, image in enumerate(value["images"]):
        file = path.parent / images / str(image.get("file_name"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(*size, shade=place % 256))
    return path
