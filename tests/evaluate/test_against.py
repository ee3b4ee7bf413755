"""evaluate against a baseline and over stages: fitted Models, grown classes, refusals, files, report, command line."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from kfp import dsl

from carryover.ground.errors import WrongInput
from carryover.steps.evaluate import evaluate
from carryover.steps.prepare_data import prepare_data
from carryover_kfp import catalog
from tests.evaluate.models import fit_model
from tests.evaluate.test_evaluate import EVIL, TABLE
from tests.support.last_words import error_of

NUMBERS = {"a": "numerical", "b": "numerical"}


def task(folder: Path, store: str, name: str, classes: tuple[str, ...], *, turn: float = 0.0, rows: int = 600) -> str:
    """Rows of two numbers; the class is the sector of the circle they lie in, turned by `turn` circles."""
    draw = np.random.default_rng(len(name))
    a, b = draw.normal(size=(2, rows)).round(6)
    sectors = np.floor(((np.arctan2(b, a) / (2 * np.pi) + turn) % 1) * len(classes)).astype(int)
    lines = [f"{x},{y},{classes[sector]}" for x, y, sector in zip(a, b, sectors.tolist(), strict=True)]
    (folder / f"{name}.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    made = prepare_data(
        source=[str(folder / f"{name}.csv")], label="y", store=store, column_types=NUMBERS, train_fraction=0.6,
        test_fraction=0.3,
    )  # fmt: skip
    return made["uri"]


@dataclass(frozen=True)
class History:
    """A store with an old task of two classes and a new one of three, and a Model of each."""

    store: str
    old: str
    new: str
    first: str
    second: str
    numbers: str
    price: str


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> History:
    folder = tmp_path_factory.mktemp("stages")
    store = str(folder / "store")
    old = task(folder, store, "old", ("no", EVIL))
    new = task(folder, store, "newer", ("no", EVIL, "may & be"), turn=0.2)
    first = fit_model(old, store, folder, model=TABLE)
    second = fit_model(new, store, folder, model=TABLE)
    lines = [f"{x},{x / 2},{3 * x + 1}" for x in np.random.default_rng(0).normal(size=200).round(5).tolist()]
    (folder / "price.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    price = prepare_data(
        source=[str(folder / "price.csv")], label="y", store=store, train_fraction=0.6, test_fraction=0.3
    )["uri"]
    return History(store, old, new, first, second, fit_model(price, store, folder, model=TABLE, steps=5), price)


def test_a_baseline_that_knows_fewer_classes(made, tmp_path):
    out = tmp_path / "out"
    asked = {"model": made.second, "dataset": [made.new, made.old], "baseline": made.first, "store": made.store}
    result = evaluate(**asked, min_gain=0.1, max_forgetting=0.05, metric=["accuracy"], output=str(out))
    alone = evaluate(model=made.first, dataset=[made.old], store=made.store, metric=["accuracy"])
    gate = result["gate"]
    # On the old task the baseline has the score that it has by itself; the Model has its own.
    assert gate["forgetting"][0]["baseline"] == pytest.approx(alone["metrics"]["accuracy"])
    assert gate["forgetting"][0]["model"] == pytest.approx(result["datasets"][1]["metrics"]["accuracy"])
    assert gate["gain"]["model"] == pytest.approx(result["metrics"]["accuracy"])
    assert gate["gain"]["gain"] > 0.1
    assert gate["forgetting"][0]["forgetting"] > 0.05
    assert result["accepted"] is False
    assert result["reason"].startswith("accuracy: forgetting +")
    assert made.old in result["reason"]
    assert json.loads((out / "result.json").read_text(), parse_constant=pytest.fail) == result
    assert json.loads((out / "metrics.json").read_text())["gate"] == gate
    page = (out / "report.html").read_text()
    assert "not accepted" in page
    assert "<script" not in page
    again = evaluate(**asked, min_gain=0.1, max_forgetting=1.0, metric=["accuracy"])
    assert again["accepted"] is True
    assert again["uri"] != result["uri"], "another question has another place"
    assert again["gate"]["gain"] == gate["gain"], "seeded"


def test_the_first_model_has_nothing_to_beat(made):
    result = evaluate(
        model=made.first, dataset=[made.old], store=made.store, min_gain=9.0, max_forgetting=0.0, confident=True
    )
    assert (result["accepted"], result["reason"]) == (True, "no baseline to compare with")
    assert result["gate"] is None


def test_a_model_against_itself_gains_nothing(made):
    asked = {"model": made.first, "baseline": made.first, "dataset": [made.old], "store": made.store}
    for least, accepted in [(0.0, True), (0.001, False)]:
        result = evaluate(**asked, min_gain=least)
        assert result["accepted"] is accepted
        assert result["gate"]["gain"]["gain"] == 0
    assert result["gate"]["gain"]["low"] == result["gate"]["gain"]["high"] == 0


def test_stages_give_the_task_matrix(made, tmp_path):
    out = tmp_path / "out"
    result = evaluate(
        model=made.second, dataset=[made.new, made.old], stage=[made.first], store=made.store, metric=["accuracy"],
        output=str(out),
    )  # fmt: skip
    matrix = result["matrix"]
    assert json.loads((out / "matrix.json").read_text()) == matrix
    assert [one["uri"] for one in matrix["tasks"]] == [made.old, made.new], "as they were learned"
    assert [one["learned_after"] for one in matrix["tasks"]] == [0, 1]
    (old_then, _), (old_now, new_now) = matrix["scores"]
    assert new_now == pytest.approx(result["metrics"]["accuracy"])
    assert old_now == pytest.approx(result["datasets"][1]["metrics"]["accuracy"])
    assert matrix["average"] == pytest.approx((old_now + new_now) / 2)
    assert matrix["backward_transfer"] == pytest.approx(old_now - old_then)
    assert matrix["forward_transfer"] == pytest.approx(matrix["scores"][0][1] - matrix["constant"][1])
    assert matrix["backward_transfer"] < 0 < matrix["forgetting"][0]
    grown = matrix["classes"]["may & be"]
    assert grown["tasks"] == [1]
    assert grown["scores"][0] == [0.0]
    assert grown["scores"][1][0] > 0.5
    page = (out / "report.html").read_text()
    assert "What each stage knows" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "may &amp; be" in page
    assert result["accepted"] is True


def test_a_regression_over_stages(made):
    result = evaluate(
        model=made.numbers, dataset=[made.price], baseline=made.numbers, store=made.store, max_forgetting=None,
        min_gain=0.0, metric=["rmse"],
    )  # fmt: skip
    assert result["accepted"] is True
    assert result["matrix"] is None


def test_wrong_words(made):
    base = {"model": made.second, "dataset": [made.new, made.old], "store": made.store, "baseline": made.first}
    for arguments, words in [
        ({"baseline": "nowhere"}, "^--baseline: .*no Model there"),
        ({"stage": ["nowhere"]}, "^--stage: .*no Model there"),
        ({"stage": [made.second]}, "--stage: Model .* is given twice"),
        ({"stage": [made.first, made.first]}, "--stage: Model .* is given twice"),
        ({"baseline": made.numbers}, "baseline Model .* is of problem type regression, Model .* of multiclass"),
        ({"stage": [""]}, "^--stage: "),
        ({"min_gain": float("nan")}, "--min-gain: nan is not possible"),
        ({"max_forgetting": 0.1, "dataset": [made.new]}, "--max-forgetting: there is no old Dataset"),
        ({"confident": True}, "--confident: says how"),
    ]:
        with pytest.raises(WrongInput, match=words):
            evaluate(**{**base, **arguments})


def test_the_component_in_a_first_run_and_in_a_later_one(made, tmp_path):
    """A pipeline hands on what the steps before it gave: empty texts where there is no champion yet."""

    def run(name: str, **arguments):
        paths = {"metrics": dsl.Metrics, "classification": dsl.ClassificationMetrics, "report": dsl.HTML}
        outputs = {kind: make(uri=str(tmp_path / f"{name}-{kind}")) for kind, make in paths.items()}
        folder = dsl.Artifact(uri=str(tmp_path / name))
        return catalog.load_component("evaluate").python_func(
            **outputs, results=folder, store=made.store, model_uri=made.second, dataset_uri=made.new,
            min_gain="0.1", max_forgetting="0.05", metric=["accuracy"], **arguments,
        )  # fmt: skip

    _, accepted, reason = run("first", baseline_uri="", more_dataset_uris=[""], stage_uris=[""])
    assert (accepted, reason) == (True, "no baseline to compare with")
    _, accepted, reason = run("later", baseline_uri=made.first, more_dataset_uris=[made.old], stage_uris=[made.first])
    assert accepted is False
    assert "forgetting" in reason
    assert (tmp_path / "later" / "matrix.json").is_file()
    assert "not accepted" in (tmp_path / "later-report").read_text()


def test_command_line(made, carryover_cli):
    flags = ["--model", made.second, "--dataset", made.new, made.old, "--store", made.store, "--metric", "accuracy"]
    gate = ["--baseline", made.first, "--max-forgetting", "0.01", "--stage", made.first]
    done = carryover_cli("evaluate", *flags, *gate, "--outputs-dir", "one")
    assert done.rc == 0, done.stderr
    assert "\nnot accepted: accuracy: forgetting +" in done.stdout
    assert "backward_transfer    -" in done.stdout
    assert (carryover_cli.cwd / "one" / "accepted").read_text() == "false"
    assert (carryover_cli.cwd / "one" / "reason").read_text().startswith("accuracy: forgetting")
    failed = carryover_cli("evaluate", *flags, *gate, "--fail-rejected")
    assert failed.rc == 1
    assert error_of(failed.stderr).startswith("error: not accepted: accuracy: forgetting")
