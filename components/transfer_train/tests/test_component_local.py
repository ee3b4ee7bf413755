"""The component `transfer_train` in a process of its own, through kfp's local runner."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

import json
from pathlib import Path

import pytest

from ..component import transfer_train

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """A new run starts from the weights of another one's backbone, and its card says which it took."""
    made = samples.trained(tmp_path)
    task = transfer_train(
        backbone_uri=made.backbone_uri, dataset_uri=made.dataset_uri, store=made.store, recipe=samples.RECIPE
    )
    assert task.outputs["model_uri"] != made.model_uri
    card = json.loads(Path(task.outputs["model"].path, "model.json").read_text())
    assert card["run_key"] == task.outputs["run_key"]
