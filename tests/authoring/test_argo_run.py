"""The Argo templates walked as Argo's controller does, each pod a real process: retries, conditions, `argo retry`."""

import json
import os
from pathlib import Path

import pytest

from carryover.carry.champion import history
from carryover.ground.storage import open_store
from carryover.models.export import find_model
from carryover.steps.prepare_data import prepare_data
from carryover.steps.promote import promote
from tests.authoring.test_run_continuous import write_day
from tests.authoring.test_run_train import RECIPE
from tests.evaluate.models import fit_model
from tests.support import argo_walk, processes
from tests.support.argo_walk import Workflow

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def workflow(tmp_path, carryover_cli):
    """A Workflow of a pipeline over `days` and the store `store`, as `argo submit -p ...` makes it."""
    write_day(tmp_path / "days", 1, 200, 0.0)

    def start(args: list[str], said: Path) -> processes.Tree:
        return processes.start(carryover_cli.command(*args), cwd=tmp_path, said=said, env=os.environ)

    def make(pipeline: str, **given: str) -> Workflow:
        base = {
            "source": json.dumps([str(tmp_path / "days")]),
            "label": "label",
            "store": str(tmp_path / "store"),
            "recipe": RECIPE,
        }
        return Workflow(pipeline, {**base, **given}, start, tmp_path / "pods")

    return make


def phases(walked: Workflow) -> dict[str, str]:
    return {path: node.phase for path, node in walked.nodes.items()}


def test_wrong_input_is_not_tried_again_and_retry_goes_on_with_what_is_right(workflow, tmp_path):
    walked = workflow("train", label="lable", metric='["accuracy"]')
    assert walked.run().phase == "Failed"
    assert walked.nodes["preflight"].exits == [2] and "did you mean 'label'?" in walked.nodes["preflight"].said
    assert set(phases(walked).values()) == {"Failed", "Omitted"}


def test_without_new_data_continuous_is_green_and_nothing_is_trained(workflow, tmp_path):
    store = str(tmp_path / "store")
    dataset = prepare_data(source=[str(tmp_path / "days")], label="label", store=store)["uri"]
    model = fit_model(dataset, store, tmp_path, model={"numerical_mlp": {}}, steps=1)
    promote(name="stars", model=model, store=store)
    walked = workflow("continuous", name="stars", grow_classes="true", max_drift="")
    ended = walked.run()
    assert ended.phase == "Succeeded", {path: node.said for path, node in walked.nodes.items()}
    assert ended.outputs == {"champion_uri": model, "dataset_uri": dataset}
    assert phases(walked)["new-data"] == "Skipped" and "new-data/train-ddp" not in walked.nodes


@pytest.mark.slow
def test_train_killed_goes_on_and_a_failed_step_is_retried_alone(workflow, tmp_path):
    killed: list[int] = []
    long = ["optimization.max_epochs=60", "optimization.patience=1000", "checkpoint.every_steps=5"]

    def kill_once(path: str, attempt: int, tree: processes.Tree) -> None:
        if path == "train-ddp" and attempt == 0:
            assert tree.wait_until(lambda: bool(list((tmp_path / "store" / "runs").glob("*/last.ckpt"))), timeout=900)
            killed.append(attempt)
            tree.kill()

    walked = workflow("train", set=json.dumps(long), metric='["acuracy"]')
    walked.disturb = kill_once
    assert walked.run().phase == "Failed"
    assert killed and walked.nodes["train-ddp"].exits == [137, 0], walked.nodes["train-ddp"].said
    assert walked.nodes["evaluate"].exits == [2] and "accuracy" in walked.nodes["evaluate"].said

    outputs = walked.nodes["train-ddp"].outputs
    assert int(outputs["optimizer_steps"]) == 60 * 11 and int(outputs["lost_steps"]) >= 0
    log = Path(outputs["checkpoint_uri"]) / "log"
    claims = [one for file in sorted(log.iterdir()) if (one := json.loads(file.read_text()))["kind"] == "claim"]
    assert [one["owner"] for one in claims] == [walked.uid] * 2
    assert claims[1]["resumed_from"] is not None, "the second pod went on from a commit"

    trained = walked.nodes["train-ddp"]
    ended = walked.retry(metric='["accuracy"]')
    assert ended.phase == "Succeeded" and walked.nodes["train-ddp"] is trained
    assert walked.nodes["evaluate"].exits == [0] and walked.nodes["evaluate"].outputs["accepted"] == "true"
    assert ended.outputs["model_uri"] == outputs["model_uri"]

    again = workflow("train", set=json.dumps(long), metric='["accuracy"]')
    again.nodes = {path: walked.nodes[path] for path in ("preflight", "prepare-data")}
    assert again.uid != walked.uid and again.run().outputs["model_uri"] == outputs["model_uri"]
    assert "is finished" in again.nodes["train-ddp"].said, "`resubmit --memoized`: another owner finds the same run"


