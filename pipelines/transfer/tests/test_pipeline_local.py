"""The pipeline `transfer` through kfp's local runner, from rows to its outputs."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

import pytest

from ..pipeline import transfer

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """A Model's backbone starts another run on rows with the same columns."""
    made = samples.trained(tmp_path)
    new = tmp_path / "new"
    new.mkdir()
    task = transfer(
        source=[samples.rows(new, 150)],
        label=samples.LABEL,
        model_uri=made.model_uri,
        store=made.store,
        recipe=samples.RECIPE,
    )
    assert task.outputs["model_uri"] != made.model_uri
