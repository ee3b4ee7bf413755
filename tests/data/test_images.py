"""Images are told by opening them: files named beside the source, or bytes in a column."""

import io
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from carryover.data import embed
from carryover.data.manifest import SPLITS, DatasetCard
from carryover.ground import storage
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
    assert photo.statistics == {"missing": 0, "count": images, "images": images, "unreadable": images, "most": 2}


def named(tmp_path: Path) -> Path:
    """Write 60 rows that name one, two or no images, beside them or by a path of their own."""
    (tmp_path / "in" / "p").mkdir(parents=True)
    for row in ROWS:
        for letter in "ab":
            (tmp_path / "in" / "p" / f"{row['id']}{letter}.png").write_bytes(picture(row["id"] + ord(letter)))
    (tmp_path / "in" / "p" / "no image.png").write_bytes(b"\x89PNG but not really")

    def value(row: int) -> str:
        kinds = [f"p/{row}a.png", f"p/{row}a.png; {tmp_path}/in/p/{row}b.png", f"p/gone{row}.png;p/{row}b.png", ""]
        return "p/no image.png" if row == 7 else kinds[row % 4]

    return write(tmp_path / "in" / "a.csv", [{**row, "photo": value(row["id"])} for row in ROWS])


def test_named_images_are_in_the_dataset_byte_for_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = prepared(tmp_path, named(tmp_path), column_types={"photo": "image_path"})
    a, b = ({row["id"]: picture(row["id"] + ord(letter)) for row in ROWS} for letter in "ab")
    seen = 0
    for split in ("train", "validation", "test"):
        for row in table(card, split, tmp_path / "s").to_pylist():
            number, seen = row["id"], seen + 1
            want = [[a[number]], [a[number], b[number]], [None, b[number]], None][number % 4]
            assert row["photo"] == ([None] if number == 7 else want)
    assert seen == 60
    said = capsys.readouterr().err
    assert "column 'photo': 16 of 76 images are missing or cannot be read: " in said
    assert "gone2.png" in said
    found = card.schema.column("photo")
    assert (found.type, found.arrow, found.statistics["most"]) == ("image_path", "list<binary>", 2)
    # Nothing is read of the images' folder any more.
    shutil.rmtree(tmp_path / "in")
    assert table(card, "train", tmp_path / "again").num_rows == card.rows()["train"]


def test_the_digest_is_of_the_images_and_not_of_how_rows_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = named(tmp_path)
    for path in (tmp_path / "in").rglob("*"):
        os.utime(path, (1e9, 1e9))
    arguments: dict[str, Any] = {"column_types": {"photo": "image_path"}}
    first = prepared(tmp_path, source, **arguments)
    monkeypatch.setattr(embed, "PIECE_BYTES", 200)
    monkeypatch.setattr(embed, "AHEAD", 3)
    cut = prepared(tmp_path, source, **arguments, store=str(tmp_path / "other"))
    assert (cut.digest, cut.splits) == (first.digest, first.splits)
    capsys.readouterr()
    assert prepared(tmp_path, source, **arguments).digest == first.digest
    assert "source unchanged" in capsys.readouterr().err
    # The table is the same, an image that it names is not.
    photo = tmp_path / "in" / "p" / "4a.png"
    photo.write_bytes(picture(99))
    os.utime(photo, (2e9, 2e9))
    assert prepared(tmp_path, source, **arguments).digest != first.digest
    assert "source unchanged" not in capsys.readouterr().err


def places(card: DatasetCard, scratch: Path) -> dict[bytes, str]:
    """Return image -> the split it is in."""
    found = {split: table(card, split, scratch)["image"].to_pylist() for split in SPLITS}
    return {images[0]: split for split, rows in found.items() for images in rows}


def test_a_folder_of_images_has_its_folders_as_classes(tmp_path: Path, s3_store_uri: str) -> None:
    for row in ROWS:
        path = tmp_path / "in" / ("hat" if row["id"] % 3 else "dress") / f"{row['id']}.PNG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(row["id"]))
        storage.open_store(s3_store_uri).write(f"in/{path.parent.name}/{path.name}", picture(row["id"]))
    (tmp_path / "in" / "hat" / "notes.txt").write_text("no image")
    card = prepared(tmp_path, tmp_path / "in")
    assert (card.schema.classes, card.schema.column("image").type) == (("dress", "hat"), "image_path")
    assert sum(card.rows().values()) == 60
    assert prepared(tmp_path, f"{s3_store_uri}/in", store=s3_store_uri).digest == card.digest
    before = places(card, tmp_path / "s")
    # Putting images into another class moves none to another split.
    for row in ROWS[:9]:
        name = f"{row['id']}.PNG"
        if (tmp_path / "in" / "hat" / name).exists():
            (tmp_path / "in" / "hat" / name).rename(tmp_path / "in" / "dress" / name)
    after = prepared(tmp_path, tmp_path / "in")
    assert after.digest != card.digest
    assert places(after, tmp_path / "t") == before


def test_a_folder_without_anything_to_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    with pytest.raises(WrongInput, match="no file found there"):
        prepared(tmp_path, tmp_path / "in")


def test_images_as_other_libraries_keep_them(tmp_path: Path) -> None:
    one = [{"bytes": picture(row["id"]), "path": None} for row in ROWS]
    several = [[picture(row["id"] + more) for more in range(row["id"] % 3)] or None for row in ROWS]
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    source = pa.table({**columns, "photo": pa.array(one, struct), "photos": pa.array(several, pa.list_(pa.binary()))})
    pq.write_table(source, tmp_path / "a.parquet")
    card = prepared(tmp_path, tmp_path / "a.parquet")
    kinds = {name: (card.schema.column(name).type, card.schema.column(name).arrow) for name in ("photo", "photos")}
    assert kinds == {"photo": ("image_bytes", "binary"), "photos": ("image_bytes", "list<binary>")}
    found = {row["id"]: row for split in SPLITS for row in table(card, split, tmp_path / "s").to_pylist()}
    assert len(found) == 60
    assert all(found[row]["photo"] == one[row]["bytes"] and found[row]["photos"] == several[row] for row in range(60))
