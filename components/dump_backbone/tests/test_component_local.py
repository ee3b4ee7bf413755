"""The component `dump_backbone` in a process of its own, through kfp's local runner."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

from pathlib import Path

import pytest

from ..component import dump_backbone

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """The artifact is a folder that needs nothing else."""
    made = samples.trained(tmp_path)
    task = dump_backbone(store=made.store, model_uri=made.model_uri)
    assert task.outputs["backbone_uri"] == made.backbone_uri
    assert Path(task.outputs["backbone"].path, "backbone.json").is_file()
