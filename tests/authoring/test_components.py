"""The folder contract of a component, and that it fits the step it calls."""

import ast
import importlib
import inspect
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from carryover_kfp import catalog, readme

COMPONENTS = catalog.components()
PIPELINES = catalog.pipelines()
# An artifact and its string twin are one flag of the step; a list of one thing is a flag that may be given again.
FLAGS = {
    "dataset_uri": "--dataset",
    "more_dataset_uris": "--dataset",
    "baseline_uri": "--baseline",
    "stage_uris": "--stage",
    "model_uri": "--model",
    "column_types": "--column-type",
    "init_from_uri": "--init-from",
    "backbone_uri": "--backbone",
    "against": "--expect",
}
# A champion's name is the one word that is no flag.
BARE = {"name"}
SAMPLES = {
    "Integer": "2",
    "Float": "0.5",
    "String": "text",
    "Boolean": None,
}
# Where a step allows only some words.
WORDS = {
    "resume": "must",
    "launcher": "trainjob",
    "split": "validation",
    "problem_type": "binary",
    "column_types": "zip=categorical",
    "min_gain": "0.01",
    "max_forgetting": "0",
}
REQUIRED = {
    "champion": ["name"],
    "dump_backbone": ["model_uri"],
    "evaluate": ["model_uri", "dataset_uri"],
    "find_model": ["model_uri"],
    "prepare_data": ["source", "label"],
    "promote": ["name", "model_uri"],
    "train_ddp": ["dataset_uri"],
    "transfer_train": ["backbone_uri", "dataset_uri"],
}


def folder_of(function: Any) -> Path:
    return Path(inspect.getfile(function)).parent


def tree_of(name: str) -> ast.Module:
    return ast.parse(inspect.getsource(inspect.getmodule(catalog.load_component(name).python_func)))  # type: ignore[arg-type]


def parameters(name: str) -> dict[str, Any]:
    inputs = catalog.load_component(name).component_spec.inputs or {}
    return {key: spec for key, spec in inputs.items() if not spec.type.startswith("system.")}


def flags(name: str, key: str) -> list[str]:
    """One parameter as the words of the command line."""
    flag = FLAGS.get(key, "--" + key.replace("_", "-"))
    kind = parameters(name)[key].type
    if key in BARE:
        return ["text"]
    sample = WORDS.get(key) or SAMPLES.get(kind, "key=value" if key == "set" else "text")
    return [flag] if kind == "Boolean" else [flag, str(sample)]


def test_the_four_steps_have_a_component():
    assert {"preflight", "prepare_data", "train_ddp", "evaluate"} <= set(COMPONENTS)


@pytest.mark.parametrize("name", COMPONENTS)
def test_parameters_are_flags_of_the_step(name):
    command: click.Command = importlib.import_module(f"carryover.cli.{name}").command
    words = [word for key in REQUIRED.get(name, []) for word in flags(name, key)]
    for key in parameters(name):
        given = words if key in REQUIRED.get(name, []) else [*words, *flags(name, key)]
        # The runtime's own parser takes it; nothing is run.
        command.make_context(name, list(given), resilient_parsing=False)


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_body_calls_the_step_with_what_it_takes(name):
    step = getattr(importlib.import_module(f"carryover.steps.{name}"), name)
    taken = inspect.signature(step).parameters
    calls = [
        node
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "step"
    ]
    assert len(calls) == 1
    assert {keyword.arg for keyword in calls[0].keywords} <= set(taken)


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_parameter_reaches_the_body(name):
    function = next(node for node in tree_of(name).body if isinstance(node, ast.FunctionDef))
    used = {node.id for statement in function.body for node in ast.walk(statement) if isinstance(node, ast.Name)}
    assert {argument.arg for argument in function.args.args} <= used


@pytest.mark.parametrize("name", COMPONENTS)
def test_artifacts_only_through_their_path(name):
    function = next(node for node in tree_of(name).body if isinstance(node, ast.FunctionDef))
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute):
            assert node.attr != "uri", f"line {node.lineno}: on a cluster .uri must stay under the run's root"
            assert not (isinstance(node.ctx, ast.Store) and node.attr == "path"), f"line {node.lineno}"


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_artifact_input_has_a_string_twin(name):
    inputs = catalog.load_component(name).component_spec.inputs or {}
    for key, spec in inputs.items():
        if spec.type.startswith("system."):
            assert spec.optional
            assert inputs[f"{key}_uri"].type == "String"
            assert inputs[f"{key}_uri"].default == ""


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_image_is_a_literal_and_kfp_is_not_installed(name):
    tree = tree_of(name)
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    (decorator,) = function.decorator_list
    assert isinstance(decorator, ast.Call)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in decorator.keywords}
    # In the decorator itself: the catalog's tools find and replace it there, without running the file.
    image = ast.literal_eval(given.pop("base_image"))
    assert given == {"install_kfp_package": "False"}
    # A moving tag would make KFP's cache and a rerun mean something else tomorrow.
    tag = image.rpartition(":")[2]
    assert tag.startswith("v")
    assert tag.count(".") == 2


def top_level_imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_needs_only_kfp_to_be_read(name):
    path = folder_of(catalog.load_component(name).python_func) / "component.py"
    assert top_level_imports(path) <= {*sys.stdlib_module_names, "kfp"}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_needs_only_kfp_and_our_authoring_side(name):
    path = folder_of(catalog.load_pipeline(name).pipeline_func) / "pipeline.py"
    assert top_level_imports(path) <= {*sys.stdlib_module_names, "kfp", "carryover_kfp"}


def folders() -> list[Path]:
    return [folder_of(catalog.load_component(name).python_func) for name in COMPONENTS] + [
        folder_of(catalog.load_pipeline(name).pipeline_func) for name in PIPELINES
    ]


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_the_folder_contract(folder):
    code = "component.py" if folder.parent.name == "components" else "pipeline.py"
    for file in ("__init__.py", code, "metadata.yaml", "README.md", "OWNERS"):
        assert (folder / file).is_file(), file
    facts = yaml.safe_load((folder / "metadata.yaml").read_text())
    assert list(facts)[:4] == ["name", "stability", "dependencies", "lastVerified"]
    assert facts["name"] == folder.name
    assert facts["stability"] in ("experimental", "alpha", "beta", "stable")
    assert facts["dependencies"]["kubeflow"][0]["name"] == "Pipelines"
    assert facts["dependencies"]["kubeflow"][0]["version"].lstrip(">=").count(".") == 2
    assert isinstance(facts["lastVerified"], datetime)
    assert yaml.safe_load((folder / "OWNERS").read_text())["approvers"]


def test_readmes_are_what_the_docstrings_say():
    assert readme.stale() == [], "run `python -m carryover_kfp.readme`"


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_input_and_output_is_explained(name):
    component = catalog.load_component(name)
    text = dict(readme.pages())[folder_of(component.python_func) / "README.md"]
    for key in [*(component.component_spec.inputs or {}), *(component.component_spec.outputs or {})]:
        (row, *_) = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
        assert row.split("|")[-2].strip(), f"{key} has no words in the docstring"
