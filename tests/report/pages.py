"""Owns pages of every kind, each made by real steps on small data."""

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from carryover.steps.prepare_data import prepare_data
from tests.data.support import reviews, write

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 160, 30)}


def prepared(folder: Path, source: Path, *, out: str = "out", **arguments: Any) -> dict[str, Any]:
    """What prepare-data says of a source, in a store of this folder's own."""
    return prepare_data(source=[str(source)], store=str(folder / "store"), output=str(folder / out), **arguments)


def squares(folder: Path, count: int, *, seed: int = 0) -> list[tuple[Path, str, list[tuple[list[int], str]]]]:
    """Pictures of coloured squares: the file, the colour that covers most, and each square's box and colour."""
    chance, found = random.Random(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        width, height = chance.choice([(96, 64), (64, 96), (300, 120)])
        drawn = np.full((height, width, 3), (236, 233, 226), np.uint8)
        boxes = []
        for name in chance.sample(list(COLOURS), chance.randint(1, 3)):
            side = chance.randint(10, 36)
            x, y = chance.randint(0, width - side), chance.randint(0, height - side)
            drawn[y : y + side, x : x + side] = COLOURS[name]
            boxes.append(([x, y, side, side], name))
        path = folder / f"{number:04}.png"
        Image.fromarray(drawn).save(path)
        found.append((path, max(boxes, key=lambda box: box[0][2])[1], boxes))
    return found


def table_card(folder: Path) -> Path:
    """A data card of text, numbers with holes, categories and an identifier-like column."""
    prepared(folder, write(folder / "rows.csv", reviews(400)), label="label")
    return folder / "out" / "dataset.html"


def wide_card(folder: Path) -> Path:
    """A data card of many columns, with drift, leaks, contradictions, missing values and unused columns."""
    draw = np.random.default_rng(0)
    before, now = ([_wide_row(draw, number, moved) for number in range(300)] for moved in (0.0, 2.0))
    now += [{**row, "price": row["price"] + 1} for row in now[:5]]
    prepared(folder, write(folder / "before.csv", before), label="price", out="first")
    held = write(folder / "held.csv", now[20:60])
    prepared(
        folder,
        write(folder / "now.csv", now),
        schema_from=str(folder / "first"),
        validation_source=[str(held)],
    )
    return folder / "out" / "dataset.html"


def _wide_row(draw: np.random.Generator, number: int, moved: float) -> dict[str, Any]:
    numbers = {f"sensor_{place:03}": round(float(draw.normal()), 4) for place in range(140)}
    tail = float(draw.lognormal(sigma=3))
    return {
        "row": number,
        "price": round(float(draw.normal(100 + moved, 5)), 2),
        "a rather long name of a column that goes on and on and on without any end": draw.integers(5) + moved,
        "tail": tail,
        "kind": draw.choice(["a", "b", "c"], p=[0.1, 0.2, 0.7] if moved else [0.7, 0.2, 0.1]),
        "holes": None if draw.random() < 0.7 else number,
        "constant": "always the same",
        "text": " ".join(draw.choice(["a", "fine", "red", "film"], size=int(draw.integers(1, 40)))),
        **numbers,
    }


def images_card(folder: Path) -> Path:
    """A data card of a folder of images, one of which can't be read."""
    for path, colour, _ in squares(folder / "all", 60):
        (folder / "images" / colour).mkdir(parents=True, exist_ok=True)
        path.rename(folder / "images" / colour / path.name)
    (folder / "images" / "red" / "broken.png").write_bytes(b"\x89PNG no more")
    prepared(folder, folder / "images", label="label")
    return folder / "out" / "dataset.html"


def boxes_source(folder: Path, count: int = 40, *, seed: int = 0) -> Path:
    """COCO's file of coloured squares."""
    images, annotations = [], []
    for number, (path, _, boxes) in enumerate(squares(folder / "images", count, seed=seed)):
        with Image.open(path) as image:
            size = {"width": image.width, "height": image.height}
        images.append({"id": number, "file_name": path.name, **size})
        for box, name in boxes:
            category = list(COLOURS).index(name) + 1
            one = {"id": len(annotations) + 1, "image_id": number, "bbox": box, "category_id": category}
            annotations.append({**one, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(COLOURS)]
    path = folder / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def boxes_card(folder: Path) -> Path:
    """A data card of boxes."""
    prepared(folder, boxes_source(folder))
    return folder / "out" / "dataset.html"


def masks_source(folder: Path, count: int = 40, *, seed: int = 0) -> Path:
    """A table of pictures of coloured squares and their masks, with an ignored edge."""
    lines = ["image,mask"]
    for path, _, _ in squares(folder / "images", count, seed=seed):
        drawn = np.asarray(Image.open(path))
        ids = np.zeros(drawn.shape[:2], np.uint8)
        for place, colour in enumerate(COLOURS.values()):
            ids[(drawn == colour).all(axis=2)] = place + 1
        ids[:2] = 255
        sink = io.BytesIO()
        Image.fromarray(ids).save(sink, "PNG")
        mask = path.with_name(f"{path.stem}-mask.png")
        mask.write_bytes(sink.getvalue())
        lines.append(f"images/{path.name},images/{mask.name}")
    (folder / "masks.csv").write_text("\n".join(lines) + "\n")
    return folder / "masks.csv"


def masks_card(folder: Path) -> Path:
    """A data card of masks."""
    prepared(folder, masks_source(folder), label="mask", problem_type="semantic_segmentation")
    return folder / "out" / "dataset.html"
