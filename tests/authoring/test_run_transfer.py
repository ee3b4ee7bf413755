"""The pipeline `transfer` from end to end on this machine: a new task from yesterday's Model, both scored."""

from pathlib import Path

import pytest

from carryover.models.export import find_model
from carryover.steps.prepare_data import prepare_data
from tests.authoring.test_run_continuous import write_day
from tests.authoring.test_run_train import RECIPE
from tests.evaluate.models import fit_model


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_new_task_from_yesterdays_model(carryover_cli, tmp_path: Path):
    store = str(tmp_path / "store")
    write_day(tmp_path / "days", 1, 200, 0.0)
    old_data = prepare_data(source=[str(tmp_path / "days")], label="label", store=store)["uri"]
    old = fit_model(old_data, store, tmp_path, model={"numerical_mlp": {}}, steps=20)
    lines = (tmp_path / "days" / "day1.csv").read_text().splitlines()[1:]
    numbers = [tuple(map(float, line.split(",")[:2])) for line in lines]
    table = "\n".join(f"{left},{right},{left - right:.3f}" for left, right in numbers)
    (tmp_path / "new.csv").write_text(f"left,right,difference\n{table}\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)

    given = ("source=new.csv", "label=difference", f"model_uri={old}", "nproc_per_node=1")
    params = [word for param in given for word in ("--param", param)]
    ended = carryover_cli("run", "transfer", *params, "--store", "store", "--recipe", "recipe.yaml", timeout=600)
    assert ended.rc == 0, ended.stdout + ended.stderr
    said = dict(line.strip().split(": ", 1) for line in ended.stdout.split("is done\n")[-1].splitlines())
    new = find_model(said["model_uri"]).card
    assert (new.schema.label, new.schema.problem_type) == ("difference", "regression")
    assert new.parent and new.parent["kind"] == "transfer"
    assert Path(said["backbone_uri"], "backbone.json").is_file()
    for dataset in (said["dataset_uri"], old_data):
        assert f"of {dataset} (test)" in ended.stdout, "each Model on its own task"
    assert find_model(old).card.schema.label == "label"
