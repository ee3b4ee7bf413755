"""COCO's JSON becomes typed rows of pictures and boxes, or one error that says everything that is wrong with it."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carryover.data.json_stream import items
from carryover.data.manifest import SPLITS, DatasetCard, load_card
from carryover.ground import storage
from carryover.ground.errors import WrongInput
from carryover.steps.prepare_data import prepare_data
from tests.conftest import CarryoverCli
from tests.data.pictures import coco, picture, write_coco
from tests.data.support import splits, table

# Of 40 pictures every fourth has none, the others a cat and a dog.
BOXES = [[] if n % 4 == 0 else [[1, 2, 10, 20.5, 7], [5, 5, 30, 20, 3]] for n in range(40)]


def prepared(tmp_path: Path, *sources: Path | str, **arguments: Any) -> DatasetCard:
    arguments = {"store": str(tmp_path / "store"), **arguments}
    return load_card(prepare_data(source=[str(source) for source in sources], **arguments)["uri"])


def said(tmp_path: Path, *sources: Path | str, **arguments: Any) -> str:
    with pytest.raises(WrongInput) as caught:
        prepared(tmp_path, *sources, **arguments)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "store" / "datasets").glob("*/dataset.json"))
    return str(caught.value)


def every(card: DatasetCard, scratch: Path) -> dict[Any, dict[str, Any]]:
    """Return picture id -> its row, of all splits."""
    return {row["image_id"]: row for split in SPLITS for row in table(card, split, scratch).to_pylist()}


def test_pictures_and_boxes_are_stored_as_they_are(tmp_path: Path) -> None:
    card = prepared(tmp_path, write_coco(tmp_path / "a" / "annotations" / "train.json", coco(BOXES)))
    schema = card.schema
    assert (schema.label, schema.problem_type, schema.classes) == ("rois", "object_detection", ("dog", "cat", "emu"))
    assert [(column.name, column.type) for column in schema.columns] == [
        ("image", "image_path"),
        ("image_id", "identifier"),
        ("rois", "boxes"),
    ]
    assert [column.name for column in schema.features()] == ["image"]
    rows = every(card, tmp_path / "s")
    assert len(rows) == 40
    cat, dog = rows[101]["rois"]
    assert cat == {"x1": 1.0, "y1": 2.0, "x2": 11.0, "y2": 22.5, "class": "cat", "crowd": False}
    assert (dog["x2"], dog["class"]) == (35.0, "dog")
    assert (rows[104]["rois"], rows[101]["image"]) == ([], [picture(shade=1)])
    train = table(card, "train", tmp_path / "s")["rois"].to_pylist()
    told = schema.label_column.statistics
    assert told["count"] == len(train) == card.rows()["train"]
    assert told["missing"] == sum(not own for own in train)
    assert told["boxes"] == sum(map(len, train)) == sum(told["counts"].values()) == sum(told["sizes"].values())
    assert (told["most"], told["dropped"]) == (2, {})
    assert told["category_ids"] == {"dog": 3, "cat": 7, "emu": 9}


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("a.json", "."),
        ("a.json", "images"),
        ("annotations/instances_train2017.json", "../train2017"),
        ("annotations/instances_val.json", "../images/val"),
        ("annotations/a.json", "../JPEGImages"),
    ],
)
def test_pictures_are_found_where_they_usually_lie(tmp_path: Path, file: str, images: str) -> None:
    source = write_coco(tmp_path / "set" / file, coco(BOXES), images=images)
    assert sum(prepared(tmp_path, source).rows().values()) == 40


def test_pictures_elsewhere_need_their_folder(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "set" / "a.json", coco(BOXES), images="../far/away")
    words = said(tmp_path, source)
    for place in ("set,", "set/images", "set/a,", "--image-root"):
        assert place in words
    assert sum(prepared(tmp_path, source, image_root=str(tmp_path / "far" / "away")).rows().values()) == 40


def test_a_picture_keeps_its_split_when_ids_and_folders_are_given_anew(tmp_path: Path) -> None:
    card = prepared(tmp_path, write_coco(tmp_path / "a" / "a.json", coco(BOXES)))
    moved = coco([*BOXES, *BOXES])
    for image in moved["images"]:
        image["id"] += 5000
        image["file_name"] = f"new/{image['file_name']}"
    for annotation in moved["annotations"]:
        annotation["image_id"] += 5000
    again = prepared(tmp_path, write_coco(tmp_path / "b" / "b.json", moved))
    before = splits(card, tmp_path / "s", "image_id")
    after = {id - 5000: split for id, split in splits(again, tmp_path / "s", "image_id").items()}
    assert before.items() <= after.items()
    assert set(before.values()) == set(SPLITS)


def test_the_same_content_is_written_once_from_any_store(tmp_path: Path, s3_store_uri: str) -> None:
    source = write_coco(tmp_path / "set" / "annotations" / "a.json", coco(BOXES), images="../images")
    first = prepare_data(source=[str(source)], store=str(tmp_path / "store"))
    there = storage.open_store(s3_store_uri)
    for path in sorted((tmp_path / "set").rglob("*.*")):
        there.write(f"set/{path.relative_to(tmp_path / 'set')}", path.read_bytes())
    again = prepare_data(source=[there.at("set/annotations/a.json")], store=str(tmp_path / "store"))
    assert (first["changed"], again["changed"]) == (True, False)
    assert first["digest"] == again["digest"]
    (tmp_path / "set" / "images" / "5.png").write_bytes(picture(shade=200))
    changed = prepare_data(source=[str(source)], store=str(tmp_path / "store"))
    assert changed["digest"] != first["digest"]


def test_everything_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    value = coco(BOXES)
    value["images"][1]["id"] = 100
    value["images"][6]["file_name"] = "gone.png"
    value["annotations"] += [
        {"image_id": 9999, "category_id": 7, "bbox": [1, 1, 2, 2]},
        {"image_id": 102, "category_id": 77, "bbox": [1, 1, 2, 2]},
        {"image_id": 102, "category_id": 7, "bbox": [1, 1, -2, 2]},
        {"image_id": 102, "category_id": 7},
    ]
    source = write_coco(tmp_path / "a.json", value)
    words = said(tmp_path, source)
    for part in (
        "1) 1 boxes have a negative size",
        "1 annotations have no bbox",
        "image ids are there twice: 100 (0.png, 1.png)",
        "annotations are of images that are not listed: image_id ",
        "1 annotations have an unknown category: category_id 77 (image_id 102)",
    ):
        assert part in words
    value = coco(BOXES)
    source = write_coco(tmp_path / "b" / "b.json", value)
    for gone in (3, 5):
        (tmp_path / "b" / "images" / f"{gone}.png").unlink()
    assert f"2 of 40 pictures are not in {tmp_path / 'b' / 'images'}: 3.png, 5.png" in said(tmp_path, source)


def test_boxes_must_lie_in_their_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edges = [list(own) for own in BOXES]
    edges[1] = [[-0.5, -1, 20, 20, 7], [30, 20, 10.9, 10.9, 3]]
    fine = write_coco(tmp_path / "fine.json", coco(edges))
    first, second = every(prepared(tmp_path, fine), tmp_path / "s")[101]["rois"]
    assert [first[side] for side in ("x1", "y1", "x2", "y2")] == [0.0, 0.0, 19.5, 19.0]
    assert [second[side] for side in ("x1", "y1", "x2", "y2")] == [30.0, 20.0, 40.0, 30.0]
    edges[2] = [[30, 20, 13, 5, 7], [41, 2, 5, 5, 7], [39, 0, 3.5, 1, 3]]
    edges[3] = [[0, 0, 0, 5, 7]] * 3
    wrong = write_coco(tmp_path / "b" / "wrong.json", coco(edges))
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "b" / "images" / "9.png").write_bytes(picture(30, 40))
    (tmp_path / "b" / "images" / "10.png").write_bytes(b"no picture")
    (tmp_path / "b" / "images" / "11.png").write_bytes(picture(400, 300, kind="JPEG")[:-200])
    words = said(tmp_path, wrong)
    for part in (
        "1 files of column 'image' are missing or no pictures: " + str(tmp_path / "b" / "images" / "10.png"),
        "2 boxes reach out of their pictures by more than a pixel: 2.png (40 x 30) has 'cat' at [30, 20, 43, 25], 3 t",
        "1 boxes lie outside their pictures: 2.png (40 x 30) has 'cat' at [41, 2, 46, 7]",
        "1 pictures can't be used: 11.png can't be read (OSError: image file is truncated",
        "1 pictures have another size than the annotations say: 9.png is 30 x 40, not 40 x 30",
    ):
        assert part in words
    capsys.readouterr()
    edges[2] = []
    card = prepared(tmp_path, write_coco(tmp_path / "c" / "empty.json", coco([*edges, *[[[0, 0, 9, 0, 7]]] * 40])))
    dropped = card.schema.label_column.statistics["dropped"]["without size"]
    assert dropped == 43
    assert "label column 'rois': 43 boxes without size dropped" in capsys.readouterr().err


def test_a_turned_picture_has_the_size_that_is_seen(tmp_path: Path) -> None:
    from PIL import Image

    turn = Image.Exif()
    turn[0x0112] = 6
    source = write_coco(tmp_path / "a.json", coco(BOXES))
    (tmp_path / "images" / "1.png").write_bytes(picture(30, 40, exif=turn))
    assert sum(prepared(tmp_path, source).rows().values()) == 40
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "images" / "1.png").write_bytes(picture(40, 30, exif=turn))
    assert "1.png is 30 x 40, not 40 x 30 (its EXIF data turn it" in said(tmp_path, source)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value.pop("categories"), "it has no 'categories'"),
        (lambda value: value["categories"].append({"id": 7, "name": "cow"}), "categories share a name or an id"),
        (lambda value: value.update(annotations=[]), "there is no box in the train split"),
        (lambda value: value["images"][0].pop("file_name"), "images lack an id or a file_name"),
    ],
)
def test_what_is_no_coco(tmp_path: Path, change: Callable[[Any], Any], words: str) -> None:
    value = coco(BOXES)
    source = write_coco(tmp_path / "a.json", value)
    change(value)
    source.write_text(json.dumps(value))
    assert words in said(tmp_path, source)
    source.write_text(json.dumps(value)[:-30])
    assert "can't be read as JSON" in said(tmp_path, source)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"label": "label"}, "--label label: of COCO and VOC it is rois"),
        ({"problem_type": "binary"}, "--problem-type binary: of COCO and VOC it is object_detection"),
        ({"ignore_label": 3}, "--ignore-label: is for masks"),
        ({"column_types": {"image": "null"}}, "one column of pictures is needed and there is none"),
        ({"column_types": {"image": "boxes"}}, "only the label can be boxes"),
    ],
)
def test_what_does_not_go_with_it(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    assert words in said(tmp_path, write_coco(tmp_path / "a.json", coco(BOXES)), **more)


def test_files_agree_by_the_names_of_classes(tmp_path: Path) -> None:
    other = [{"id": 7, "name": "dog"}, {"id": 3, "name": "fox"}]
    first = write_coco(tmp_path / "a" / "a.json", coco(BOXES))
    second = write_coco(tmp_path / "b" / "b.json", coco([[[1, 1, 5, 5, 3], [1, 1, 9, 9, 7]]] * 20, categories=other))
    schema = prepared(tmp_path, first, second).schema
    assert schema.classes == ("dog", "cat", "emu", "fox")
    assert schema.label_column.statistics["category_ids"] == {"dog": 3, "cat": 7, "emu": 9, "fox": 10}


def test_a_folder_is_known_by_what_its_files_hold(tmp_path: Path) -> None:
    write_coco(tmp_path / "set" / "a.json", coco(BOXES))
    (tmp_path / "set" / "config.json").write_text('{"images": 3}')
    (tmp_path / "set" / "notes.xml").write_text("<notes/>")
    assert prepared(tmp_path, tmp_path / "set").schema.label == "rois"
    # Roboflow's exports: the table's name would be left out of any other folder.
    write_coco(tmp_path / "train" / "_annotations.coco.json", coco(BOXES), images=".")
    assert prepared(tmp_path, tmp_path / "train").schema.label == "rois"
    for n in range(40):
        (tmp_path / "folder" / str(n % 2)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / str(n % 2) / f"{n}.png").write_bytes(picture(shade=n))
    for name in ("config.json", "notes.xml"):
        shutil.copy(tmp_path / "set" / name, tmp_path / "folder" / name)
    assert prepared(tmp_path, tmp_path / "folder", label="label").schema.problem_type == "binary"


def test_real_sets(tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {"det_raccoon": (136, 151), "det_blood_cells": (130, 1760), "det_coco": (70, 600)}
    for name, (pictures, count) in expected.items():
        folder = shared_data / name / "annotations"
        card = prepared(
            tmp_path,
            folder / "instances_train.json",
            validation_source=[str(folder / "instances_val.json")],
            test_fraction=0.0,
        )
        found = every(card, tmp_path / "s")
        assert (len(found), sum(len(row["rois"]) for row in found.values())) == (pictures, count)
        assert len(card.schema.classes or ()) == {"det_raccoon": 1, "det_blood_cells": 3, "det_coco": 80}[name]
    assert "annotations have segmentation, which is not read" in capsys.readouterr().err


def test_the_command_line(carryover_cli: CarryoverCli) -> None:
    write_coco(carryover_cli.cwd / "set" / "a.json", coco(BOXES))
    ended = carryover_cli("prepare-data", "--source", "set/a.json", "--output", "out")
    assert ended.rc == 0, ended.stderr
    assert "object_detection, 3 classes, label rois" in ended.stdout
    result = json.loads((carryover_cli.cwd / "out" / "result.json").read_text())
    told = result["label_statistics"]
    assert f"boxes     {told['boxes']} in {told['count']} pictures of train, {told['missing']} without" in ended.stdout
    assert "cat: " in ended.stdout and "validation has no boxes of" in ended.stderr


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_json_is_read_in_any_pieces(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("carryover.data.json_stream.CHUNK", size)
    value = {"a": [1, -22.5, "ü漢𝄞\n", {"b": [1, [2]]}, None], "n": 12345, "e": [], "o": {"x": "y"}}
    flat = [("a", one) for one in value["a"]] + [("n", 12345), ("e", None), ("o", {"x": "y"})]
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=2)):
        assert list(items(io.BytesIO(text.encode()))) == flat
        assert list(items(io.BytesIO(b"\xef\xbb\xbf" + text.encode()))) == flat
        with pytest.raises(ValueError, match="character"):
            list(items(io.BytesIO(text.encode()[:-2])))
