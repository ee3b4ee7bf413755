"""The component `find_model` in a process of its own, through kfp's local runner."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

import pytest

from ..component import find_model

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """All five outputs reach kfp, the list as a list."""
    made = samples.trained(tmp_path)
    task = find_model(store=made.store, model_uri=made.model_uri)
    assert task.outputs["model_uri"] == made.model_uri
    assert task.outputs["dataset_uris"] == [task.outputs["dataset_uri"]]
