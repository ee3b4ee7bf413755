"""Pascal VOC's folders become the same rows as COCO's JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from carryover.data.manifest import SPLITS, DatasetCard, load_card
from carryover.ground import storage
from carryover.ground.errors import WrongInput
from carryover.steps.prepare_data import prepare_data
from tests.data.pictures import picture
from tests.data.support import splits, table

CAT = "<object><name>cat</name><difficult>0</difficult>{box}</object>"
DOG = "<object><name>dog</name><difficult>1</difficult>{box}</object>"
BOX = "<bndbox><xmin>1</xmin><ymin>3</ymin><xmax>40</xmax><ymax>20</ymax></bndbox>"
SIZE = "<size><width>40</width><height>30</height></size>"


def xml(name: str, *objects: str, size: str = SIZE) -> str:
    return (
        f"<annotation><filename>{name}</filename>{size}{''.join(one.format(box=BOX) for one in objects)}</annotation>"
    )


def root(tmp_path: Path, count: int = 40) -> Path:
    """Write a VOC root; every fourth picture has no object."""
    folder = tmp_path / "VOC2012"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for n in range(count):
        objects = () if n % 4 == 0 else (CAT, DOG)
        (folder / "Annotations" / f"2008_{n:06}.xml").write_text(xml(f"2008_{n:06}.jpg", *objects))
        (folder / "JPEGImages" / f"2008_{n:06}.jpg").write_bytes(picture(shade=n, kind="JPEG"))
    return folder


def listed(folder: Path, **lists: Sequence[int]) -> None:
    for name, numbers in lists.items():
        text = "".join(f"2008_{n:06}  1\n" for n in numbers)
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


def prepared(tmp_path: Path, source: Path | str, **arguments: Any) -> DatasetCard:
    arguments = {"store": str(tmp_path / "store"), **arguments}
    return load_card(prepare_data(source=[str(source)], **arguments)["uri"])


def test_a_root_without_lists_is_split_by_the_names_of_its_pictures(tmp_path: Path) -> None:
    folder = root(tmp_path)
    card = prepared(tmp_path, folder)
    assert (card.schema.problem_type, card.schema.classes) == ("object_detection", ("cat", "dog"))
    assert card.schema.column("image_id").arrow == "string"
    assert card.schema.label_column.statistics["category_ids"] == {"cat": 1, "dog": 2}
    rows = {row["image_id"]: row for split in SPLITS for row in table(card, split, tmp_path / "s").to_pylist()}
    cat, dog = rows["2008_000001"]["rois"]
    # VOC counts from 1, its last pixel is inside; what is difficult is no fault, as a crowd is not.
    assert cat == {"x1": 0.0, "y1": 2.0, "x2": 40.0, "y2": 20.0, "class": "cat", "crowd": False}
    assert (dog["class"], dog["crowd"]) == ("dog", True)
    assert (rows["2008_000004"]["rois"], rows["2008_000004"]["image"]) == ([], [picture(shade=4, kind="JPEG")])
    for other in (folder / "Annotations", folder / "Annotations" / "*.xml"):
        assert prepared(tmp_path, other).digest == card.digest


def test_a_root_with_lists_is_split_by_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root(tmp_path)
    listed(folder, train=range(20), val=range(20, 30), test=range(30, 40), trainval=range(30))
    card = prepared(tmp_path, folder)
    assert card.rows() == {"train": 20, "validation": 10, "test": 10}
    assert "splits by train.txt, val.txt, test.txt of ImageSets/Main" in capsys.readouterr().err
    assert splits(card, tmp_path / "s", "image_id")["2008_000025"] == "validation"
    again = prepare_data(source=[str(folder)], store=str(tmp_path / "store"))
    assert (again["digest"], again["changed"]) == (card.digest, False)
    # A list can be named itself, and what is named comes before what the root has.
    lists = folder / "ImageSets" / "Main"
    named = prepared(tmp_path, lists / "trainval.txt", validation_source=[str(lists / "test.txt")], test_fraction=0.0)
    assert named.rows() == {"train": 30, "validation": 10, "test": 0}
    other = prepared(tmp_path, folder, validation_source=[str(lists / "test.txt")])
    assert other.rows() == {"train": 20, "validation": 10, "test": 10}


def test_a_root_in_an_object_store_is_the_same_dataset(tmp_path: Path, s3_store_uri: str) -> None:
    folder = root(tmp_path, count=24)
    listed(folder, train=range(16), val=range(16, 24))
    there = storage.open_store(s3_store_uri)
    for path in sorted(folder.rglob("*.*")):
        there.write(f"VOC2012/{path.relative_to(folder)}", path.read_bytes())
    card = prepared(tmp_path, folder, train_fraction=0.9, test_fraction=0.0)
    assert card.rows() == {"train": 16, "validation": 8, "test": 0}
    for source in ("VOC2012", "VOC2012/Annotations", "VOC2012/Annotations/*.xml"):
        found = prepared(tmp_path, there.at(source), train_fraction=0.9, test_fraction=0.0)
        assert (found.digest == card.digest) == (source == "VOC2012")
        assert sum(found.rows().values()) == 24


def test_a_test_list_whose_annotations_are_kept_back_is_left_alone(tmp_path: Path) -> None:
    folder = root(tmp_path)
    listed(folder, train=range(20), val=range(20, 40), test=range(100, 140))
    assert prepared(tmp_path, folder).rows()["validation"] == 20
    listed(folder, val=range(20, 50))
    with pytest.raises(WrongInput, match=r"val.txt: 10 of 30 names have no file in .*: 2008_000040, 2008_000041"):
        prepared(tmp_path, folder)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    folder = root(tmp_path)
    (folder / "Annotations" / "2008_000001.xml").write_text("<annotation><object>")
    (folder / "Annotations" / "2008_000002.xml").write_text("<annotation></annotation>")
    (folder / "Annotations" / "2008_000003.xml").write_text(xml("2008_000003.jpg", "<object><name>cat</name></object>"))
    (folder / "JPEGImages" / "2008_000005.jpg").unlink()
    with pytest.raises(WrongInput) as caught:
        prepared(tmp_path, folder)
    for part in (
        "1) 1 files are no XML: 2008_000001.xml",
        "2) 1 files have no <filename>: 2008_000002.xml",
        "3) 1 files have an <object> without <name> or <bndbox> of four numbers: 2008_000003.xml",
        f"4) 1 of 37 pictures are not in {folder / 'JPEGImages'}: 2008_000005.jpg",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_are_held_against_the_pictures(tmp_path: Path) -> None:
    folder = root(tmp_path)
    size = "<size><width>400</width><height>300</height></size>"
    (folder / "Annotations" / "2008_000001.xml").write_text(xml("2008_000001.jpg", CAT, size=size))
    with pytest.raises(WrongInput, match=r"2008_000001.jpg is 40 x 30, not 400 x 300"):
        prepared(tmp_path, folder)
    # Some tools write no size, or none that is one.
    for none in ("", "<size><width>0</width><height>0</height></size>"):
        (folder / "Annotations" / "2008_000001.xml").write_text(xml("2008_000001.jpg", CAT, size=none))
        assert sum(prepared(tmp_path, folder).rows().values()) == 40
