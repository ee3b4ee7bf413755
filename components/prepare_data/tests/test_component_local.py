"""The component `prepare_data` in a process of its own, through kfp's local runner."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false

import json
from pathlib import Path

import pytest

from ..component import prepare_data

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_local_execution(setup_and_teardown_subprocess_runner, tmp_path):
    """The card in the artifact names the rows in the store."""
    task = prepare_data(source=[samples.rows(tmp_path)], label=samples.LABEL, store=str(tmp_path / "store"))
    assert task.outputs["changed"] is True
    card = json.loads(Path(task.outputs["dataset"].path, "dataset.json").read_text())
    assert card["at"] == task.outputs["dataset_uri"]
    assert card["digest"] == task.outputs["dataset_digest"]
