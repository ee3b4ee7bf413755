"""prepare-data: one dataset for one content, whatever the files; nothing half written counts; errors are one line."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from carryover.data import readers
from carryover.data.manifest import CARD, load_card
from carryover.ground import storage
from carryover.ground.errors import WrongInput
from carryover.steps.prepare_data import prepare_data
from tests.conftest import CarryoverCli
from tests.data.support import prepared, reviews, splits, table, write
from tests.support.last_words import error_of

ROWS = reviews(300)


def test_types_classes_and_statistics(tmp_path: Path) -> None:
    card = prepared(tmp_path, write(tmp_path / "a.csv", ROWS))
    schema = card.schema
    assert {column.name: (column.type, column.arrow) for column in schema.columns} == {
        "id": ("numerical", "int64"),
        "text": ("text", "string"),
        "price": ("numerical", "double"),
        "kind": ("categorical", "string"),
        "label": ("categorical", "string"),
    }
    assert (schema.problem_type, schema.classes) == ("binary", ("bad", "good"))
    assert [column.name for column in schema.features("numerical")] == ["id", "price"]
    train = table(card, "train", tmp_path / "s").to_pylist()
    prices = np.array([row["price"] for row in train if row["price"] is not None])
    found = schema.column("price").statistics
    assert found["count"] == len(prices)
    assert found["missing"] == len(train) - len(prices) > 0
    assert np.allclose(
        [found[key] for key in ("mean", "std", "min", "max")], [f(prices) for f in (np.mean, np.std, min, max)]
    )
    kinds = schema.column("kind").statistics
    assert kinds["counts"] == {kind: sum(row["kind"] == kind for row in train) for kind in ("book", "film", "song")}
    assert (kinds["distinct"], kinds["exact"], kinds["missing"]) == (3, True, 0)
    assert schema.column("text").statistics["mean_words"] == 8
    assert schema.column("text").statistics["max_chars"] == max(len(row["text"]) for row in train)


def test_order_and_missing_values_are_those_of_the_source(tmp_path: Path) -> None:
    card = prepared(tmp_path, write(tmp_path / "a.parquet", ROWS))
    by_id = {row["id"]: row for row in ROWS}
    for split in ("train", "validation", "test"):
        found = table(card, split, tmp_path / "s").to_pylist()
        assert [row["id"] for row in found] == sorted(row["id"] for row in found)
        assert found == [by_id[row["id"]] for row in found]


def test_the_digest_is_of_the_content_not_of_files_or_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prepared(tmp_path, write(tmp_path / "a.csv", ROWS)).digest
    for ending in ("tsv", "jsonl", "parquet"):
        assert prepared(tmp_path, write(tmp_path / f"b.{ending}", ROWS)).digest == expected
    for part in range(3):
        write(tmp_path / "parts" / f"{part}.csv", ROWS[part * 100 : part * 100 + 100])
    assert prepared(tmp_path, tmp_path / "parts").digest == expected
    assert prepared(tmp_path, *(tmp_path / "parts" / f"{part}.csv" for part in range(3))).digest == expected
    monkeypatch.setattr(readers, "BATCH_BYTES", 700)
    monkeypatch.setattr(readers, "CSV_BLOCK_BYTES", 700)
    monkeypatch.setattr(readers, "JSON_ROWS", 7)
    for ending in ("csv", "jsonl", "parquet"):
        card = prepared(
            tmp_path, tmp_path / f"{'a' if ending == 'csv' else 'b'}.{ending}", store=str(tmp_path / ending)
        )
        assert card.digest == expected
        assert card.splits == prepared(tmp_path, tmp_path / "a.csv").splits


@pytest.mark.parametrize("what", ["value", "missing", "order", "name", "type", "label", "column order"])
def test_another_content_has_another_digest(tmp_path: Path, what: str) -> None:
    before = prepared(tmp_path, write(tmp_path / "a.jsonl", ROWS)).digest
    rows = [dict(row) for row in ROWS]
    arguments: dict = {}
    if what == "value":
        rows[5]["text"] += " x"
    elif what == "missing":
        rows[5]["price"] = None
    elif what == "order":
        rows = rows[::-1]
    elif what == "name":
        rows = [{"title" if name == "text" else name: value for name, value in row.items()} for row in rows]
    elif what == "type":
        arguments = {"column_types": {"kind": "text"}}
    elif what == "label":
        rows[5]["label"] = "good" if rows[5]["label"] == "bad" else "bad"
    else:
        rows = [dict(reversed(row.items())) for row in rows]
    assert prepared(tmp_path, write(tmp_path / "b.jsonl", rows), **arguments).digest != before


def test_the_same_content_is_not_written_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "store")
    source = write(tmp_path / "a.csv", ROWS)
    first = prepare_data(source=[str(source)], label="label", store=store)
    files = {path: path.stat().st_mtime_ns for path in Path(first["uri"]).iterdir()}
    again = prepare_data(source=[str(write(tmp_path / "b.parquet", ROWS))], label="label", store=store)
    assert (first["changed"], again["changed"], again["uri"]) == (True, False, first["uri"])
    assert {path: path.stat().st_mtime_ns for path in Path(first["uri"]).iterdir()} == files
    # Only a file that has rested may be known by its fingerprint alone.
    assert "source unchanged" not in capsys.readouterr().err
    old = time.time() - 60
    os.utime(source, (old, old))
    prepare_data(source=[str(source)], label="label", store=store)
    assert prepare_data(source=[str(source)], label="label", store=store)["changed"] is False
    assert "source unchanged" in capsys.readouterr().err
    write(source, ROWS[:-1])
    assert prepare_data(source=[str(source)], label="label", store=store)["changed"] is True


def test_a_dataset_without_its_card_or_shards_is_none_and_is_written_again(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", ROWS)
    os.utime(source, (1e9, 1e9))
    card = prepared(tmp_path, source)
    for name in (CARD, "validation-00000.parquet"):
        (Path(card.at) / name).unlink()
        with pytest.raises(WrongInput, match=r"no dataset there|are missing"):
            load_card(card.at)
        assert prepared(tmp_path, source).digest == card.digest
    (Path(card.at) / CARD).write_text('{"kind": "dataset"')
    with pytest.raises(WrongInput, match="is not a whole dataset card"):
        load_card(card.at)
    assert prepared(tmp_path, source) == load_card(card.at)


def test_a_moved_dataset_and_an_artifact_open(tmp_path: Path) -> None:
    card = prepared(tmp_path, write(tmp_path / "a.csv", ROWS), output=str(tmp_path / "artifact"))
    there = sorted(path.name for path in (tmp_path / "artifact").iterdir())
    assert there == ["dataset.html", "dataset.json", "result.json"]
    from_artifact = load_card(str(tmp_path / "artifact"))
    assert (from_artifact.location, from_artifact.digest) == (card.at, card.digest)
    assert load_card(card.at + "/dataset.json") == card
    shutil.move(card.at, tmp_path / "moved")
    moved = load_card(str(tmp_path / "moved"))
    assert moved.location == str(tmp_path / "moved")
    assert table(moved, "test", tmp_path / "s").num_rows == card.rows()["test"]
    with pytest.raises(WrongInput, match="no dataset there"):
        load_card(str(tmp_path / "artifact"))


def test_given_validation_and_test_sources_are_those_splits(tmp_path: Path) -> None:
    parts = {
        name: write(tmp_path / f"{name}.csv", rows)
        for name, rows in {"a": ROWS[:200], "b": ROWS[200:250], "c": ROWS[250:]}.items()
    }
    card = prepared(tmp_path, parts["a"], validation_source=[str(parts["b"])])
    found = splits(card, tmp_path / "s")
    assert {found[number] for number in range(200, 250)} == {"validation"}
    assert {found[number] for number in range(200)} == {"train", "test"}
    both = prepared(tmp_path, parts["a"], validation_source=[str(parts["b"])], test_source=[str(parts["c"])])
    assert both.rows() == {"train": 200, "validation": 50, "test": 50}


def test_given_types_win(tmp_path: Path) -> None:
    types = {"id": "categorical", "kind": "text", "text": "null"}
    card = prepared(tmp_path, write(tmp_path / "a.csv", ROWS), column_types=types, problem_type="classification")
    assert {column.name: column.type for column in card.schema.columns} == {
        "id": "categorical",
        "text": "null",
        "price": "numerical",
        "kind": "text",
        "label": "categorical",
    }
    assert table(card, "train", tmp_path / "s").column_names == ["id", "price", "kind", "label"]


def test_labels_keep_their_type(tmp_path: Path) -> None:
    for values, classes in (((0, 1), (0, 1)), ((True, False), (False, True)), ((1.5, 2.5), (1.5, 2.5))):
        rows = [{**row, "label": values[row["label"] == "good"]} for row in ROWS]
        for ending in ("csv", "jsonl", "parquet"):
            card = prepared(tmp_path, write(tmp_path / f"a.{ending}", rows))
            assert card.schema.classes == classes
            assert [type(value) for value in card.schema.classes or ()] == [type(value) for value in classes]


def test_leading_zeros_are_kept_in_categories_and_text(tmp_path: Path) -> None:
    rows = [{**row, "kind": f"0{row['id'] % 5}"} for row in ROWS]
    card = prepared(tmp_path, write(tmp_path / "a.csv", rows))
    assert set(table(card, "train", tmp_path / "s")["kind"].to_pylist()) == {f"0{digit}" for digit in range(5)}


def test_stores_that_are_not_a_disk(tmp_path: Path, s3_store_uri: str) -> None:
    source = write(tmp_path / "a.csv", ROWS)
    cards = [prepared(tmp_path, source, store=store) for store in (s3_store_uri, "memory://store-of-data-test")]
    storage.open_store(s3_store_uri).upload(source, "in/a.csv")
    from_s3 = [prepared(tmp_path, f"{s3_store_uri}/in/*.csv", store=s3_store_uri) for _ in range(2)]
    expected = prepared(tmp_path, source)
    for card in (*cards, *from_s3):
        assert (card.digest, card.splits) == (expected.digest, expected.splits)
        assert table(card, "train", tmp_path / card.at.replace("/", "_")).num_rows == card.rows()["train"]


MISSING = [{**row, "label": None if row["id"] in (3, 7) else row["label"]} for row in ROWS]
NAN_LABEL = [{**row, "label": "inf" if row["id"] == 9 else row["id"] / 7} for row in ROWS]


@pytest.mark.parametrize(
    ("files", "flags", "words"),
    [
        ({"a.csv": ROWS}, ["--label", "lable"], "there is no column 'lable'; did you mean 'label'?"),
        ({"a.csv": MISSING}, [], "label column 'label' has 2 missing values (a.csv rows 4, 8)"),
        ({"a.jsonl": MISSING}, [], "label column 'label' has 2 missing values (a.jsonl rows 4, 8)"),
        ({"a.csv": NAN_LABEL}, [], "column 'label' is infinite in row 10"),
        ({"a.csv": [{**row, "label": "x"} for row in ROWS]}, [], "only one value, 'x'"),
        ({"a.csv": ROWS, "b.csv": [{"text": "x", "label": "bad"}]}, [], "it lacks 'id', 'price', 'kind'"),
        ({"a.csv": ROWS, "b.jsonl": [{**ROWS[0], "more": 1}]}, [], "it has 'more' besides"),
        ({"a.csv": ROWS}, ["--problem-type", "regression"], "not all numbers"),
        ({"a.csv": ROWS}, ["--problem-type", "binry"], "did you mean 'binary'?"),
        ({"a.csv": ROWS}, ["--column-type", "text=txt"], "did you mean 'text'?"),
        ({"a.csv": ROWS}, ["--column-type", "txt=null"], "there is no column 'txt'; did you mean 'text'?"),
        ({"a.csv": ROWS}, ["--column-type", "text"], "must be COLUMN=TYPE"),
        ({"a.csv": ROWS}, ["--column-type", "text=numerical"], "a.csv row 1 has"),
        ({"a.csv": ROWS}, ["--validation-fraction", "0.5"], "must be 1 together"),
        ({"a.csv": ROWS[:3]}, [], "the validation split is empty (3 rows in the source)"),
        ({"a.csv": [{"label": "x"}, {"label": "y"}]}, [], "no column to learn from besides the label"),
        ({"a.csv": [{"label": row["label"], "x": 1, "y": None} for row in ROWS]}, [], "is empty (300 rows"),
        ({"a.csv": ROWS}, ["--store", "/proc/nowhere"], "can't be written"),
        ({"a.csv": ROWS}, ["--source", "none.csv"], "no file found"),
        ({"a.csv": ROWS}, ["--source", "ftp://x/y.csv"], "scheme 'ftp' is not supported"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    carryover_cli: CarryoverCli, files: dict[str, list], flags: list[str], words: str
) -> None:
    for name, rows in files.items():
        write(carryover_cli.cwd / name, rows)
    sources = [flag for name in files for flag in ("--source", name)]
    ended = carryover_cli("prepare-data", "--store", "st", "--label", "label", *sources, *flags)
    error = error_of(ended.stderr).replace(f"{carryover_cli.cwd}/", "")
    assert (ended.rc, ended.stdout) == (2, "")
    assert error.startswith("error: ")
    assert words in error
    assert "Traceback" not in ended.stderr
    assert not list(carryover_cli.cwd.glob("st/datasets/*/dataset.json"))


def test_classes_that_train_lacks_are_listed_with_their_rows(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", ROWS[:200])
    other = write(tmp_path / "b.csv", [{**row, "label": "ugly"} for row in ROWS[200:212]] + ROWS[212:220])
    for flag in ("validation", "test"):
        with pytest.raises(
            WrongInput, match=rf"the given {flag} source has classes that train lacks: 'ugly' \(12 rows\)"
        ):
            prepared(tmp_path, source, label="label", **{f"{flag}_source": [str(other)]})


def test_an_empty_test_split_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "a.csv", ROWS)
    card = prepared(tmp_path, source, train_fraction=0.8, validation_fraction=0.2, test_fraction=0.0)
    assert card.rows()["test"] == 0
    assert table(card, "test", tmp_path / "s").num_rows == 0
    assert "the test split is empty" in capsys.readouterr().err


def test_results_are_left_for_argo_and_people(carryover_cli: CarryoverCli) -> None:
    write(carryover_cli.cwd / "a.csv", ROWS)
    ended = carryover_cli(
        *("prepare-data", "--source", "a.csv", "--label", "label"), *("--output", "out", "--outputs-dir", "outs")
    )
    assert ended.rc == 0, ended.stderr
    result = json.loads((carryover_cli.cwd / "out" / "result.json").read_text())
    assert result["uri"] == (carryover_cli.cwd / "outs" / "uri").read_text()
    assert result["rows"]["train"] + result["rows"]["validation"] + result["rows"]["test"] == 300
    assert (carryover_cli.cwd / "outs" / "changed").read_text() == "true"
    assert f"uri       {result['uri']}" in ended.stdout
    assert ".carryover" in ended.stderr


def test_truth_values_among_numbers_are_numbers(tmp_path: Path) -> None:
    rows = [{**row, "price": ("true", "2", "1.5", "False")[row["id"] % 4]} for row in ROWS]
    card = prepared(tmp_path, write(tmp_path / "a.csv", rows), column_types={"price": "numerical"})
    found = table(card, "train", tmp_path / "s")
    pairs = zip(found["id"].to_pylist(), found["price"].to_pylist(), strict=True)
    assert all(price == (1.0, 2.0, 1.5, 0.0)[number % 4] for number, price in pairs)
