"""The component `promote` in a process of its own, through kfp's local runner."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

import pytest

from ..component import promote

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """The first Model becomes the champion."""
    made = samples.trained(tmp_path)
    task = promote(name="reviews", model_uri=made.model_uri, store=made.store)
    assert task.outputs["promoted"] is True
    assert task.outputs["champion_uri"] == made.model_uri
