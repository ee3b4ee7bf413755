"""Column types and problem types are AutoMM's; see section by section data/infer_types.py and infer_problem_type."""

from dataclasses import replace

import pytest

from carryover.data.columns import ColumnFacts, infer_type, plan
from carryover.data.problem import infer, settle, sorted_classes
from carryover.ground.errors import WrongInput

TEXT = ColumnFacts(
    name="c",
    kinds=frozenset({"text"}),
    rows=1000,
    missing=0,
    distinct=None,
    unseen=False,
    sampled=1000,
    sample_distinct=900,
    mean_words=8.0,
    odd_value="f row 1 has 'x'",
)
WHOLE = frozenset({"int"})


def no_images() -> float:
    return 0.0


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (replace(TEXT, missing=1000), "null"),
        (replace(TEXT, distinct=1), "null"),
        (replace(TEXT, distinct=19), "categorical"),
        (replace(TEXT, distinct=20, mean_words=8), "text"),
        (replace(TEXT, distinct=20, kinds=WHOLE), "numerical"),
        (replace(TEXT, distinct=5, rows=50, kinds=WHOLE), "numerical"),
        (replace(TEXT, distinct=4, rows=50, kinds=WHOLE), "categorical"),
        (replace(TEXT, distinct=4, unseen=True, kinds=WHOLE), "numerical"),
        (replace(TEXT, distinct=4, unseen=True), "text"),
        (replace(TEXT, kinds=frozenset({"int", "float", "digits"})), "numerical"),
        (replace(TEXT, kinds=frozenset({"int", "text"})), "text"),
        (TEXT, "text"),
        (replace(TEXT, mean_words=2.9), "categorical"),
        (replace(TEXT, sample_distinct=10), "categorical"),
        (replace(TEXT, sample_distinct=11), "text"),
    ],
)
def test_types_without_images(facts: ColumnFacts, expected: str) -> None:
    assert infer_type(facts, no_images) == expected


def test_images_come_before_text() -> None:
    assert infer_type(TEXT, lambda: 0.1) == "image_path"
    assert infer_type(TEXT, lambda: 0.09) == "text"
    assert infer_type(replace(TEXT, kinds=frozenset({"bytes"})), lambda: 1.0) == "image_bytes"


@pytest.mark.parametrize(("kind", "words"), [("bytes", "no images"), ("nested", "lists or structs")])
def test_what_nothing_can_read_is_said_with_the_way_out(kind: str, words: str) -> None:
    with pytest.raises(WrongInput, match=f"{words}.*--column-type c=null"):
        infer_type(replace(TEXT, kinds=frozenset({kind})), no_images)


def test_a_given_type_must_suit_the_values() -> None:
    with pytest.raises(WrongInput, match="c=numerical: not every value is a number: f row 1 has 'x'"):
        plan(TEXT, "numerical")
    with pytest.raises(WrongInput, match="image_bytes"):
        plan(TEXT, "image_bytes")
    assert plan(replace(TEXT, kinds=frozenset({"digits", "int"})), "numerical").stored == "double"
    assert plan(replace(TEXT, kinds=WHOLE), "numerical").stored == "int64"
    assert plan(replace(TEXT, kinds=WHOLE), "text").stored == "string"


def whole(distinct: int, rows: int) -> dict:
    counts = dict.fromkeys(range(distinct), rows // distinct)
    counts[0] += rows - sum(counts.values())
    return counts


@pytest.mark.parametrize(
    ("counts", "stored", "expected"),
    [
        ({"a": 1, "b": 1}, "string", "binary"),
        ({0.5: 3, 1.5: 3}, "double", "binary"),
        ({"a": 1, "b": 1, "c": 1}, "string", "multiclass"),
        (whole(10, 100), "int64", "multiclass"),
        (whole(11, 100), "int64", "regression"),
        (whole(100, 1000), "int64", "multiclass"),
        (whole(55, 1100), "int64", "multiclass"),
        (whole(56, 1100), "int64", "regression"),
        (whole(1000, 100_000), "int64", "multiclass"),
        (whole(1001, 100_000), "int64", "regression"),
        ({0.0: 50, 1.0: 50, 2.0: 50}, "double", "multiclass"),
        ({0.0: 50, 1.0: 50, 2.5: 50}, "double", "regression"),
        (None, "double", "regression"),
        (None, "string", "multiclass"),
    ],
)
def test_problem_types(counts: dict | None, stored: str, expected: str) -> None:
    assert infer(counts, stored=stored) == expected


@pytest.mark.parametrize(
    ("given", "counts", "stored", "numeric", "words"),
    [
        ("", {"a": 9}, "string", False, "only one value, 'a'"),
        ("binary", {"a": 1, "b": 1, "c": 1}, "string", False, "3 values"),
        ("multiclass", {"a": 1, "b": 1}, "string", False, "for that is binary"),
        ("regression", {"a": 1, "b": 1}, "string", False, "not all numbers"),
        ("", None, "string", False, "can't be a class"),
    ],
)
def test_a_label_that_does_not_suit(given: str, counts: dict | None, stored: str, numeric: bool, words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        settle(given, counts, label="y", stored=stored, numeric=numeric)


def test_classification_means_binary_or_multiclass() -> None:
    many = whole(90, 100)
    assert settle("", many, label="y", stored="int64", numeric=True) == "regression"
    assert settle("classification", many, label="y", stored="int64", numeric=True) == "multiclass"
    assert settle("classification", {0: 1, 1: 1}, label="y", stored="int64", numeric=True) == "binary"


def test_classes_are_sorted_by_their_own_kind() -> None:
    assert sorted_classes({10: 1, 9: 1}) == (9, 10)
    assert sorted_classes({"10": 1, "9": 1}) == ("10", "9")
    assert sorted_classes({True: 1, False: 1}) == (False, True)
