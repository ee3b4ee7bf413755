"""The pipeline `train` from end to end on this machine: `carryover run`, real processes, every artifact looked at."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support import processes

RECIPE = """\
model:
  names: [numerical_mlp]
optimization:
  max_epochs: 2
env:
  batch_size: 16
  per_gpu_batch_size: 8
  num_workers: 0
  num_workers_evaluation: 0
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two numbers that tell the label nearly always."""
    draw = random.Random(7)
    lines = ["left,right,label"]
    for _ in range(300):
        left, right = draw.gauss(0, 1), draw.gauss(0, 1)
        lines.append(f"{left:.4f},{right:.4f},{'yes' if left + right + draw.gauss(0, 0.3) > 0 else 'no'}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "table.csv"


def arguments(table: Path, *more: str) -> list[str]:
    given = ["--param", f"source={table}", "--param", "label=label", "--param", "nproc_per_node=2", "--store", "store"]
    return ["run", "train", *given, "--recipe", "recipe.yaml", *more]


def metadata(folder: Path, task: str) -> dict[str, dict]:
    """What a task said of its artifacts, by name."""
    (path,) = folder.glob(f"**/{task}/executor_output.json")
    artifacts = json.loads(path.read_text())["artifacts"]
    return {name: found["artifacts"][0]["metadata"] for name, found in artifacts.items()}


def test_train_gives_every_artifact_and_a_second_run_finds_them(carryover_cli, table, tmp_path):
    ended = carryover_cli(*arguments(table))
    assert ended.rc == 0, ended.stdout + ended.stderr
    for step in ("[1/4] preflight", "[2/4] prepare-data", "[3/4] train-ddp", "[4/4] evaluate"):
        assert step in ended.stdout
    said = dict(line.strip().split(": ", 1) for line in ended.stdout.split("is done\n")[-1].splitlines())
    store, folder = tmp_path / "store", Path(said["artifacts"])
    assert folder.is_relative_to(tmp_path / ".carryover-pipelines")
    assert json.loads(Path(said["model_uri"], "model.json").read_text())["kind"] == "model"
    assert Path(said["model_uri"]).is_relative_to(store)
    assert Path(said["checkpoint_uri"]) == store / "runs" / said["run_key"]
    assert Path(said["dataset_uri"], "dataset.json").is_file()

    (card,) = folder.glob("**/prepare-data/dataset")
    assert [path.name for path in card.glob("*") if path.suffix == ".parquet"] == [], "a Dataset is its card only"
    (model,) = folder.glob("**/train-ddp/model")
    assert (model / "model.json").is_file()
    assert metadata(folder, "train-ddp")["model"]["run_key"] == said["run_key"]
    assert all(isinstance(value, float) for value in metadata(folder, "train-ddp")["metrics"].values())

    found = metadata(folder, "evaluate")
    assert found["metrics"]["accuracy"] > 0.5
    matrix = found["classification"]["confusionMatrix"]
    assert [entry["displayName"] for entry in matrix["annotationSpecs"]] == ["no", "yes"]
    assert found["classification"]["confidenceMetrics"]
    for step in ("train-ddp", "evaluate"):
        (report,) = folder.glob(f"**/{step}/report")
        assert "<html" in report.read_text().lower()
        assert Path(said[f"report of {step}"]).read_text() == report.read_text()
    (predictions,) = folder.glob("**/evaluate/results/predictions.parquet")
    assert sum(sum(row["row"]) for row in matrix["rows"]) == pq.read_table(predictions).num_rows

    again = carryover_cli(*arguments(table))
    assert again.rc == 0, again.stdout + again.stderr
    assert "is finished" in again.stdout, "a cloned pipeline run finds the finished run"
    assert f"model_uri: {said['model_uri']}" in again.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--param", "label=labell"), "did you mean 'label'?"),
        (("--set", "optimization.max_epoch=3"), "optimization.max_epochs"),
    ],
)
def test_wrong_input_ends_the_pipeline_at_once(carryover_cli, table, more, said):
    ended = carryover_cli(*arguments(table, *more))
    assert ended.rc == 2, ended.stdout + ended.stderr
    assert said in ended.stdout
    assert "[2/4]" not in ended.stdout
    assert "attempt 2" not in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_step_goes_on(carryover_cli, table, tmp_path):
    """SIGKILL to every process of the training step once it has committed; the pipeline ends as if nothing happened."""
    long = ("--set", "optimization.max_epochs=40", "--set", "checkpoint.every_steps=7", "--set", "seed=1")
    tree = processes.start(carryover_cli.command(*arguments(table, *long)), said=tmp_path / "said", cwd=tmp_path)
    log = tmp_path / "store" / "runs"
    assert tree.wait_until(lambda: len(list(log.glob("*/log/*.json"))) >= 4)
    for pid in set(tree.living()) - {tree.process.pid}:
        tree.kill_one(pid)
    assert tree.process.wait(timeout=240) == 0, tree.text()
    assert "killed by SIGKILL" in tree.text()
    assert "train-ddp (attempt 2)" in tree.text()
    assert "goes on from step" in tree.text()

    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "recipe.yaml").write_text(RECIPE)
    whole = processes.start(
        carryover_cli.command(*arguments(table, *long)), said=tmp_path / "whole" / "said", cwd=tmp_path / "whole"
    )
    assert whole.process.wait(timeout=240) == 0, whole.text()

    def model(text: str) -> str:
        return text.rpartition("model_uri: ")[2].split()[0].rpartition("/")[2]

    assert model(tree.text()) == model(whole.text()), "the same weights, so the same digest"
