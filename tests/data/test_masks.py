"""Masks become PNGs of class ids, each of its picture's size, or one error that says which are not."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carryover.data.manifest import SPLITS, DatasetCard, load_card
from carryover.ground.errors import WrongInput
from carryover.steps.prepare_data import prepare_data
from tests.data.pictures import mask, picture
from tests.data.support import table, write

KIND = "semantic_segmentation"


def ids(n: int, *values: int) -> np.ndarray:
    """Return a mask of 40 x 30: n + 1 columns of the first value, then one of the others, by turns."""
    found = np.full((30, 40), values[1 + n % (len(values) - 1)], np.uint8)
    found[:, : n % 30 + 1] = values[0]
    return found


def folder(tmp_path: Path, masks: list[bytes], *, ending: str = "csv") -> Path:
    """Write pictures, masks and the table that names them."""
    rows = []
    for n, data in enumerate(masks):
        for kind, content in (("images", picture(shade=n)), ("masks", data)):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / f"{n}.png").write_bytes(content)
        rows.append({"image": f"images/{n}.png", "mask": f"masks/{n}.png"})
    return write(tmp_path / f"a.{ending}", rows)


def prepared(tmp_path: Path, source: Path, **arguments: Any) -> DatasetCard:
    arguments = {"store": str(tmp_path / "store"), "label": "mask", "problem_type": KIND, **arguments}
    return load_card(prepare_data(source=[str(source)], **arguments)["uri"])


def stored(card: DatasetCard, scratch: Path) -> dict[bytes, np.ndarray]:
    """Return picture -> the ids of its mask, as they are stored."""
    found = {}
    for row in (row for split in SPLITS for row in table(card, split, scratch).to_pylist()):
        with Image.open(io.BytesIO(row["mask"])) as image:
            assert (image.format, image.mode) == ("PNG", "L")
            found[bytes(row["image"][0])] = np.asarray(image)
    return found


def test_masks_are_stored_as_ids(tmp_path: Path) -> None:
    values = [ids(n, 0, 3, 7, 255) for n in range(40)]
    coloured = io.BytesIO()
    Image.fromarray(np.stack([values[3]] * 3, axis=-1)).save(coloured, "PNG")
    written = [mask(value, palette=n == 2) for n, value in enumerate(values)]
    written[3] = coloured.getvalue()
    card = prepared(tmp_path, folder(tmp_path, written))
    schema = card.schema
    assert (schema.problem_type, schema.classes) == (KIND, (0, 3, 7))
    assert [(column.name, column.type) for column in schema.columns] == [("image", "image_path"), ("mask", "mask")]
    assert [column.name for column in schema.features()] == ["image"]
    found = stored(card, tmp_path / "s")
    assert all((found[picture(shade=n)] == value).all() for n, value in enumerate(values))
    told = schema.label_column.statistics
    assert (told["count"], told["missing"], told["renamed"]) == (card.rows()["train"], 0, {})
    assert sum(told["pixels"].values()) == card.rows()["train"] * 1200
    assert set(told["pixels"]) == {"0", "3", "7", "255"}
    # The type alone says the problem; masks in the table itself are the same masks, and the same Dataset.
    other = prepared(tmp_path, folder(tmp_path, written), problem_type="", column_types={"mask": "mask"})
    assert other.digest == card.digest
    rows = [{"image": f"images/{n}.png", "mask": data} for n, data in enumerate(written)]
    inside = prepared(tmp_path, write(tmp_path / "b.parquet", rows))
    assert {name: value.tobytes() for name, value in stored(inside, tmp_path / "s").items()} == {
        name: value.tobytes() for name, value in found.items()
    }


def test_the_id_to_ignore_is_stored_as_255(tmp_path: Path) -> None:
    values = [ids(n, 0, 3, 11) for n in range(40)]
    card = prepared(tmp_path, folder(tmp_path, list(map(mask, values))), ignore_label=11)
    assert card.schema.classes == (0, 3)
    assert card.schema.label_column.statistics["renamed"] == {"11": 255}
    found = stored(card, tmp_path / "s")
    for n, value in enumerate(values):
        assert (found[picture(shade=n)] == np.where(value == 11, 255, value)).all()


def test_masks_of_0_and_255_are_binary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [ids(n, 255, 0) for n in range(40)]
    source = folder(tmp_path, list(map(mask, values)))
    card = prepared(tmp_path, source)
    assert card.schema.classes == (0, 1)
    assert "masks have 0 and 255 only: 255 is stored as class 1" in capsys.readouterr().err
    assert set(card.schema.label_column.statistics["pixels"]) == {"0", "1"}
    # Whoever follows means the same by 255, even where it stands alone.
    more = tmp_path / "more"
    more.mkdir()
    alone = folder(more, [mask(np.full((30, 40), 255))] * 40)
    follows = prepared(tmp_path, alone, schema_from=card.at, label="", problem_type="")
    assert set(follows.schema.label_column.statistics["pixels"]) == {"1"}
    assert follows.lineage["drift"][0]["column"] == "mask" and follows.lineage["drift"][0]["word"] == "drifted"
    with pytest.raises(WrongInput, match="--ignore-label 255: not so in the schema"):
        prepared(tmp_path, alone, schema_from=card.at, ignore_label=255)
    with pytest.raises(WrongInput, match="masks have one class only"):
        prepared(tmp_path, source, ignore_label=255)


def test_new_ids_do_not_fit_a_schema(tmp_path: Path) -> None:
    card = prepared(tmp_path, folder(tmp_path, [mask(ids(n, 0, 3, 11)) for n in range(40)]), ignore_label=11)
    other = tmp_path / "other"
    other.mkdir()
    source = folder(other, [mask(ids(n, 0, 4, 11)) for n in range(40)])
    for grow in (False, True):
        with pytest.raises(WrongInput, match=r"unknown classes \(pixels\): '4' .*the classes are 0, 3; a mask's can't"):
            prepared(tmp_path, source, schema_from=card.at, grow_classes=grow)
    with pytest.raises(WrongInput, match=r"classes that --source lacks \(pixels\): '4'"):
        prepared(tmp_path, tmp_path / "a.csv", validation_source=[str(source)])


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    good = [mask(ids(n, 0, 3, 7)) for n in range(40)]
    wide = io.BytesIO()
    Image.fromarray(np.full((30, 40), 300, np.uint16)).save(wide, "PNG")
    wrong = [b"nothing", picture(shade=9), picture(kind="JPEG"), wide.getvalue()]
    with pytest.raises(WrongInput) as caught:
        prepared(tmp_path, folder(tmp_path, [*wrong, *good]))
    text = str(caught.value)
    assert "4 masks can't be used: " in text
    assert "a.csv row 1: masks/0.png is missing or no picture" in text
    assert "row 2: masks/1.png has colours" in text
    assert "row 3: masks/2.png is JPEG, which does not keep ids" in text
    with pytest.raises(WrongInput, match=r"masks/0.png has the id 300; ids are 0 to 255"):
        prepared(tmp_path, folder(tmp_path, [*wrong[3:], *good]))
    source = folder(tmp_path, [mask(np.zeros((40, 30))), *good])
    (tmp_path / "images" / "5.png").unlink()
    with pytest.raises(WrongInput) as caught:
        prepared(tmp_path, source)
    assert "images/0.png is 40 x 30, its mask 30 x 40" in str(caught.value)
    assert "1 files of column 'image' are missing or no pictures" in str(caught.value)


def test_a_row_without_a_mask_is_an_error(tmp_path: Path) -> None:
    source = folder(tmp_path, [mask(ids(n, 0, 3, 7)) for n in range(40)])
    source.write_text(source.read_text().replace("masks/3.png", ""))
    with pytest.raises(WrongInput, match=r"label column 'mask': 1 values are missing .*row 4"):
        prepared(tmp_path, source)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ignore_label": 256}, "--ignore-label: 256 is not possible"),
        ({"ignore_label": 1, "problem_type": ""}, "--ignore-label: is for masks"),
        ({"label": "image"}, r"label column 'image': 19 masks can't be used: .*has colours"),
        ({"column_types": {"mask": "text"}}, "--column-type mask=text does not suit"),
        ({"column_types": {"mask": "boxes"}}, "does not suit"),
        ({"image_root": "x"}, "--image-root x: is for COCO and VOC"),
    ],
)
def test_what_does_not_go_with_it(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    source = folder(tmp_path, [mask(ids(n, 0, 3, 7)) for n in range(20)])
    with pytest.raises(WrongInput, match=words):
        prepared(tmp_path, source, **more)


def test_a_real_set(tmp_path: Path, shared_data: Path) -> None:
    import csv

    with open(shared_data / "seg_camvid" / "index.csv") as file:
        index = list(csv.DictReader(file))
    for split in ("train", "val"):
        rows = [
            {kind: str(shared_data / "seg_camvid" / row[kind]) for kind in ("image", "mask")}
            for row in index
            if row["split"] == split
        ]
        write(tmp_path / f"{split}.csv", rows)
    card = prepared(
        tmp_path,
        tmp_path / "train.csv",
        validation_source=[str(tmp_path / "val.csv")],
        test_fraction=0.0,
        ignore_label=11,
    )
    assert (card.rows(), card.schema.classes) == ({"train": 80, "validation": 25, "test": 0}, tuple(range(11)))
    assert card.schema.label_column.statistics["pixels"]["255"] > 0
