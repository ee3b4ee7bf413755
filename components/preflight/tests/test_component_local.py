"""The component `preflight` in a process of its own, through kfp's local runner."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

import pytest

from ..component import preflight

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """Its one output reaches kfp."""
    task = preflight(store=str(tmp_path / "store"), source=[samples.rows(tmp_path)], label=samples.LABEL)
    assert task.output == str(tmp_path / "store")
