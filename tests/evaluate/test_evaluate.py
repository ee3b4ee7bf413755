"""evaluate on real Datasets and fitted Models: numbers checked by hand, files, refusals, the command line."""

import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk

from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.pack import parse
from carryover.ground.errors import WrongInput
from carryover.ground.storage import open_store
from carryover.models.card import CARD, WEIGHTS
from carryover.models.export import find_model
from carryover.steps.evaluate import evaluate
from carryover.steps.prepare_data import prepare_data
from tests.evaluate.models import fit_model
from tests.support.last_words import only_error_of

EVIL = '<script>alert("x")</script>'
TABLE = {"numerical_mlp": {"hidden_size": 16}, "names": ["numerical_mlp"]}


def write_csv(path: Path, rows: int, label: Callable[[float, float], object], *, seed: int = 0) -> str:
    """Writes rows of two numbers and a label made from them and noise."""
    draw = np.random.default_rng(seed)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "y"])
        for _ in range(rows):
            a, b = draw.normal(size=2).round(6).tolist()
            writer.writerow([a, b, label(a + draw.normal() * 0.3, b)])
    return str(path)


LABELS: dict[str, Callable[[float, float], object]] = {
    "binary": lambda a, b: "yes" if a > 0 else "no",
    "multiclass": lambda a, b: EVIL if a > 0.4 else "b & c" if b > 0 else "plain",
    "regression": lambda a, b: round(1000 + 50 * a + 20 * b, 4),
}


@dataclass(frozen=True)
class Place:
    """A store with one Dataset and one Model of a problem type."""

    problem_type: str
    store: str
    dataset: str
    model: str


@pytest.fixture(scope="module", params=LABELS)
def place(request, tmp_path_factory) -> Place:
    folder = tmp_path_factory.mktemp(request.param)
    store = str(folder / "store")
    source = write_csv(folder / "rows.csv", 500, LABELS[request.param])
    dataset = prepare_data(source=[source], label="y", store=store, train_fraction=0.7, test_fraction=0.2)
    assert dataset["problem_type"] == request.param
    model = fit_model(dataset["uri"], store, folder, model=TABLE)
    return Place(request.param, store, dataset["uri"], model)


def test_scores_predictions_and_files_agree(place, tmp_path):
    out = tmp_path / "out"
    result = evaluate(model=place.model, dataset=[place.dataset], store=place.store, output=str(out))
    assert json.loads((out / "result.json").read_text(), parse_constant=pytest.fail) == result
    assert {path.name for path in out.iterdir()} == {
        "metrics.json",
        "predictions.parquet",
        "report.html",
        "result.json",
    }
    assert json.loads((out / "metrics.json").read_text())["metrics"] == result["metrics"]
    table = pq.read_table(result["predictions"])
    assert table.equals(pq.read_table(out / "predictions.parquet"))
    columns = table.to_pydict()
    assert columns["row"] == list(range(result["rows"]))
    check = {"binary": check_binary, "multiclass": check_multiclass, "regression": check_regression}
    check[place.problem_type](result, columns)


