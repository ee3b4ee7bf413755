"""Data that follow a schema: the same types, classes and splits as before, or one error with all that does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from carryover.data.manifest import DatasetCard, load_card
from carryover.ground.errors import WrongInput
from carryover.steps.prepare_data import prepare_data
from tests.conftest import CarryoverCli
from tests.data.support import prepared, reviews, splits, table, write
from tests.data.test_images import picture
from tests.evaluate.models import fit_model

ROWS = reviews(300)
NEW = reviews(200, seed=1, start=300)
TABLE = {"names": ["numerical_mlp"]}


@pytest.fixture
def old(tmp_path: Path) -> DatasetCard:
    return prepared(tmp_path, write(tmp_path / "a.csv", ROWS))


def followed(tmp_path: Path, rows: list[dict[str, Any]], source: str, ending: str = "csv", **more: Any) -> DatasetCard:
    path = write(tmp_path / f"new.{ending}", rows)
    return prepared(tmp_path, path, schema_from=source, **{"label": "", **more})


def breaches(tmp_path: Path, rows: list[dict[str, Any]], source: str, ending: str = "csv", **more: Any) -> str:
    with pytest.raises(WrongInput) as error:
        followed(tmp_path, rows, source, ending, **more)
    return str(error.value)


def test_the_same_data_are_the_same_dataset(tmp_path: Path, old: DatasetCard) -> None:
    """Also with a column more, in another order, as another format, and by way of a Model."""
    again = [dict(reversed({**row, "more": row["id"] % 7}.items())) for row in ROWS]
    model = fit_model(old.at, str(tmp_path / "store"), tmp_path / "s", model=TABLE, steps=1)
    for source in (old.at, model):
        for ending in ("csv", "jsonl", "parquet"):
            card = followed(tmp_path, again, source, ending)
            assert (card.digest, card.schema) == (old.digest, old.schema)


def test_types_come_from_the_schema_where_the_rows_alone_would_say_otherwise(tmp_path: Path, old: DatasetCard) -> None:
    few = [{**row, "kind": row["id"] % 3, "text": "one", "price": None, "label": "good"} for row in NEW[:60]]
    alone = prepared(tmp_path, write(tmp_path / "b.csv", [{**row, "label": row["id"] % 2} for row in few]))
    card = followed(tmp_path, few, old.at)
    assert [column.type for column in alone.schema.columns] != [column.type for column in old.schema.columns]
    assert [(column.name, column.type, column.arrow) for column in card.schema.columns] == [
        (column.name, column.type, column.arrow) for column in old.schema.columns
    ]
    # A class without a row, and a label with one value only, are no breach.
    assert (card.schema.problem_type, card.schema.classes) == ("binary", ("bad", "good"))
    assert set(table(card, "train", tmp_path / "s")["kind"].to_pylist()) == {"0", "1", "2"}


def test_old_rows_keep_their_splits_among_new_ones(tmp_path: Path, old: DatasetCard) -> None:
    """Columns that were left out, or are new, must not count for the split."""
    left = prepared(tmp_path, tmp_path / "a.csv", column_types={"text": "null"})
    before = splits(left, tmp_path / "s")
    rows = [{**row, "source": f"s{row['id']}"} for row in [*ROWS, *NEW]]
    model = fit_model(left.at, str(tmp_path / "store"), tmp_path / "s", model=TABLE, steps=1)
    for source in (left.at, model):
        card = followed(tmp_path, rows, source)
        assert before.items() <= splits(card, tmp_path / "s").items()
        # And whoever follows that one leaves the same column out.
        assert before.items() <= splits(followed(tmp_path, rows, card.at), tmp_path / "s").items()


def test_every_breach_is_said_at_once_with_its_rows(tmp_path: Path, old: DatasetCard) -> None:
    wrong = [
        {
            "id": row["id"],
            "Text": row["text"],
            "price": "cheap" if row["id"] % 4 == 0 else row["price"],
            "label": {0: "ugly", 1: "odd"}.get(row["id"] % 10, row["label"]),
        }
        for row in NEW
    ]
    wrong[7]["label"] = None
    types = {"id": "text"}
    said = breaches(tmp_path, wrong, old.at, label="lable", problem_type="regression", column_types=types)
    for words in (
        f"--schema-from {old.at}: the data do not fit dataset {old.digest[:12]} (8 breaches)",
        "--label lable: the label is 'label'",
        "--problem-type regression: the problem is binary",
        "--column-type id=text: its type is numerical",
        "column 'text' is missing (200 rows); is it 'Text' now?",
        "column 'kind' is missing (200 rows)",
        "column 'price' is numerical: 50 of 200 rows have other values",
        f"e.g. {tmp_path}/new.csv row 1 has 'cheap'",
        "label column 'label' has 1 missing values",
        "40 of 200 rows have unknown classes: 'odd' (20 rows), 'ugly' (20 rows); the classes are 'bad', 'good'",
    ):
        assert words in said
    assert "\n" not in said


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_values_of_another_kind_are_counted_in_typed_sources_too(tmp_path: Path, old: DatasetCard, ending: str) -> None:
    rows = [{**row, "price": "12" if row["id"] % 2 else "none", "kind": b"x"} for row in NEW]
    if ending == "jsonl":
        rows = [{**row, "kind": ["x"]} for row in rows]
    said = breaches(tmp_path, rows, old.at, ending)
    assert "column 'price' is numerical: 100 of 200 rows" in said
    assert "column 'kind' is categorical: 200 of 200 rows have other values" in said


def test_a_missing_label_column_is_a_breach_among_others(tmp_path: Path, old: DatasetCard) -> None:
    said = breaches(tmp_path, [{"id": row["id"], "verdict": row["label"]} for row in NEW], old.at)
    assert "column 'label' is missing (200 rows)" in said
    assert "column 'kind' is missing" in said


def test_whole_numbers_may_get_fractions(tmp_path: Path, old: DatasetCard, capsys: pytest.CaptureFixture[str]) -> None:
    card = followed(tmp_path, [{**row, "id": row["id"] + 0.5, "more": 1} for row in NEW], old.at)
    assert card.schema.column("id").arrow == "double"
    said = capsys.readouterr().err
    assert "stored as real ones now: id" in said
    assert "so not used: more" in said


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("classes", "spelled"),
    [
        ((0, 1, 2), {0: 0.0, 1: 1.0, 2: 2.0}),
        ((0.5, 1.0, 2.0), {0.5: 0.5, 1.0: 1, 2.0: 2}),
        (("1", "01", "x"), {"1": "1", "01": "01", "x": "1"}),
        ((False, True), {False: "False", True: "true"}),
    ],
)
def test_classes_keep_their_type_and_order_however_they_are_written(
    tmp_path: Path, classes: tuple, spelled: dict, ending: str
) -> None:
    first = [{**row, "label": classes[row["id"] % len(classes)]} for row in ROWS]
    old = prepared(tmp_path, write(tmp_path / f"a.{ending}", first), problem_type="classification")
    now = [classes[row["id"] % len(classes)] for row in NEW]
    rows = [{**row, "label": spelled[value]} for row, value in zip(NEW, now, strict=True)]
    card = followed(tmp_path, rows, old.at, ending)
    assert card.schema.classes == old.schema.classes
    assert card.schema.label_column.arrow == old.schema.label_column.arrow
    meant = {"x": "1"} if classes[-1] == "x" else {}
    expected = {row["id"]: meant.get(value, value) for row, value in zip(NEW, now, strict=True)}
    found = table(card, "train", tmp_path / "s")
    assert dict(zip(found["id"].to_pylist(), found["label"].to_pylist(), strict=True)).items() <= expected.items()


def test_grown_classes_stand_behind_the_old_ones(tmp_path: Path, old: DatasetCard) -> None:
    rows = [{**row, "label": {0: "ugly", 1: "awful"}.get(row["id"] % 10, row["label"])} for row in NEW]
    card = followed(tmp_path, rows, old.at, grow_classes=True)
    assert (card.schema.problem_type, card.schema.classes) == ("multiclass", ("bad", "good", "awful", "ugly"))
    assert card.lineage["grown"] == ["awful", "ugly"]
    # They grow again from there, and nothing moves.
    more = [{**row, "label": "abysmal" if row["id"] % 10 == 2 else row["label"]} for row in rows]
    again = followed(tmp_path, more, card.at, grow_classes=True, problem_type="multiclass")
    assert again.schema.classes == (*(card.schema.classes or ()), "abysmal")
    # Where nothing is new there is nothing to grow.
    same = followed(tmp_path, NEW, old.at, grow_classes=True)
    assert (same.schema.problem_type, same.schema.classes, same.lineage["grown"]) == ("binary", ("bad", "good"), [])


def test_what_cannot_grow(tmp_path: Path) -> None:
    whole = prepared(tmp_path, write(tmp_path / "a.csv", [{**row, "label": row["id"] % 4} for row in ROWS]))
    said = breaches(tmp_path, [{**row, "label": row["id"] / 7} for row in NEW], whole.at, grow_classes=True)
    assert "a regression's; the problem is multiclass" in said
    said = breaches(tmp_path, [{**row, "label": "x"} for row in NEW], whole.at, grow_classes=True)
    assert "200 of 200 rows have classes that are no int64, as the others are: 'x' (200 rows)" in said
    other = write(tmp_path / "v.csv", [{**row, "label": 9} for row in NEW])
    known = [{**row, "label": row["id"] % 4} for row in NEW]
    said = breaches(tmp_path, known, whole.at, grow_classes=True, validation_source=[str(other)])
    assert "new classes in --validation-source or --test-source only: '9' (200 rows)" in said
    number = prepared(tmp_path, write(tmp_path / "b.csv", [{**row, "label": row["id"] / 7} for row in ROWS]))
    said = breaches(tmp_path, NEW, number.at, grow_classes=True)
    assert "the problem is regression and 200 of 200 rows have no number" in said


def test_images_follow_too(tmp_path: Path) -> None:
    rows = [{**row, "photo": picture(row["id"])} for row in ROWS]
    old = prepared(tmp_path, write(tmp_path / "a.parquet", rows))
    card = followed(tmp_path, [{**row, "photo": None} for row in NEW], old.at, "parquet")
    assert card.schema.column("photo").type == "image_bytes"
    named = [{**row, "photo": "a.png"} for row in NEW]
    assert "column 'photo' is image_bytes: 200 of 200 rows" in breaches(tmp_path, named, old.at, "parquet")
    (tmp_path / "1.png").write_bytes(picture(1))
    here = write(tmp_path / "b.csv", [{**row, "photo": "1.png"} for row in ROWS])
    paths = prepared(tmp_path, here, column_types={"photo": "image_path"})
    assert followed(tmp_path, [{**named[0], "photo": "1.png"}, *named[1:]], paths.at).rows()["train"] > 0
    said = breaches(tmp_path, named, paths.at)
    assert "column 'photo' is image_path: of " in said
    assert "values tried none names an image (200 rows)" in said


def test_the_index_knows_whose_schema_was_followed(tmp_path: Path, old: DatasetCard) -> None:
    import os

    other = prepared(tmp_path, tmp_path / "a.csv", column_types={"kind": "text"})
    source = write(tmp_path / "new.csv", NEW)
    os.utime(source, (1e9, 1e9))

    def ask(uri: str) -> dict[str, Any]:
        return prepare_data(source=[str(source)], schema_from=uri, store=str(tmp_path / "store"))

    first, second = ask(old.at), ask(other.at)
    assert (first["columns"]["kind"], second["columns"]["kind"]) == ("categorical", "text")
    assert first["digest"] != second["digest"]
    again = ask(old.at)
    assert (again["digest"], again["changed"]) == (first["digest"], False)
    assert again["schema_from"] == {"kind": "dataset", "digest": old.digest, "uri": old.at}
    assert load_card(again["uri"]).lineage["schema_from"]["digest"] == old.digest
    # The same content, prepared without a schema to follow, followed none.
    types = {column.name: column.type for column in load_card(again["uri"]).schema.columns}
    alone = prepare_data(source=[str(source)], label="label", column_types=types, store=str(tmp_path / "store"))
    assert (alone["digest"], "drift" in alone) == (first["digest"], False)


def test_the_command_line(carryover_cli: CarryoverCli) -> None:
    write(carryover_cli.cwd / "a.csv", ROWS)
    write(carryover_cli.cwd / "b.csv", [{**row, "price": row["id"] + 1000} for row in NEW])
    first = carryover_cli("prepare-data", "--source", "a.csv", "--label", "label", "--output", "old")
    assert first.rc == 0, first.stderr
    flags = ("prepare-data", "--source", "b.csv", "--schema-from", "old")
    ended = carryover_cli(*flags, "--output", "new")
    assert ended.rc == 0, ended.stderr
    assert "price " in ended.stdout and "drifted" in ended.stdout
    result = json.loads((carryover_cli.cwd / "new" / "result.json").read_text())
    card = json.loads((carryover_cli.cwd / "new" / "dataset.json").read_text())
    assert result["drift"] == card["lineage"]["drift"]
    assert {one["column"] for one in result["drift"]} == {"id", "text", "price", "kind", "label"}
    assert result["drift"][0]["psi"] >= result["drift"][-1]["psi"]
    far = carryover_cli(*flags, "--max-drift", "0.5")
    assert (far.rc, far.stdout) == (2, "")
    assert "--max-drift 0.5: these columns drifted further (PSI)" in far.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"schema_from": "nowhere"}, r"neither a Model \(model.json\) nor a Dataset \(dataset.json\) there"),
        ({"schema_from": "run:abc"}, "there is no such run"),
        ({"label": "label", "grow_classes": True}, "--grow-classes: needs --schema-from"),
        ({"label": "label", "max_drift": 1.0}, "--max-drift: needs --schema-from"),
        ({"schema_from": "x", "max_drift": 0.0}, "must be above 0"),
        ({}, "--label: empty"),
    ],
)
def test_what_is_asked_in_vain(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    source = write(tmp_path / "b.csv", NEW)
    with pytest.raises(WrongInput, match=words):
        prepare_data(source=[str(source)], store=str(tmp_path / "store"), **more)
