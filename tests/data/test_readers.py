"""Every format gives the same values; a file that can't be read says which, and at which row."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carryover.data import readers, sources, values
from carryover.ground.errors import WrongInput


def batches(path: Path) -> list[sources.Batch]:
    return list(readers.read(sources.find([str(path)], flag="source")[0]))


def kinds_and_values(path: Path) -> dict[str, tuple[set[str], list]]:
    (batch,) = batches(path)
    return {name: (set(batch.kinds(name)), array.to_pylist()) for name, array in batch.columns.items()}


def test_csv_says_by_its_text_what_a_value_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        'whole,real,flag,code,word,\n1,1.50,True,007,"two\nlines",NA\n-2, 2 ,false,12345678901234567890,,x\n'
    )
    assert kinds_and_values(path) == {
        "whole": ({"int"}, ["1", "-2"]),
        "real": ({"int", "float"}, ["1.50", " 2 "]),
        "flag": ({"bool"}, ["True", "false"]),
        "code": ({"digits"}, ["007", "12345678901234567890"]),
        "word": ({"text"}, ["two\nlines", None]),
        "Unnamed: 5": ({"text"}, [None, "x"]),
    }


def test_jsonl_keeps_its_types_and_mixes_them_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "b": "7", "c": 1}\n\n{"a": 2.5, "c": "x", "d": true}\n{"a": NaN, "c": null}\n')
    assert kinds_and_values(path) == {
        "a": ({"int", "float"}, ["1", "2.5", None]),
        "b": ({"digits"}, ["7", None, None]),
        "c": ({"int", "text"}, ["1", "x", None]),
        "d": ({"bool"}, [None, True, None]),
    }


def test_parquet_comes_in_a_few_plain_types(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {
        "whole": pa.array([1, None], pa.int8()),
        "huge": pa.array([2**63, 1], pa.uint64()),
        "real": pa.array([float("nan"), 0.5], pa.float32()),
        "word": pa.array(["x", None]).dictionary_encode(),
        "day": pa.array([1, 2], pa.date32()),
        "many": pa.array([[1], [2]]),
        "raw": pa.array([b"x", b"y"], pa.large_binary()),
        "none": pa.nulls(2),
    }
    pq.write_table(pa.table(columns), path)
    assert kinds_and_values(path) == {
        "whole": ({"int"}, [1, None]),
        "huge": ({"digits"}, ["9223372036854775808", "1"]),
        "real": ({"float"}, [None, 0.5]),
        "word": ({"text"}, ["x", None]),
        "day": ({"text"}, ["1970-01-02", "1970-01-03"]),
        "many": ({"nested"}, [None, None]),
        "raw": ({"bytes"}, [b"x", b"y"]),
        "none": (set(), [None, None]),
    }


def test_equal_values_have_one_canonical_form() -> None:
    forms = [pa.array([1]), pa.array([1.0]), pa.array(["1"]), pa.array(["1.00"]), pa.array(["01"]), pa.array([" 1e0 "])]
    assert {values.canonical(form)[0].as_py() for form in forms} == {b"1"}
    assert values.canonical(pa.array(["True", "true", None])).to_pylist() == [b"true", b"true", None]
    assert values.canonical(pa.array([-0.0, 0.0])).to_pylist() == [b"0", b"0"]
    long = ["12345678901234567890", "12345678901234567891"]
    assert len(set(values.canonical(pa.array(long)).to_pylist())) == 2


def test_gzip_tabs_and_upper_case_endings_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.TSV.gz").write_bytes(gzip.compress(b"x\ty\n1\ta,b\n"))
    assert kinds_and_values(tmp_path / "a.TSV.gz") == {"x": ({"int"}, ["1"]), "y": ({"text"}, ["a,b"])}


def damaged_parquet(rows: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        pq.write_table(pa.table({"x": [str(number) * 50 for number in range(1000)]}), path, compression="snappy")
        data = bytearray(path.read_bytes())
        data[100:200] = rows * 100
        path.write_bytes(bytes(data))

    return make


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("long.csv", b"x,y\n1,2\n3,4\n1,2,3\n", "row 3: CSV parse error: Expected 2 columns, got 3"),
        ("utf.csv", b"x,y\n1,2\n1,\xff\n", "row 2"),
        ("quote.csv", b'x,y\n1,2\n1,"never closed\n3,4\n', 'its quote (") is never closed'),
        ("twice.csv", b"x,x\n1,2\n", "two columns are named 'x'"),
        ("empty.csv", b"", "is empty"),
        ("array.jsonl", b'{"x": 1}\n[1]\n', "row 2: one object a line"),
        ("cut.jsonl", b'{"x": 1}\n{"x":\n', "row 2: Expecting value"),
        ("empty.jsonl", b"", "there are no rows"),
        ("cut.csv.gz", gzip.compress(b"x,y\n1,2\n" * 100_000)[:-100], "end-of-stream"),
        ("no.csv.gz", b"x,y\n1,2\n", "Not a gzipped file"),
        ("no.parquet", b"not parquet at all", "can't be read as parquet"),
        ("damaged.parquet", damaged_parquet(b"\xff"), "can't be read as parquet at row 1"),
    ],
)
def test_an_unreadable_file_is_named_with_its_row(tmp_path: Path, name: str, content: object, words: str) -> None:
    path = tmp_path / name
    content(path) if callable(content) else path.write_bytes(content)  # type: ignore[operator, arg-type]
    with pytest.raises(WrongInput) as caught:
        batches(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_and_globs_take_known_endings_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.csv", "a.csv", "README.md", "c.parquet.gz"):
        (tmp_path / name).write_text("x\n1\n")
    found = sources.find([str(tmp_path), str(tmp_path / "*.csv")], flag="source")
    assert [Path(file.uri).name for file in found] == ["a.csv", "b.csv"]
    said = capsys.readouterr().err
    assert "2 of 4 files left out" in said
    assert "named twice, read once" in said
    with pytest.raises(WrongInput, match=r"--source .*README\.md: the ending names no format"):
        sources.find([str(tmp_path / "README.md")], flag="source")
    with pytest.raises(WrongInput, match="no file found"):
        sources.find([str(tmp_path / "none" / "*.csv")], flag="source")


def test_batches_are_small_and_count_rows_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{number},{'z' * 1000}\n" for number in range(20_000)))
    found = batches(path)
    assert len(found) > 2
    assert [batch.first_row for batch in found] == [1 + sum(b.rows for b in found[:i]) for i in range(len(found))]
    assert max(batch.columns["y"].nbytes for batch in found) < 2 * sources.BATCH_BYTES