def check_binary(result, columns):
    assert result["metrics"]["accuracy"] > 0.8
    assert result["metrics"]["accuracy"] == pytest.approx(sk.accuracy_score(columns["label"], columns["prediction"]))
    truth = [label == "yes" for label in columns["label"]]
    assert result["metrics"]["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, columns["probability_yes"]))
    labels = result["confusion_matrix"]["labels"]
    assert labels == ["no", "yes"]
    want = sk.confusion_matrix(columns["label"], columns["prediction"], labels=labels)
    assert result["confusion_matrix"]["matrix"] == want.tolist()
    assert all(math.isfinite(value) for part in result["roc"].values() for value in part)
    assert sk.auc(result["roc"]["fpr"], result["roc"]["tpr"]) == pytest.approx(result["metrics"]["roc_auc"])


def check_multiclass(result, columns):
    assert result["metrics"]["accuracy"] > 0.6
    assert set(columns) == {
        "dataset",
        "row",
        "label",
        "prediction",
        *(f"probability_{c}" for c in ("plain", "b & c", EVIL)),
    }
    total = np.sum([columns[name] for name in columns if name.startswith("probability_")], axis=0)
    assert np.allclose(total, 1)
    assert result["roc"] is None
    page = Path(result["report"]).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "b &amp; c" in page


def check_regression(result, columns):
    error = np.array(columns["label"]) - np.array(columns["prediction"])
    assert result["metrics"]["rmse"] == pytest.approx(math.sqrt((error**2).mean()))
    assert result["metrics"]["r2"] > 0.5
    # In the label's own unit, however it was scaled for training.
    assert 900 < np.mean(columns["prediction"]) < 1100
    assert result["confusion_matrix"] is None
    assert "<circle" in Path(result["report"]).read_text()


def test_the_report_fetches_nothing_and_is_whole(place):
    result = evaluate(model=place.model, dataset=[place.dataset], store=place.store)
    page = Path(result["report"]).read_text()
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert re.findall(r"(?:src|href|url)\s*[=(]", page) == []
    assert "prefers-color-scheme: dark" in page
    assert "nan" not in page.lower().replace("finan", "")


def test_metrics_by_name_and_alias_and_split(place):
    metric = {"binary": "acc", "multiclass": "acc", "regression": "mean_absolute_error"}[place.problem_type]
    name = {"acc": "accuracy"}.get(metric, "mae")
    result = evaluate(
        model=place.model, dataset=[place.dataset], store=place.store, split="validation", metric=[metric]
    )
    assert list(result["metrics"]) == [name]
    other = evaluate(model=place.model, dataset=[place.dataset], store=place.store, metric=[metric], batch_size=7)
    assert other["uri"] != result["uri"]
    again = evaluate(model=place.model, dataset=[place.dataset], store=place.store, metric=[metric])
    assert again["uri"] == other["uri"]
    assert again["metrics"][name] == pytest.approx(other["metrics"][name], rel=1e-5)


def test_several_datasets_each_by_itself(place, tmp_path):
    source = write_csv(tmp_path / "more.csv", 80, LABELS[place.problem_type], seed=1)
    more = prepare_data(
        source=[source], label="y", store=place.store, column_types={"a": "numerical", "b": "numerical"}
    )
    result = evaluate(model=place.model, dataset=[place.dataset, more["uri"]], store=place.store, split="train")
    assert [part["uri"] for part in result["datasets"]] == [place.dataset, more["uri"]]
    assert result["metrics"] == result["datasets"][0]["metrics"]
    counts = pq.read_table(result["predictions"]).column("dataset").value_counts().to_pylist()
    assert [part["counts"] for part in counts] == [part["rows"] for part in result["datasets"]]


def test_every_reason_why_a_dataset_does_not_fit_is_named(place, tmp_path):
    (tmp_path / "other.csv").write_text(
        "a,y\n" + "".join(f"{i / 7},{'never' if i % 2 else 'seen'}\n" for i in range(60))
    )
    other = prepare_data(
        source=[str(tmp_path / "other.csv")], label="y", store=place.store, train_fraction=0.7, test_fraction=0.2
    )
    with pytest.raises(WrongInput) as error:
        evaluate(model=place.model, dataset=[other["uri"]], store=place.store)
    assert "columns missing that the model reads: b" in str(error.value)
    if place.problem_type == "regression":
        assert "prepare it with --problem-type regression" in str(error.value)
    else:
        assert "classes that the model does not know: 'never', 'seen'" in str(error.value)


def test_wrong_words(place):
    base = {"dataset": [place.dataset], "store": place.store}
    for arguments, words in [
        ({"model": place.model, "split": "exam"}, "there is no split 'exam'; there are train"),
        ({"model": place.model, "metric": ["map"]}, "metric 'map' is not for"),
        ({"model": place.model, "metric": ["accurate"]}, "unknown metric 'accurate'"),
        ({"model": place.dataset}, "no Model there"),
        ({"model": "run:none"}, "there is no such run"),
        ({"model": "champion:best"}, "has no champion of that name"),
        ({"model": place.model, "batch_size": 0}, "--batch-size: 0 is not possible"),
        ({"model": place.model, "dataset": []}, "--dataset: nothing to score on"),
    ]:
        with pytest.raises(WrongInput, match=words):
            evaluate(**{**base, **arguments})


def test_one_class_in_the_split_has_no_curve_and_no_error(tmp_path):
    store = str(tmp_path / "store")
    train = write_csv(tmp_path / "train.csv", 60, LABELS["binary"])
    (tmp_path / "test.csv").write_text("a,b,y\n0.5,1.5,yes\n0.25,0.75,yes\n")
    dataset = prepare_data(source=[train], test_source=[str(tmp_path / "test.csv")], label="y", store=store)
    model = fit_model(dataset["uri"], store, tmp_path, model=TABLE, steps=5)
    result = evaluate(model=model, dataset=[dataset["uri"]], store=store, output=str(tmp_path / "out"))
    assert result["roc"] is None
    assert result["metrics"]["roc_auc"] is None
    assert result["metrics"]["log_loss"] is not None
    assert "n/a" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("place", ["binary"], indirect=True)
def test_command_line(place, carryover_cli):
    flags = ["--model", place.model, "--dataset", place.dataset, "--store", place.store]
    done = carryover_cli("evaluate", *flags, "--output", "out", "--outputs-dir", "one")
    assert done.rc == 0, done.stderr
    assert "report" in done.stdout
    assert (carryover_cli.cwd / "out" / "report.html").is_file()
    assert (carryover_cli.cwd / "one" / "predictions").read_text().endswith("predictions.parquet")
    wrong = carryover_cli("evaluate", *flags, "--metric", "nothing")
    assert wrong.rc == 2
    assert only_error_of(wrong.stderr).startswith("error: unknown metric 'nothing'")


@pytest.mark.parametrize("place", ["binary"], indirect=True)
def test_a_finished_run_by_its_key_even_when_its_model_is_gone(place, tmp_path):
    found = find_model(place.model)
    store = str(tmp_path / "store")
    home = RunHome.open(open_store(store), "run")
    home.start({"recipe": {}})
    with pytest.raises(WrongInput, match="run:run: has not finished"):
        evaluate(model="run:run", dataset=[place.dataset], store=store)
    writer = claim(home)
    assert writer is not None
    weights = {f"model/{name}": value for name, value in parse(found.read(WEIGHTS)).items()}
    files = {**found.files(), CARD: found.card.to_bytes()}
    digest = found.card.digest
    writer.finish(step=1, reason="done", tensors=weights, files=files, metrics={}, model=digest, limits={})
    result = evaluate(model="run:run", dataset=[place.dataset], store=store)
    assert result["model_digest"] == digest
    assert result["model_uri"] == f"{store}/models/{digest}"
    assert result["metrics"] == evaluate(model=place.model, dataset=[place.dataset], store=place.store)["metrics"]
