"""What a compiled pipeline must say, and that the checked-in YAML is what the code compiles to."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from carryover_kfp import catalog
from carryover_kfp.compiling import compiled

PIPELINES = catalog.pipelines()


def spec(name: str) -> dict[str, Any]:
    return yaml.safe_load(compiled(catalog.load_pipeline(name)))


@pytest.mark.parametrize("name", PIPELINES)
def test_the_checked_in_yaml_is_what_the_code_compiles_to(name):
    pipeline = catalog.load_pipeline(name)
    golden = Path(inspect.getfile(pipeline.pipeline_func)).parent / "pipeline.yaml"
    again = f"run `carryover compile {name} -o {golden.parent.parent.name}/{name}/pipeline.yaml` and look at the diff"
    assert golden.read_text() == compiled(pipeline), again


def steps(name: str) -> dict[str, Any]:
    """The tasks that run a container, those inside of an If too, by name."""
    whole = spec(name)

    def below(dag: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, task in dag["tasks"].items():
            component = whole["components"][task["componentRef"]["name"]]
            inner = below(component["dag"]) if "dag" in component else {key: task}
            assert not set(inner) & set(found)
            found |= inner
        return found

    return below(whole["root"]["dag"])


@pytest.mark.parametrize("name", PIPELINES)
def test_caching_is_off_everywhere(name):
    for task in steps(name).values():
        assert not task["cachingOptions"].get("enableCache", False)


@pytest.mark.parametrize("name", PIPELINES)
def test_retries_cover_a_week_and_preflight_is_never_retried(name):
    tasks = steps(name)
    assert "retryPolicy" not in tasks["preflight"]
    for task in (task for key, task in tasks.items() if key != "preflight"):
        assert task["retryPolicy"]["backoffMaxDuration"] == "604800s"
        assert task["retryPolicy"]["maxRetryCount"] >= 20


@pytest.mark.parametrize("name", PIPELINES)
def test_everything_waits_for_preflight(name):
    tasks = spec(name)["root"]["dag"]["tasks"]

    def waits(key: str) -> bool:
        before = tasks[key].get("dependentTasks", [])
        return "preflight" in before or any(waits(other) for other in before)

    assert all(waits(key) for key in tasks if key != "preflight")


@pytest.mark.parametrize("name", PIPELINES)
def test_placeholders_are_whole_values(name):
    for task in steps(name).values():
        for value in task.get("inputs", {}).get("parameters", {}).values():
            constant = str(value.get("runtimeValue", {}).get("constant", ""))
            # KFP replaces nothing inside a longer text.
            assert "{{" not in constant or re.fullmatch(r"\{\{\$\.[a-z_]+\}\}", constant), constant


@pytest.mark.parametrize("name", PIPELINES)
def test_the_store_is_required_and_the_recipe_is_one_text(name):
    inputs = spec(name)["root"]["inputDefinitions"]["parameters"]
    assert not inputs["store"].get("isOptional", False)
    assert inputs["recipe"]["parameterType"] == "STRING"


@pytest.mark.parametrize("name", PIPELINES)
def test_whoever_writes_for_the_run_is_owned_by_it(name):
    owned = [task["inputs"]["parameters"]["owner"] for task in steps(name).values() if _takes(name, task, "owner")]
    assert owned and all(one == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}} for one in owned)


def _takes(name: str, task: dict[str, Any], parameter: str) -> bool:
    inputs = spec(name)["components"][task["componentRef"]["name"]].get("inputDefinitions", {})
    return parameter in inputs.get("parameters", {})


@pytest.mark.parametrize("name", PIPELINES)
def test_another_image_reaches_every_step(name):
    pipeline = catalog.load_pipeline(name)
    ours = yaml.safe_load(compiled(pipeline, image="example/own:v9"))
    executors = ours["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {"example/own:v9"}
    for executor in executors:
        executor["container"]["image"] = "carryover:v0.1.0"
    assert ours == spec(name), "nothing but the image may differ"


def test_compile_writes_a_file_that_kfp_reads(carryover_cli, tmp_path):
    ended = carryover_cli("compile", "train", "-o", tmp_path / "deep" / "train.yaml")
    assert ended.rc == 0, ended.stderr
    from kfp import components

    loaded = components.load_component_from_file(str(tmp_path / "deep" / "train.yaml"))
    assert loaded.name == "train"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compile", "trian"), "no pipeline 'trian'; did you mean 'train'?"),
        (("compile", "train", "-o", "train.txt"), "ends in .yaml"),
        (("run", "train", "--param", "lable=x"), "has no parameter 'lable'; did you mean 'label'?"),
        (("run", "train", "--param", "label"), "must be NAME=VALUE"),
        (("run", "train", "--param", "nproc_per_node=two"), "'two' is not possible; it must be a whole number"),
        (("run", "train", "--param", "takeover=maybe"), "it must be true or false"),
        (("run", "train", "--param", "label=y"), "also needs source: add --param source=..."),
        (("run", "train", "--recipe", "nowhere.yaml"), "--recipe nowhere.yaml"),
        (("run", "train", "--store", "memory://x", "--param", "label=y"), "can't share memory"),
    ],
)
def test_wrong_words_are_one_clear_line(carryover_cli, arguments, said):
    ended = carryover_cli(*arguments)
    assert ended.rc == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_arguments_are_typed():
    pipeline = catalog.load_pipeline("train")
    given = ["source=a.csv", "source=b.csv", "label=x=y", "nproc_per_node=2", "time_limit=1.5", "takeover=True"]
    more = ['column_types={"zip": "categorical"}', 'metric=["f1", "mcc"]', "set=seed=3"]
    assert catalog.arguments(pipeline, [*given, *more]) == {
        "source": ["a.csv", "b.csv"],
        "label": "x=y",
        "nproc_per_node": 2,
        "time_limit": 1.5,
        "takeover": True,
        "column_types": {"zip": "categorical"},
        "metric": ["f1", "mcc"],
        "set": ["seed=3"],
    }
