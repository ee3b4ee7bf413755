"""The component `champion` in a process of its own, through kfp's local runner."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

import pytest

from ..component import champion

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """Without a champion every output is empty, and the step succeeds."""
    samples.rows(tmp_path)
    task = champion(name="reviews", store=str(tmp_path / "store"))
    assert task.outputs["model_uri"] == ""
    assert task.outputs["dataset_uris"] == []
