"""The component `train_ddp` in a process of its own, through kfp's local runner."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

from pathlib import Path

import pytest

from ..component import train_ddp

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """One rank trains a small network for an epoch."""
    made = samples.prepared(tmp_path)
    task = train_ddp(dataset_uri=made.dataset_uri, store=made.store, recipe=samples.RECIPE, nproc_per_node=1)
    assert task.outputs["lost_steps"] == 0
    assert Path(task.outputs["model"].path, "model.json").is_file()
    assert Path(task.outputs["model_uri"]).parent == Path(made.store, "models")
    assert "val_roc_auc" in task.outputs["metrics"].metadata
