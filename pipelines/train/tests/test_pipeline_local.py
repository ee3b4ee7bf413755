"""The pipeline `train` through kfp's local runner, from rows to its outputs."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

import pytest

from ..pipeline import train

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """Rows become a Model in the store."""
    store = str(tmp_path / "store")
    task = train(source=[samples.rows(tmp_path)], label=samples.LABEL, store=store, recipe=samples.RECIPE)
    assert task.outputs["model_uri"].startswith(f"{store}/models/")
