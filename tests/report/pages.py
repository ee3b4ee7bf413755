"""Owns pages of every kind, each made by real steps on small data."""

import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carryover.data.manifest import load_card
from carryover.steps.dump_backbone import dump_backbone
from carryover.steps.evaluate import evaluate
from carryover.steps.lineage import lineage
from carryover.steps.prepare_data import prepare_data
from carryover.steps.training_report import page_of
from tests.data.support import reviews, write
from tests.evaluate.models import fit_model
from tests.support.tiny_bert import save_tiny_bert
from tests.support.tiny_clip import save_tiny_clip
from tests.support.toy_colours import install, write_toy
from tests.train.attempts import SMALL, Killed, Run, dataset

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


def evaluation_of_text(folder: Path) -> Path:
    """An evaluation of a binary problem, told from text and numbers, against a baseline and with stages."""
    rows = [{**row, "label": "good" if "red" in row["text"] else "bad"} for row in reviews(500)]
    data = prepared(folder, write(folder / "rows.csv", rows), label="label", test_fraction=0.3, train_fraction=0.6)
    store, text = str(folder / "store"), save_tiny_bert(folder / "bert")
    model = {"names": ["hf_text"], "hf_text": {"checkpoint_name": str(text)}}
    both = [fit_model(data["uri"], store, folder, model=model, steps=steps) for steps in (2, 12)]
    evaluate(
        model=both[1],
        baseline=both[0],
        stage=[both[0]],
        dataset=[data["uri"]],
        min_gain=0.0,
        store=store,
        output=str(folder / "scored"),
    )
    return folder / "scored" / "report.html"


def evaluation_of_images(folder: Path) -> Path:
    """An evaluation of three classes of images, with a CLIP checkpoint that was never trained on them."""
    for path, colour, _ in squares(folder / "all", 80):
        (folder / "images" / colour).mkdir(parents=True, exist_ok=True)
        path.rename(folder / "images" / colour / path.name)
    data = prepared(folder, folder / "images", label="label", test_fraction=0.4, train_fraction=0.5)
    clip = save_tiny_clip(folder / "clip")
    evaluate(zero_shot=str(clip), dataset=[data["uri"]], store=str(folder / "store"), output=str(folder / "scored"))
    return folder / "scored" / "report.html"


def evaluation_of_many_classes(folder: Path) -> Path:
    """An evaluation of more classes than a matrix has room for numbers."""
    draw = np.random.default_rng(0)
    rows = []
    for number in range(900):
        kind = number % 30
        a, b = draw.normal(kind % 6, 0.4), draw.normal(kind // 6, 0.4)
        rows.append({"a": round(a, 3), "b": round(b, 3), "kind": f"a class with a long name, number {kind}"})
    data = prepared(folder, write(folder / "rows.csv", rows), label="kind", test_fraction=0.3, train_fraction=0.6)
    return _scored(folder, data["uri"])


def evaluation_of_numbers(folder: Path) -> Path:
    """An evaluation of a regression whose errors grow with the value."""
    draw = np.random.default_rng(0)
    rows = []
    for a, b in draw.normal(size=(800, 2)):
        rows.append({"a": a, "b": b, "price": 100 + 20 * a + 5 * b + draw.normal() * (2 + a * a)})
    data = prepared(folder, write(folder / "rows.csv", rows), label="price", test_fraction=0.3, train_fraction=0.6)
    return _scored(folder, data["uri"])


def _scored(folder: Path, dataset: str) -> Path:
    store = str(folder / "store")
    table = {"numerical_mlp": {"hidden_size": 16}, "names": ["numerical_mlp"]}
    model = fit_model(dataset, store, folder, model=table, steps=120)
    evaluate(model=model, dataset=[dataset], store=store, output=str(folder / "scored"))
    return folder / "scored" / "report.html"


def evaluation_of_boxes(folder: Path) -> Path:
    """An evaluation of boxes that are off by some pixels."""
    return _found(folder, boxes_source(folder, 60), shift=3.0)


def evaluation_of_masks(folder: Path) -> Path:
    """An evaluation of masks that are off by some pixels."""
    return _found(folder, masks_source(folder, 60), shift=2.0, label="mask", problem_type="semantic_segmentation")


def _found(folder: Path, source: Path, *, shift: float, **arguments: Any) -> Path:
    sys.path.insert(0, install(folder / "plugin"))
    try:
        data = prepared(folder, source, test_fraction=0.4, train_fraction=0.5, **arguments)
        store = str(folder / "store")
        model = write_toy(data["uri"], store, shift=shift, colours=tuple(COLOURS))
        evaluate(model=model, dataset=[data["uri"]], store=store, output=str(folder / "scored"))
    finally:
        sys.path.remove(str(folder / "plugin"))
    return folder / "scored" / "report.html"


def backbone_page(folder: Path) -> Path:
    """A Backbone of a text branch and a table's, joined, from a run."""
    values = {
        **SMALL,
        "optimization.max_epochs": 1,
        "model.names": ["numerical_mlp", "hf_text", "fusion_mlp"],
        "model.hf_text.checkpoint_name": str(save_tiny_bert(folder / "bert")),
    }
    data = prepared(folder, write(folder / "rows.csv", reviews(120)), label="label")
    run = Run(load_card(data["uri"]), str(folder / "store"), values, folder / "scratch")
    run.go()
    dump_backbone(model="run:run", store=run.store, output=str(folder / "dumped"))
    return folder / "dumped" / "report.html"


def lineage_page(folder: Path) -> Path:
    """The lineage of that Backbone."""
    uri = str(backbone_page(folder).parent)
    lineage(uri, store=str(folder / "store"), html=str(folder / "lineage.html"))
    return folder / "lineage.html"


def training_page(folder: Path) -> Path:
    """The report of a run of three attempts, two of which were killed."""
    often = {"optimization.val_check_interval": 0.5, "optimization.log_every_n_steps": 1}
    run = Run(dataset(folder), str(folder / "store"), often, folder)
    for kill_after in (5, 6):
        with pytest.raises(Killed):
            run.go(kill_after=kill_after)
    run.go()
    path = folder / "training.html"
    path.write_text(page_of(run.home))
    return path


# What a careless page would take for parts of itself; texts that turn others around, that can't be seen, of four bytes.
EVIL = (
    "<script>alert('text')</script>",
    "\"><img src=x onerror=alert('attribute')>",
    "</style><style>* { display: none }</style>",
    "</title><svg onload=alert('svg')></svg>",
    "javascript:alert('link')",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} &lt;b&gt;",
    "right to left: \u05e9\u05dc\u05d5\u05dd \u202eevil\u202c, no width: a\u200bb\ufeffc, four bytes: \U0001f525",
)
ODD_FOLDER = "a'b&c <b>d"