@pytest.mark.slow
def test_days_of_data(workflow, tmp_path):
    given = {
        "name": "stars",
        "grow_classes": "true",
        "max_drift": "9",
        "min_gain": "-1",
        "extend_set": '["data.mode=delta"]',
    }
    first = workflow("continuous", **given)
    assert first.run().phase == "Succeeded", {path: node.said for path, node in first.nodes.items()}
    assert phases(first)["new-data/promote"] == "Succeeded"
    second = workflow("continuous", **given)
    assert second.run().phase == "Succeeded" and phases(second)["new-data"] == "Skipped"

    write_day(tmp_path / "days", 2, 150, 0.1)
    third = workflow("continuous", **given)
    ended = third.run()
    assert ended.phase == "Succeeded" and "extends Model" in third.nodes["new-data/train-ddp"].said
    decisions = history(open_store(str(tmp_path / "store")), "stars").decisions
    assert len(decisions) == 2 and decisions[1].against == decisions[0].model.digest
    assert ended.outputs["champion_uri"].endswith(decisions[1].model.digest)


@pytest.mark.slow
def test_extend_and_transfer_from_what_a_champion_is(workflow, tmp_path):
    store = str(tmp_path / "store")
    dataset = prepare_data(source=[str(tmp_path / "days")], label="label", store=store)["uri"]
    model = fit_model(dataset, store, tmp_path, model={"numerical_mlp": {}}, steps=20)
    promote(name="stars", model=model, store=store)
    lines = (tmp_path / "days" / "day1.csv").read_text().splitlines()[1:]
    numbers = [tuple(map(float, line.split(",")[:2])) for line in lines]
    table = "\n".join(f"{left},{right},{left - right:.3f}" for left, right in numbers)
    (tmp_path / "new.csv").write_text(f"left,right,difference\n{table}\n")

    moved = workflow("transfer", source=str(tmp_path / "new.csv"), label="difference", model_uri="champion:stars")
    ended = moved.run()
    assert ended.phase == "Succeeded", {path: node.said for path, node in moved.nodes.items()}
    assert Path(ended.outputs["backbone_uri"], "backbone.json").is_file()
    assert find_model(ended.outputs["model_uri"]).card.schema.label == "difference"
    assert f"{dataset} (test" in moved.nodes["evaluate-old"].said, "the old Model on its own task"

    write_day(tmp_path / "days", 2, 150, 0.3)
    grown = workflow("extend", init_from_uri="champion:stars", set='["data.mode=delta"]', max_forgetting="1")
    del grown.given["label"]
    ended = grown.run()
    assert ended.phase == "Succeeded", {path: node.said for path, node in grown.nodes.items()}
    assert ended.outputs["accepted"] == "true" and ended.outputs["reason"]
    assert ended.outputs["model_uri"] != model and f"{dataset} (test" in grown.nodes["evaluate"].said


def test_pipelines_take_what_the_kfp_pipelines_take():
    """The same names and defaults; a number whose 0 means none there is empty here; resources are Argo's own."""
    import inspect

    kfp = pytest.importorskip("kfp")
    sizes = {"cpu", "memory", "gpu", "gpu_resource", "shm"}
    for name in ("train", "extend", "transfer", "continuous"):
        module = pytest.importorskip(f"carryover_kfp.pipelines.{name}.pipeline")
        pipeline = getattr(module, name)
        assert isinstance(pipeline, kfp.dsl.graph_component.GraphComponent)
        wanted = inspect.signature(pipeline.pipeline_func).parameters
        found = argo_walk.templates()[f"carryover-{name}"]["spec"]["arguments"]["parameters"]
        assert {one["name"] for one in found} - sizes == set(wanted), name
        for one in found:
            if one["name"] in sizes:
                continue
            default = wanted[one["name"]].default
            if default is inspect.Parameter.empty:
                assert "value" not in one, one["name"]
            else:
                assert one["value"] == as_text(one["name"], default), one["name"]


def as_text(name: str, default: object) -> str:
    if name in ("nproc_per_node", "time_limit", "max_drift"):
        return ""
    return default if isinstance(default, str) else json.dumps(default)
