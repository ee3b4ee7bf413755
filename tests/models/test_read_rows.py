"""What happens to rows before a family reads them: columns as text, values left out, and both in a Model."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from carryover.data.config import DataConfig
from carryover.data.order import mix
from carryover.ground.config import build
from carryover.ground.errors import WrongInput
from carryover.models.assembly import (
    TEXTS,
    build_config,
    build_preprocessing,
    choose,
    family_of,
    restore_preprocessing,
)
from carryover.models.read_rows import as_texts, left_out
from carryover.models.registry import FAMILIES, REFUSED
from tests.models.encoders import save_encoder
from tests.models.test_networks import KEYS, ROWS, SCHEMA

BOTH = {"categorical": {"convert_to_text": True}, "numerical": {"convert_to_text": True}}


def data(**values: Any) -> DataConfig:
    return build(DataConfig, values, path="data")


@pytest.mark.parametrize(
    ("template", "words"),
    [("direct", "red"), ("list", "color: red"), ("text", "color is red"), ("latex", "red & ")],
)
def test_categories_as_text(template: str, words: str) -> None:
    made = as_texts(ROWS, {"color": template})
    assert made.column("color").to_pylist()[::2] == [words, None]
    assert made.column_names == ROWS.column_names
    whole = pa.table({"color": [2.0, None]})
    assert as_texts(whole, {"color": "direct"}).column("color").to_pylist() == ["2", None]


def test_numbers_as_text() -> None:
    values = [1.0, None, 0.0004, 1234567, 3.14159265, -2.5e-9, float("nan"), 1e300]
    made = as_texts(pa.table({"x": values}), {"x": "number"}).column("x").to_pylist()
    assert made == ["1", None, "0.0004", "1234567", "3.14159", "-2.5e-09", None, "1e+300"]
    with pytest.raises(WrongInput, match="column 'x': 'cheap' is not a number"):
        as_texts(pa.table({"x": ["cheap"]}), {"x": "number"})
    with pytest.raises(WrongInput, match="columns missing: x"):
        as_texts(ROWS, {"x": "number"})


def test_converted_columns_are_read_by_the_text_family_alone_and_a_model_knows_it(tmp_path: Any) -> None:
    model = build_config({"hf_text": {"checkpoint_name": str(save_encoder(tmp_path / "bert", "bert"))}})
    config = data(**BOTH)
    assembly = choose(model, SCHEMA, config)
    assert [branch.columns for branch in assembly.branches] == [("review", "note", "price", "stock", "color")]
    assert assembly.fusion is None
    numbers = data(numerical={"convert_to_text": True})
    only = choose(model, SCHEMA, numbers)
    assert [branch.name for branch in only.branches] == ["hf_text", "categorical_mlp"]
    with pytest.raises(WrongInput, match=r"'numerical_mlp' has nothing to read; .* price \(text\)"):
        choose(build_config({"names": ["numerical_mlp"]}), SCHEMA, config)
    fitted = build_preprocessing(assembly, SCHEMA, config)
    files = fitted.files()
    assert json.loads(files[TEXTS]) == {"color": "latex", "price": "number", "stock": "number"}
    restored = restore_preprocessing(assembly, files)
    want = fitted(ROWS, training=False, keys=KEYS)
    fewer = build_preprocessing(only, SCHEMA, numbers)(ROWS, training=False, keys=KEYS)
    assert want["hf_text/ids"].shape[1] > fewer["hf_text/ids"].shape[1]
    for rows in (ROWS, ROWS.set_column(3, "stock", pa.array(["5", "6", "7", "8"]))):
        found = restored(rows, training=False, keys=KEYS)
        assert all(np.array_equal(found[name], want[name]) for name in want)


def test_values_are_left_out_by_their_keys() -> None:
    keys = mix(7, np.arange(20_000))
    count = len(keys)
    rows = pa.table({"a": np.arange(count), "b": [b"image"] * count, "c": [["x"]] * count})
    made = left_out(rows, ["a", "b", "c"], probability=0.3, keys=keys)
    gone = {name: np.asarray(made.column(name).is_null()) for name in made.column_names}
    assert all(abs(mask.mean() - 0.3) < 0.01 for mask in gone.values())
    # Each column by itself, and a row whatever its batch is.
    assert abs((gone["a"] & gone["b"]).mean() - 0.09) < 0.01
    alone = left_out(rows.slice(50, 9), ["b"], probability=0.3, keys=keys[50:59])
    assert np.asarray(alone.column("b").is_null()).tolist() == gone["b"][50:59].tolist()
    assert made.schema == rows.schema


def test_modality_dropout_is_for_training_only_and_goes_on_after_a_resume() -> None:
    model = build_config({"names": ["numerical_mlp", "categorical_mlp", "fusion_mlp"]})
    config = data(modality_dropout=0.5)
    assembly = choose(model, SCHEMA, config)
    fitted = build_preprocessing(assembly, SCHEMA, config)
    assert TEXTS not in fitted.files()
    # None of these rows has a gap of its own.
    rows = pa.table({"price": [1.0] * 64, "stock": [8] * 64, "color": ["red"] * 64})
    keys = mix(1, np.arange(64))
    whole, cut = (fitted(rows, training=training, keys=keys) for training in (False, True))
    assert (whole["categorical_mlp/ids"] == 0).all()
    assert set(cut["categorical_mlp/ids"][:, 0].tolist()) == {0, 2}
    assert len(np.unique(cut["numerical_mlp/values"][:, 1])) == 2
    again = restore_preprocessing(assembly, fitted.files(), dropout=0.5)(rows, training=True, keys=keys)
    assert all(np.array_equal(again[name], cut[name]) for name in cut)
    plain = restore_preprocessing(assembly, fitted.files())(rows, training=True, keys=keys)
    assert all(np.array_equal(plain[name], whole[name]) for name in whole)
    assert all(torch.from_numpy(value).isfinite().all() for value in cut.values())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_models_that_are_not_here_say_why(name: str) -> None:
    assert name not in FAMILIES.names()
    with pytest.raises(WrongInput, match=f"^model.names: '{name}': .*(out of scope|not there)"):
        family_of(name)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"modality_dropout": 1.0}, "data.modality_dropout: 1.0 is not possible; it must be at least 0 and below 1"),
        (
            {"categorical": {"convert_to_text_template": "html"}},
            "data.categorical.convert_to_text_template: 'html' is not possible; it must be one of direct, list",
        ),
    ],
)
def test_wrong_values(values: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        data(**values)