def evil_pages(folder: Path) -> dict[str, Path]:
    """Every page of a model of a table whose columns, classes, texts, categories, files and folders are hostile."""
    place = folder / ODD_FOLDER
    chance, store = random.Random(0), str(folder / ODD_FOLDER / "store")
    rows = []
    for number in range(240):
        a = chance.gauss(0, 1)
        rows.append(
            {
                EVIL[0]: f"{EVIL[number % 7]} {chance.choice(['fine', 'dull', 'red'])} {number}"
                + " and more words" * 3,
                EVIL[1]: a,
                EVIL[2]: EVIL[chance.randrange(7)],
                EVIL[3]: "always",
                EVIL[4]: number,
                EVIL[6]: (EVIL[0], EVIL[1], EVIL[6])[(a > -0.5) + (a > 0.5)],
            }
        )
    asked = {"store": store, "column_types": {EVIL[0]: "text"}}
    first = prepare_data(
        source=[str(write(place / "rows.parquet", rows))], label=EVIL[6], output=str(place / "a"), **asked
    )
    moved = [{**row, EVIL[1]: row[EVIL[1]] + 3, EVIL[2]: EVIL[0]} for row in rows]
    odd = write(place / "<img src=x onerror=alert(3)>.parquet", moved)
    prepare_data(source=[str(odd)], schema_from=first["uri"], output=str(place / "b"), store=store)
    values = {
        **SMALL,
        "optimization.max_epochs": 1,
        "model.names": ["numerical_mlp", "categorical_mlp", "hf_text", "fusion_mlp"],
        "model.hf_text.checkpoint_name": str(save_tiny_bert(folder / "bert")),
    }
    run = Run(load_card(first["uri"]), store, values, place / "scratch")
    run.go()
    training = place / "training.html"
    training.write_text(page_of(run.home))
    given = {"dataset": [first["uri"]], "store": store, "output": str(place / "scored")}
    table = {"numerical_mlp": {"hidden_size": 8}, "names": ["numerical_mlp"]}
    before = fit_model(first["uri"], store, place / "scratch", model=table, steps=3)
    evaluate(model="run:run", baseline=before, stage=[before], min_gain=0.0, **given)
    dump_backbone(model="run:run", store=store, output=str(place / "dumped"))
    lineage(str(place / "dumped"), store=store, html=str(place / "lineage.html"))
    return {
        "data card": place / "a" / "dataset.html",
        "data card with drift": place / "b" / "dataset.html",
        "training": training,
        "evaluation": place / "scored" / "report.html",
        "backbone": place / "dumped" / "report.html",
        "lineage": place / "lineage.html",
    }
