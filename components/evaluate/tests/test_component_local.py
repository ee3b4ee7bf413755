"""The component `evaluate` in a process of its own, through kfp's local runner."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

from pathlib import Path

import pytest

from ..component import evaluate

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """Scores and a report come back through kfp."""
    made = samples.trained(tmp_path)
    task = evaluate(model_uri=made.model_uri, dataset_uri=made.dataset_uri, store=made.store, metric=["accuracy"])
    assert task.outputs["accepted"] is True
    assert list(task.outputs["metrics"].metadata) == ["accuracy"]
    assert Path(task.outputs["report"].path).is_file()
