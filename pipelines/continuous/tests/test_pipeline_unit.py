"""The pipeline `continuous` as it is compiled."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

from kfp import compiler

from ..pipeline import continuous

LAST = "promote"


def steps_of(path):
    """Return the tasks of the compiled pipeline by name; those of its branches too."""
    import yaml

    spec = next(yaml.safe_load_all(path.read_text()))
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    return {name: task for dag in dags for name, task in dag["tasks"].items()}


def test_nothing_is_cached_and_only_the_check_is_never_retried(tmp_path):
    """KFP's cache sees neither new files behind a URI nor new code in an image."""
    compiler.Compiler().compile(continuous, str(tmp_path / "pipeline.yaml"))
    steps = steps_of(tmp_path / "pipeline.yaml")
    assert {"preflight", LAST} <= set(steps)
    assert "retryPolicy" not in steps["preflight"]
    assert "retryPolicy" in steps[LAST]
    for name, step in steps.items():
        assert "enableCache" not in step.get("cachingOptions", {}), name


def test_all_waits_for_the_check():
    """Whatever is asked for, preflight comes first."""
    tasks = continuous.pipeline_spec.root.dag.tasks
    for name, task in tasks.items():
        assert name == "preflight" or task.dependent_tasks, name
