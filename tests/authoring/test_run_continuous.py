"""The pipelines `continuous` and `extend` from end to end on this machine: days of data, a gate, a rollback."""

import random
from pathlib import Path

import pytest

from carryover.carry.champion import history
from carryover.ground.storage import open_store
from carryover.steps.prepare_data import prepare_data
from carryover.steps.promote import promote
from tests.authoring.test_run_train import RECIPE
from tests.evaluate.models import fit_model

Said = dict[str, str]


def write_day(folder: Path, number: int, rows: int, shift: float) -> None:
    """Two numbers that tell the label nearly always; the first one drifts from day to day."""
    draw = random.Random(number)
    lines = ["left,right,label"]
    for _ in range(rows):
        left, right = draw.gauss(shift, 1), draw.gauss(0, 1)
        lines.append(f"{left:.4f},{right:.4f},{'yes' if left + right + draw.gauss(0, 0.3) > 0 else 'no'}")
    folder.mkdir(exist_ok=True)
    (folder / f"day{number}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def days(tmp_path: Path) -> Path:
    write_day(tmp_path / "days", 1, 200, 0.0)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "days"


@pytest.fixture
def run(carryover_cli, days):
    """Runs a pipeline on all days so far; returns what the screen showed, and what the pipeline returned."""

    def run(pipeline: str, *params: str) -> tuple[str, Said]:
        given = [word for param in (f"source={days}", "nproc_per_node=1", *params) for word in ("--param", param)]
        ended = carryover_cli("run", pipeline, *given, "--store", "store", "--recipe", "recipe.yaml", timeout=900)
        assert ended.rc == 0, ended.stdout + ended.stderr
        lines = ended.stdout.split("is done\n")[-1].splitlines()
        return ended.stdout, dict(line.strip().split(": ", 1) for line in lines)

    return run


def test_without_new_data_the_champion_stays_and_nothing_is_trained(run, days, tmp_path):
    store = str(tmp_path / "store")
    dataset = prepare_data(source=[str(days)], label="label", store=store)["uri"]
    model = fit_model(dataset, store, tmp_path, model={"numerical_mlp": {}}, steps=1)
    promote(name="stars", model=model, store=store)
    screen, said = run("continuous", "name=stars", "label=label", "grow_classes=true")
    assert (said["champion_uri"], said["dataset_uri"]) == (model, dataset)
    assert "train-ddp" not in screen
    assert len(history(open_store(store), "stars").decisions) == 1


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (("name=Stars", "label=label"), "a name is made of a-z, 0-9 and '-'"),
        (("name=stars", "label=lable"), "did you mean 'label'?"),
    ],
)
def test_wrong_input_ends_it_before_anything_is_trained(carryover_cli, days, params, said):
    given = [word for param in (f"source={days}", *params) for word in ("--param", param)]
    ended = carryover_cli("run", "continuous", *given, "--store", "store")
    assert ended.rc == 2
    assert said in ended.stdout and "attempt 2" not in ended.stdout and "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_days_of_data(run, days, carryover_cli, tmp_path):
    store = open_store(str(tmp_path / "store"))
    base = ("name=stars", "label=label", "grow_classes=true", "extend_set=data.replay.fraction=0.5")
    screen, first = run("continuous", *base)
    assert "data.replay.fraction=0.5: left out, as there is no Model to extend" in screen

    write_day(days, 2, 150, 0.3)
    screen, said = run("continuous", *base, "min_gain=0.9")
    assert said["champion_uri"] == first["champion_uri"] and said["dataset_uri"] != first["dataset_uri"]
    assert "is rejected (record 1)" in screen and "extends Model" in screen
    # The next start finds the same training finished, and the same Model refused, whatever is asked of it now.
    screen, said = run("continuous", *base, "min_gain=-1")
    assert said["champion_uri"] == first["champion_uri"]
    assert "is finished" in screen and "was rejected in record 1" in screen

    write_day(days, 3, 150, 0.3)
    screen, second = run("continuous", *base, "min_gain=-1", "max_forgetting=1")
    assert second["champion_uri"] != first["champion_uri"]
    decisions = history(store, "stars").decisions
    assert [one.kind for one in decisions] == ["promote", "reject", "promote"]
    assert decisions[2].against == decisions[0].model.digest and decisions[2].reason
    assert run("continuous", *base)[1]["champion_uri"] == second["champion_uri"], "nothing new"

    ended = carryover_cli("rollback", "stars", "--store", "store", "--reason", "wrong labels")
    assert ended.rc == 0, ended.stderr
    screen, said = run("continuous", *base, "min_gain=-1")
    assert said["champion_uri"] == first["champion_uri"]
    assert "was rolled back from in record 3 (wrong labels)" in screen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_extend_by_what_a_champion_is_now(run, days, tmp_path):
    _, trained = run("train", "label=label")
    promote(name="stars", model=trained["model_uri"], store=str(tmp_path / "store"))
    write_day(days, 2, 150, 0.3)
    screen, said = run("extend", "init_from_uri=champion:stars", "set=data.mode=delta", "max_forgetting=1")
    assert f"extends Model {Path(trained['model_uri']).name}" in screen
    assert said["model_uri"] != trained["model_uri"] and said["accepted"] == "True"
    assert "scoring" in screen and Path(trained["dataset_uri"]).name in screen, "on the old data too"
    assert said["reason"]
