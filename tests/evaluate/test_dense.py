"""evaluate of boxes and masks: COCO's own verdict on our file, scores of classes, pictures, gate, stages, refusals."""

import contextlib
import io
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from carryover.ground.errors import WrongInput
from carryover.steps import component
from carryover.steps.evaluate import evaluate
from carryover.steps.prepare_data import prepare_data
from tests.support.toy_colours import COLOURS, install, write_toy

EVIL = '<script>alert("x")</script>'
# The source's own ids and names; the order of the ids is that of the classes.
CATEGORIES = {"blue": (3, "sea & sky"), "green": (5, EVIL), "red": (9, "red")}


@pytest.fixture(scope="module", autouse=True)
def _toy(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(install(tmp_path_factory.mktemp("plugin")))
        yield


def picture(chance: random.Random, names: tuple[str, ...]) -> tuple[np.ndarray, list[tuple[list[int], str]]]:
    """A picture and its squares: one of each colour at most, some told of another colour, some not told at all."""
    width, height = chance.choice([(90, 64), (600, 200), (64, 90)])
    drawn = np.full((height, width, 3), 235, np.uint8)
    squares = []
    for place, name in enumerate(names):
        if chance.random() < 0.3:
            continue
        side = chance.randint(12, 18)
        x, y = place * width // 3 + 1, chance.randint(0, height - side)
        drawn[y : y + side, x : x + side] = COLOURS[name]
        if chance.random() < 0.85:
            squares.append(([x, y, side, side], chance.choice(names) if chance.random() < 0.1 else name))
    return drawn, squares


def write_coco(folder: Path, count: int, *, names: tuple[str, ...], seed: int, named: bool = False) -> str:
    chance, images, annotations = random.Random(seed), [], []
    folder.mkdir(parents=True)
    for number in range(count):
        drawn, squares = picture(chance, names)
        own = f"picture {1000 + 7 * number}" if named else 1000 + 7 * number
        Image.fromarray(drawn).save(folder / f"{own}.png")
        images.append({"id": own, "file_name": f"{own}.png", "width": drawn.shape[1], "height": drawn.shape[0]})
        for box, name in squares:
            crowd = int(chance.random() < 0.25)
            about = {"id": len(annotations) + 1, "image_id": own, "bbox": box, "iscrowd": crowd}
            annotations.append({**about, "category_id": CATEGORIES[name][0], "area": box[2] * box[3]})
    categories = [{"id": CATEGORIES[name][0], "name": CATEGORIES[name][1]} for name in names]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(whole))
    return str(folder / "boxes.json")


def write_masks(folder: Path, count: int, *, names: tuple[str, ...], seed: int) -> str:
    """Pictures with a mask of ids 0, 4, 5, .. in the order of the names; each mask has an ignored edge."""
    chance, lines = random.Random(seed), ["image,mask"]
    folder.mkdir(parents=True)
    for number in range(count):
        drawn, _ = picture(chance, names)
        ids = np.zeros(drawn.shape[:2], np.uint8)
        for place, name in enumerate(names):
            ids[(drawn == COLOURS[name]).all(axis=2)] = 4 + place
        ids[:2] = 255
        Image.fromarray(drawn).save(folder / f"{number}.png")
        Image.fromarray(ids).save(folder / f"{number}-mask.png")
        lines.append(f"{number}.png,{number}-mask.png")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "rows.csv")


@dataclass(frozen=True)
class Place:
    """A store with a Dataset, its source of the test split, an exact Model and one that is off by some pixels."""

    store: str
    dataset: str
    source: str
    model: str
    off: str


def prepared(folder: Path, kind: str, names: tuple[str, ...], *, seed: int = 0, named: bool = False) -> tuple[str, str]:
    def write(name: str, count: int, seed: int) -> str:
        if kind == "boxes":
            return write_coco(folder / name, count, names=names, seed=seed, named=named)
        return write_masks(folder / name, count, names=names, seed=seed)

    train, test = write("train", 12, seed + 1), write("test", 20, seed + 2)
    more: dict[str, Any] = {} if kind == "boxes" else {"problem_type": "semantic_segmentation", "label": "mask"}
    found = prepare_data(source=[train], test_source=[test], store=str(folder / "store"), **more)
    return found["uri"], test


@pytest.fixture(scope="module")
def boxes(tmp_path_factory) -> Place:
    folder, names = tmp_path_factory.mktemp("boxes"), ("blue", "green", "red")
    dataset, source = prepared(folder, "boxes", names)
    store = str(folder / "store")
    exact, off = (write_toy(dataset, store, shift=shift, colours=names) for shift in (0.0, 3.0))
    return Place(store, dataset, source, exact, off)


@pytest.fixture(scope="module")
def masks(tmp_path_factory) -> Place:
    folder, names = tmp_path_factory.mktemp("masks"), ("blue", "red")
    dataset, source = prepared(folder, "masks", names)
    store = str(folder / "store")
    exact, off = (write_toy(dataset, store, shift=shift, colours=names) for shift in (0.0, 2.0))
    return Place(store, dataset, source, exact, off)


