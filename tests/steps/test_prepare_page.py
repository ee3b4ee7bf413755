"""The data card says what the Dataset is, of every problem, and shows text from data as text."""

from pathlib import Path
from typing import Any

import pytest

from carryover.steps.prepare_data import prepare_data
from tests.data.pictures import coco, mask, write_coco
from tests.data.support import reviews, write
from tests.data.test_masks import KIND, folder, ids


def page(tmp_path: Path, source: Path, **arguments: Any) -> str:
    prepare_data(source=[str(source)], store=str(tmp_path / "store"), output=str(tmp_path / "out"), **arguments)
    text = (tmp_path / "out" / "dataset.html").read_text()
    assert text.startswith("<!doctype html>") and "<script" not in text and "http" not in text
    return text


def test_a_table(tmp_path: Path) -> None:
    rows = [{**row, "<script>x": row["id"], "kind": f"<b>{row['kind']}"} for row in reviews(300)]
    text = page(tmp_path, write(tmp_path / "a.csv", rows), label="kind")
    for part in ("multiclass of kind", "&lt;b&gt;film", "&lt;script&gt;x", "8.0 words on average", "a.csv (300 rows)"):
        assert part in text
    number = page(tmp_path, tmp_path / "a.csv", label="<script>x", column_types={"text": "null"})
    assert "regression of &lt;script&gt;x" in number and "not used" in number


def test_boxes(tmp_path: Path) -> None:
    boxes = [[[1, 2, 10, 20, 7], [1, 1, 0, 5, 7]]] * 30 + [[]] * 30
    text = page(tmp_path, write_coco(tmp_path / "a.json", coco(boxes)))
    for part in ("object detection of rois", "of them without a box", "at most 1 in a picture", "boxes without size"):
        assert part in text


def test_masks_and_drift(tmp_path: Path) -> None:
    source = folder(tmp_path, [mask(ids(n, 0, 3, 11)) for n in range(40)])
    text = page(tmp_path, source, label="mask", problem_type=KIND, ignore_label=11)
    assert "255 (ignored)" in text and "pixels" in text and "Drift" not in text
    other = tmp_path / "other"
    other.mkdir()
    more = folder(other, [mask(ids(29, 3, 0)) for _ in range(40)])
    text = page(tmp_path, more, schema_from=str(tmp_path / "out"))
    assert "Drift" in text and "drifted" in text


@pytest.mark.parametrize("count", [1, 60])
def test_many_classes_are_cut(tmp_path: Path, count: int) -> None:
    rows = [{**row, "label": f"c{row['id'] % (count + 1):03}"} for row in reviews(600)]
    text = page(tmp_path, write(tmp_path / "a.csv", rows), label="label", problem_type="classification")
    assert ("more with fewer rows" in text) == (count == 60)
