"""The verbs and their results, on a real store with real ranks."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import carryover
from carryover.ground.errors import WrongInput
from tests.api.conftest import Orchard, fruits


def test_rows_in_memory_are_the_same_dataset_as_their_file(orchard: Orchard, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(orchard.rows)
    pq.write_table(table, tmp_path / "fruits.parquet")
    ways: list[Any] = [table, table.to_pydict(), tmp_path / "fruits.parquet", [str(tmp_path / "fruits.parquet")]]
    digests = {carryover.prepare(rows, "ripe", store=orchard.store).digest for rows in ways}
    assert digests == {orchard.data.digest}
    # However often, and as what: one file a content.
    assert len(list((orchard.store / "tables").iterdir())) == 1
    assert orchard.data.rows["train"] + orchard.data.rows["validation"] + orchard.data.rows["test"] == 300
    assert orchard.data.schema == {
        "size": "numerical",
        "weight": "numerical",
        "colour": "categorical",
        "ripe": "categorical",
    }
    assert orchard.data.classes == ("no", "yes") and orchard.data.changed


class Frame:
    """What a pandas data frame is to us: a stream of Arrow whose schema tells which columns are its index."""

    def __init__(self, table: pa.Table, index: str) -> None:
        told = f'{{"index_columns": ["{index}"]}}'
        self.table = table.replace_schema_metadata({"pandas": told})

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of a DataFrame is ambiguous")

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def test_a_data_frame_is_read_without_its_index(orchard: Orchard, capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.Table.from_pylist(orchard.rows)
    numbers = pa.array(range(300))
    plain = carryover.prepare(
        Frame(table.append_column("__index_level_0__", numbers), "__index_level_0__"), "ripe", store=orchard.store
    )
    assert plain.digest == orchard.data.digest
    named = carryover.prepare(Frame(table.append_column("id", numbers), "id"), "ripe", store=orchard.store)
    assert named.digest == orchard.data.digest
    assert "index id: left out; reset_index() makes it a column" in capsys.readouterr().err


def test_splits_of_their_own_and_rows_to_look_at(orchard: Orchard) -> None:
    data = carryover.prepare(fruits(60), "ripe", store=orchard.store, test_source=fruits(20, seed=1))
    assert data.rows["test"] == 20
    assert data.head(7).table.num_rows == 7
    assert data.to_arrow("test").to_pylist() == fruits(20, seed=1)
    with pytest.raises(WrongInput, match="there is no split 'dev'"):
        data.head(split="dev")


def test_predictions_are_those_of_evaluate_bit_for_bit(orchard: Orchard) -> None:
    evaluation = orchard.model.evaluate(orchard.data)
    told, rows = evaluation.predictions, orchard.data.to_arrow("test")
    probabilities = orchard.model.predict_proba(rows)
    assert orchard.model.classes == ("no", "yes")
    for index, name in enumerate(("no", "yes")):
        assert np.array_equal(probabilities[:, index], told[f"probability_{name}"].to_numpy())
    assert orchard.model.predict(rows).tolist() == told["prediction"].to_pylist()
    # Other columns, their order and how rows are given play no part.
    named = [{"junk": None, **{name: row[name] for name in ("colour", "weight", "size")}} for row in rows.to_pylist()]
    assert np.array_equal(orchard.model.predict_proba(named), probabilities)
    assert evaluation.metrics["roc_auc"] and evaluation.rows == rows.num_rows and evaluation.accepted


def test_a_model_is_opened_by_each_of_its_words(orchard: Orchard) -> None:
    model, store = orchard.model, orchard.store
    run = carryover.open(f"run:{model.run_key}", store=store)
    assert isinstance(run, carryover.Run)
    assert run.finished and run.attempts == 1 and run.lost_steps == 0 and run.dataset_digest == orchard.data.digest
    assert run.curve.series["loss"].values.size and run.recipe["optimization.max_epochs"] == 1
    every = [carryover.open(model.uri), carryover.open(f"{model.uri}/model.json"), run.model, carryover.open(run.uri)]
    assert [one.digest for one in every[:3] if isinstance(one, carryover.Model)] == [model.digest] * 3
    assert every[3] == run == model.run
    assert carryover.open(orchard.data.uri) == orchard.data == model.dataset


WRONG: dict[str, Any] = {
    "dataset: rows in memory are no dataset yet": lambda o: carryover.train(o.rows),
    "dataset: a int is not possible": lambda o: carryover.train(3),
    "argument nor a key of a recipe; did you mean nproc_per_node": lambda o: carryover.train(o.data, nproc_per_nod=1),
    "max_epoch: unknown key; did you mean": lambda o: carryover.train(o.data, optimization={"max_epoch": 1}),
    "env.batch_size: a object is not possible": lambda o: carryover.train(o.data, env={"batch_size": object()}),
    "no column 'ripeness'; did you mean 'ripe'": lambda o: carryover.prepare(o.rows, "ripeness", store=o.store),
    "source: a set is no table": lambda o: carryover.prepare({1, 2}, "ripe", store=o.store),
    "source: can't be read as a table": lambda o: carryover.prepare({"a": [1, "b"]}, "a", store=o.store),
    "source: there are no rows": lambda o: carryover.prepare({"a": []}, "a", store=o.store),
    "missing that the model reads: weight, colour; there are size": lambda o: o.model.predict([{"size": 1.0}]),
    "'heavy' is not a number": lambda o: o.model.predict([{"size": 1.0, "weight": "heavy", "colour": "red"}]),
    "neither a Dataset, a Model, a Backbone nor a run": lambda o: carryover.open(o.store),
    "there is no such run in": lambda o: carryover.open("run:abc", store=o.store),
    "max_epochs: 0 is not possible": lambda o: o.model.run.resume(optimization={"max_epochs": 0}),
    "there is no split 'exam'": lambda o: o.model.evaluate(o.data, split="exam"),
}


@pytest.mark.parametrize(("words", "call"), WRONG.items(), ids=WRONG)
def test_wrong_input_is_one_line_and_no_exit(words: str, call: Any, orchard: Orchard) -> None:
    with pytest.raises(WrongInput) as caught:
        call(orchard)
    error = caught.value
    assert words in str(error) and error.exit_code == 2 and "\n" not in str(error)
    # In a notebook that is all there is to see, and where to read more.
    shown = error._render_traceback_()  # pyright: ignore[reportAttributeAccessIssue]
    assert shown == [f"\x1b[1;31mWrongInput\x1b[0m: {error}", f"more: !carryover explain {error.trouble}"]


def test_with_debug_the_traceback_stays(orchard: Orchard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRYOVER_DEBUG", "1")
    with pytest.raises(WrongInput) as caught:
        carryover.open("run:abc", store=orchard.store)
    assert not hasattr(caught.value, "_render_traceback_")
