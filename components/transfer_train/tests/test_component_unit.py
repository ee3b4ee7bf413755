"""The component `transfer_train` called as a function, on small real data."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false
# The catalog's checks allow the standard library, kfp and pytest at the top: the runtime is where it is installed.

import pytest
from kfp import dsl

from ..component import transfer_train

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_what_to_start_from_is_given_once(tmp_path, capsys):
    """A Backbone as an artifact and by its URI: which one is meant is not guessed."""
    made = samples.trained(tmp_path)
    model, metrics = dsl.Model(name="model", uri=str(tmp_path / "new")), dsl.Metrics(name="metrics")
    report = dsl.HTML(name="report", uri=str(tmp_path / "report.html"))
    backbone = dsl.Model(name="backbone", uri=made.backbone_uri)
    with pytest.raises(SystemExit) as ended:
        transfer_train.python_func(
            model=model,
            metrics=metrics,
            report=report,
            backbone=backbone,
            backbone_uri=made.backbone_uri,
            dataset_uri=made.dataset_uri,
            store=made.store,
        )
    assert ended.value.code == 2
    assert "backbone and backbone_uri say the same thing" in capsys.readouterr().err
