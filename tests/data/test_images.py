"""Images are told by opening them: files named beside the source, or bytes in a column."""

import io
from pathlib import Path

import pytest
from PIL import Image

from carryover.ground.errors import WrongInput
from tests.data.support import prepared, reviews, table, write

ROWS = reviews(60)


def picture(shade: int) -> bytes:
    sink = io.BytesIO()
    Image.new("L", (4, 4), shade).save(sink, "PNG")
    return sink.getvalue()


def test_bytes_that_open_are_images(tmp_path: Path) -> None:
    rows = [{**row, "photo": picture(row["id"])} for row in ROWS]
    card = prepared(tmp_path, write(tmp_path / "a.parquet", rows))
    assert (card.schema.column("photo").type, card.schema.column("photo").arrow) == ("image_bytes", "binary")
    found = table(card, "train", tmp_path / "s").to_pylist()
    assert all(row["photo"] == picture(row["id"]) for row in found)


def test_other_bytes_are_an_error_with_the_way_out(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", [{**row, "blob": bytes([row["id"]])} for row in ROWS])
    with pytest.raises(WrongInput, match="--column-type blob=null"):
        prepared(tmp_path, source)
    assert prepared(tmp_path, source, column_types={"blob": "null"}).schema.column("blob").type == "null"


def test_names_of_files_beside_the_source_are_images(tmp_path: Path) -> None:
    (tmp_path / "in" / "pictures").mkdir(parents=True)
    for row in ROWS[:10]:
        (tmp_path / "in" / "pictures" / f"{row['id']}.png").write_bytes(picture(row["id"]))
    rows = [{**row, "photo": f"none.jpg;pictures/{row['id'] % 10}.png", "gone": f"{row['id']}.png"} for row in ROWS]
    schema = prepared(tmp_path, write(tmp_path / "in" / "a.csv", rows)).schema
    assert (schema.column("photo").type, schema.column("gone").type) == ("image_path", "categorical")
    photo, rows_in_train = schema.column("photo"), schema.label_column.statistics["counts"]
    images = sum(rows_in_train.values())
    assert photo.statistics == {"missing": 0, "images": images, "unreadable": images, "most": 2}