def judged(source: str, results: Path) -> np.ndarray:
    """COCO's twelve numbers of a file of results against the source's annotations."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(source)
        judge = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


def test_pycocotools_reads_our_results_and_finds_our_scores(boxes, tmp_path):
    out = tmp_path / "out"
    result = evaluate(model=boxes.off, dataset=[boxes.dataset], store=boxes.store, output=str(out), batch_size=7)
    metrics = result["metrics"]
    stats = judged(boxes.source, out / "predictions.coco.json")
    assert 0.1 < metrics["map"] < metrics["map_50"] < 1
    for value, want in zip(metrics.values(), stats, strict=True):
        assert want == -1 if value is None else value == pytest.approx(want)
    assert [one["class"] for one in result["classes"]] == ["sea & sky", EVIL, "red"]
    assert np.mean([one["ap"] for one in result["classes"]]) == pytest.approx(metrics["map"])
    told = json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert told["classes"] == told["datasets"][0]["classes"] == result["classes"]
    assert json.loads((out / "result.json").read_text(), parse_constant=pytest.fail) == result
    truth = json.loads(Path(boxes.source).read_text())
    counted = [box for box in truth["annotations"] if not box["iscrowd"]]
    assert sum(one["boxes"] for one in result["classes"]) == len(counted)


def test_the_table_has_true_and_found_boxes_as_the_model_is_asked_to_tell_them(boxes, tmp_path):
    colours = ("blue", "green", "red")
    wide = write_toy(boxes.dataset, boxes.store, colours=colours, form="xywh")
    asked = {"dataset": [boxes.dataset], "store": boxes.store}
    tables = [pq.read_table(evaluate(model=model, **asked)["predictions"]) for model in (boxes.model, wide)]
    assert tables[1].schema.metadata[b"bbox_format"] == b"xywh"
    truth = json.loads(Path(boxes.source).read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    for first, second in zip(*(table.to_pylist() for table in tables), strict=True):
        own = [one for one in truth["annotations"] if one["image_id"] == first["image_id"]]
        assert [(one["bbox"], names[one["category_id"]], bool(one["iscrowd"])) for one in own] == [
            (one["bbox"], one["class"], one["crowd"]) for one in second["label"]
        ]
        for corners, sides in zip(first["prediction"], second["prediction"], strict=True):
            x1, y1, x2, y2 = corners["bbox"]
            assert sides == {**corners, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            assert 0.5 <= corners["score"] < 1


def check_page(page: str) -> None:
    """One file that fetches nothing, with texts escaped."""
    assert "<script" not in page
    assert all(uri.startswith("data:image/") for uri in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "url(" not in page.split("</style>")[0]
    assert page.rstrip().endswith("</html>")
    assert len(page) < 2_000_000


def test_the_page_shows_twelve_pictures_with_boxes(boxes):
    result = evaluate(model=boxes.off, dataset=[boxes.dataset], store=boxes.store)
    page = Path(result["report"]).read_text()
    check_page(page)
    assert page.count("<figure>") == 12
    assert page.count("<b>worst</b>") == 6
    assert "&lt;script&gt;" in page and "sea &amp; sky" in page
    assert 'class="true"' in page and 'class="found"' in page and 'class="true crowd"' in page
    assert "below 0.3 are not drawn" in page
    # A wide picture is made small, and its boxes with it.
    assert 'viewBox="0 0 480 160"' in page
    corners = [float(x) + float(width) for x, width in re.findall(r'class="found".*?x="(.*?)".*?width="(.*?)"', page)]
    assert max(corners) < 490


def test_the_page_shows_pictures_beside_masks(masks):
    result = evaluate(model=masks.off, dataset=[masks.dataset], store=masks.store)
    page = Path(result["report"]).read_text()
    check_page(page)
    assert page.count("<figure>") == 12
    assert page.count("<img") == 4 * 12
    assert "Pixels" in page


def test_told_masks_are_stored_in_ids_at_the_size_of_each_picture(masks, tmp_path):
    out = tmp_path / "out"
    result = evaluate(model=masks.off, dataset=[masks.dataset], store=masks.store, output=str(out), batch_size=3)
    counts = np.zeros((3, 3), np.int64)
    for row in pq.read_table(out / "predictions.parquet").to_pylist():
        told = np.asarray(Image.open(io.BytesIO(row["prediction"])))
        folder = Path(masks.source).parent
        truth = np.asarray(Image.open(folder / f"{row['row']}-mask.png"))
        assert told.shape == truth.shape and set(np.unique(told)) <= {0, 4, 5}
        kept = truth != 255
        places = np.array([0, 0, 0, 0, 1, 2])
        counts += np.bincount(3 * places[truth[kept]] + places[told[kept]], minlength=9).reshape(3, 3)
    assert result["confusion_matrix"] == {"labels": ["0", "4", "5"], "matrix": counts.tolist()}
    iou = counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())
    assert [one["iou"] for one in result["classes"]] == pytest.approx(iou)
    assert result["metrics"]["iou"] == pytest.approx(iou.mean())
    assert [one["pixels"] for one in result["classes"]] == counts.sum(axis=1).tolist()
    assert result["metrics"]["pixel_accuracy"] == pytest.approx(counts.trace() / counts.sum())
    labels, rows = component.confusion_matrix(result) or ([], [])
    assert labels == ["0", "4", "5"] and rows == counts.tolist()


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_gate_and_task_matrix(request, kind):
    place: Place = request.getfixturevalue(kind)
    asked = {"dataset": [place.dataset], "store": place.store}
    alone = evaluate(model=place.off, **asked)
    result = evaluate(model=place.model, baseline=place.off, stage=[place.off], min_gain=0.01, confident=True, **asked)
    main = next(iter(result["metrics"]))
    gain = result["gate"]["gain"]
    assert result["accepted"] and 0 < gain["low"] <= gain["gain"] <= gain["high"]
    assert gain["baseline"] == pytest.approx(alone["metrics"][main])
    assert gain["model"] == pytest.approx(result["metrics"][main])
    matrix = result["matrix"]
    assert [row[0] for row in matrix["scores"]] == pytest.approx([gain["baseline"], gain["model"]])
    assert matrix["class_score"] == {"boxes": "AP", "masks": "IoU"}[kind]
    key = {"boxes": "ap", "masks": "iou"}[kind]
    for one in result["classes"]:
        assert matrix["classes"][one["class"]]["scores"][-1][0] == pytest.approx(one[key])
    back = evaluate(model=place.off, baseline=place.model, min_gain=0.0, **asked)
    assert not back["accepted"] and "not as asked" in back["reason"]


def test_an_older_detector_that_lacks_a_class_is_a_baseline(boxes, tmp_path):
    folder = tmp_path / "older"
    dataset, _ = prepared(folder, "boxes", ("red", "blue"), seed=10)
    older = write_toy(dataset, str(folder / "store"), colours=("blue", "red"))
    result = evaluate(
        model=boxes.model, baseline=older, stage=[older], dataset=[boxes.dataset], store=boxes.store, min_gain=0.0
    )
    assert result["accepted"]
    classes = result["matrix"]["classes"]
    assert classes[EVIL]["scores"][0] == [0.0] and classes["red"]["scores"][0] == classes["red"]["scores"][1]
    with pytest.raises(WrongInput, match="classes that the model does not know"):
        evaluate(model=older, dataset=[boxes.dataset], store=boxes.store)


def test_masks_of_other_classes_and_boxes_are_refused(boxes, masks, tmp_path):
    dataset, _ = prepared(tmp_path, "masks", ("blue", "red", "green"), seed=20)
    more = write_toy(dataset, str(tmp_path / "store"), colours=("blue", "red", "green"))
    asked = {"dataset": [masks.dataset], "store": masks.store}
    with pytest.raises(WrongInput, match=r"tells the ids 0, 4, 5, 6 apart, Model \w+ 0, 4, 5: pixels are compared"):
        evaluate(model=masks.model, baseline=more, **asked)
    with pytest.raises(WrongInput, match=r"is of problem type object_detection, Model \w+ of semantic_segmentation"):
        evaluate(model=masks.model, stage=[boxes.model], **asked)
    with pytest.raises(WrongInput, match="metric 'accuracy' is not for object_detection"):
        evaluate(model=boxes.model, dataset=[boxes.dataset], store=boxes.store, metric=["accuracy"])
    with pytest.raises(WrongInput, match="--zero-shot: tells whole images apart, and the problem is object_detection"):
        evaluate(zero_shot=boxes.store, dataset=[boxes.dataset], store=boxes.store, metric=["map"])
    with pytest.raises(WrongInput, match="its label is 'mask', the model's is 'rois'"):
        evaluate(model=boxes.model, dataset=[masks.dataset], store=boxes.store)


def test_two_datasets_of_boxes_have_a_file_of_results_each(boxes, tmp_path):
    folder = tmp_path / "more"
    dataset, source = prepared(folder, "boxes", ("blue", "green", "red"), seed=30, named=True)
    out = tmp_path / "out"
    result = evaluate(model=boxes.off, dataset=[boxes.dataset, dataset], store=boxes.store, output=str(out))
    stats = judged(source, out / "predictions.coco.1.json")
    assert result["datasets"][1]["metrics"]["map"] == pytest.approx(stats[0])
    # One source's ids are numbers and the other's are names.
    ids = pq.read_table(out / "predictions.parquet").column("image_id").to_pylist()
    assert (ids[0], ids[20]) == ("1000", "picture 1000")
