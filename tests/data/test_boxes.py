"""Tables of boxes, and what boxes are to a schema that is followed and to a Dataset that is extended."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carryover.data.config import DataConfig, ReplayConfig
from carryover.data.manifest import SPLITS
from carryover.data.mix import training_rows
from carryover.data.rows import Rows
from carryover.ground.errors import WrongInput
from tests.data.pictures import coco, write_coco
from tests.data.support import table, write
from tests.data.test_coco import BOXES, every, prepared, said


def test_tables_of_boxes_are_the_same_dataset(tmp_path: Path) -> None:
    """AutoMM's column rois: lists in Parquet and JSONL, text in CSV, as JSON or as Python prints it."""
    card = prepared(tmp_path, write_coco(tmp_path / "a.json", coco(BOXES)))
    names = {7: "cat", 3: "dog"}
    rois = [[[x, y, x + w, y + h, names[own]] for x, y, w, h, own in boxes] for boxes in BOXES]
    expected = {bytes(row["image"][0]): row["rois"] for row in every(card, tmp_path / "s").values()}
    kinds = {"a.jsonl": rois, "a.csv": list(map(json.dumps, rois)), "b.csv": list(map(str, rois))}
    kinds["a.parquet"] = [
        [dict(zip(("x1", "y1", "x2", "y2", "class"), box, strict=True)) for box in own] for own in rois
    ]
    for name, values in kinds.items():
        rows = [{"image": f"images/{n}.png", "rois": value} for n, value in enumerate(values)]
        if name.endswith(".parquet"):
            kind = pa.struct({**dict.fromkeys(("x1", "y1", "x2", "y2"), pa.float64()), "class": pa.string()})
            pq.write_table(
                pa.Table.from_pylist(rows, pa.schema({"image": pa.string(), "rois": pa.list_(kind)})), tmp_path / name
            )
        else:
            write(tmp_path / name, rows)
        found = prepared(tmp_path, tmp_path / name, label="rois", problem_type="object_detection")
        assert (found.schema.classes, found.schema.column("image").type) == (("cat", "dog"), "image_path")
        stored = [row for split in SPLITS for row in table(found, split, tmp_path / "s").to_pylist()]
        assert {bytes(row["image"][0]): row["rois"] for row in stored} == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("cat", "row 1 has 'cat', which is no list of boxes"),
        ("[[1, 2, 3]]", r"row 1 has the box [1, 2, 3]; a box is [x1, y1, x2, y2, class]"),
        ("[[9, 2, 3, 4, 'cat']]", "which ends before it starts"),
        ('[["a", 2, 3, 4, "cat"]]', "its sides must be four numbers"),
        (None, "1 values are missing"),
    ],
)
def test_a_table_that_has_no_boxes(tmp_path: Path, value: str | None, words: str) -> None:
    write_coco(tmp_path / "a.json", coco(BOXES))
    rows = [{"image": f"images/{n}.png", "rois": "[[1, 1, 5, 5, 'cat']]" if n else value} for n in range(40)]
    source = write(tmp_path / "a.csv", rows)
    assert words in said(tmp_path, source, label="rois", problem_type="object_detection")


def test_new_data_follow_a_schema_of_boxes(tmp_path: Path) -> None:
    old = prepared(tmp_path, write_coco(tmp_path / "a" / "a.json", coco(BOXES)))
    # Another export: other ids, another order, and a new category.
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "fox"}, {"id": 3, "name": "dog"}]
    value = coco([[[1, 1, 5, 5, n % 3 + 1]] for n in range(60)], categories=names)
    source = write_coco(tmp_path / "b" / "b.json", value)
    with pytest.raises(
        WrongInput, match=r"unknown classes \(boxes\): 'fox' \(20\); the classes are 'dog', 'cat', 'emu'; "
    ):
        prepared(tmp_path, source, schema_from=old.at)
    grown = prepared(tmp_path, source, schema_from=old.at, grow_classes=True)
    assert grown.schema.classes == ("dog", "cat", "emu", "fox")
    assert (grown.lineage["grown"], grown.schema.problem_type) == (["fox"], "object_detection")
    drift = {one["column"]: one for one in grown.lineage["drift"]}
    assert drift["rois"]["word"] == "drifted" and drift["rois"]["unseen"] > 0.2
    assert "image_id" not in drift
    # A table has no ids, and follows all the same.
    rows = [{"image": f"images/{n}.png", "rois": [[1, 1, 5, 5, "cat"]]} for n in range(60)]
    table_of = prepared(tmp_path, write(tmp_path / "b" / "c.jsonl", rows), schema_from=grown.at)
    assert table_of.schema.classes == grown.schema.classes
    with pytest.raises(WrongInput, match="--problem-type binary: the problem is object_detection"):
        prepared(tmp_path, tmp_path / "b" / "c.jsonl", schema_from=grown.at, problem_type="binary")


def test_what_is_new_is_told_by_pictures_and_boxes_and_not_by_ids(tmp_path: Path) -> None:
    old = prepared(tmp_path, write_coco(tmp_path / "a" / "a.json", coco(BOXES)))
    value = coco([*BOXES[:30], *[[[1, 1, 9, 9, 9]]] * 20])
    for image in value["images"]:
        image["id"] += 7000
    for annotation in value["annotations"]:
        annotation["image_id"] += 7000
    card = prepared(tmp_path, write_coco(tmp_path / "b" / "b.json", value), schema_from=old.at)
    config = DataConfig(mode="delta", replay=ReplayConfig(0.5))
    mixture = training_rows(card, config, tmp_path / "mix", parent=old, seed=0)
    rows = Rows.open(mixture.path)
    new = rows.take(np.arange(mixture.new))
    # Ten old pictures have other boxes now, and ten are new.
    assert {box["class"] for own in new["rois"].to_pylist() for box in own} == {"emu"}
    assert 10 < mixture.new <= 20 and mixture.known == card.rows()["train"] - mixture.new
    assert mixture.replayed == int(old.rows()["train"] / 2 + 0.5)


def test_lists_are_no_label_without_their_problem(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [{"image": "a.png", "rois": [[1, 1, 5, 5, "cat"]]}] * 20)
    assert "boxes are the label of --problem-type object_detection" in said(tmp_path, source, label="rois")
    assert "hold" in said(tmp_path, source, label="rois", problem_type="semantic_segmentation")
