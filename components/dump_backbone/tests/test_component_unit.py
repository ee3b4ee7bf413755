"""The component `dump_backbone` called as a function, on small real data."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false
# The catalog's checks allow the standard library, kfp and pytest at the top: the runtime is where it is installed.

import json
from pathlib import Path

import pytest
from kfp import dsl

from ..component import dump_backbone

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_the_same_weights_are_one_backbone(tmp_path):
    """The artifact holds the branches and the card; the digest is that of the Backbone in the store."""
    made = samples.trained(tmp_path)
    backbone = dsl.Model(name="backbone", uri=str(tmp_path / "taken"))
    report = dsl.HTML(name="report", uri=str(tmp_path / "report"))
    uri, digest = dump_backbone.python_func(
        backbone=backbone, report=report, store=made.store, model_uri=made.model_uri
    )
    assert digest in Path(report.path).read_text()
    assert uri == made.backbone_uri
    card = json.loads(Path(backbone.path, "backbone.json").read_text())
    assert card["digest"] == digest == backbone.metadata["digest"]
    assert Path(backbone.path, "numerical_mlp", "model.safetensors").is_file()
