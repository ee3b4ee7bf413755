"""The component `train_ddp` called as a function, on small real data."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false
# The catalog's checks allow the standard library, kfp and pytest at the top: the runtime is where it is installed.

from pathlib import Path

import pytest
from kfp import dsl

from ..component import train_ddp

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_a_finished_run_gives_its_model_again(tmp_path):
    """As a retry after the last commit finds it: the same Model, whole in the artifact, with its scores."""
    made = samples.trained(tmp_path)
    model, metrics = dsl.Model(name="model", uri=str(tmp_path / "again")), dsl.Metrics(name="metrics")
    report = dsl.HTML(name="report", uri=str(tmp_path / "report.html"))
    uri, run_key, checkpoint_uri, steps, lost = train_ddp.python_func(
        model=model,
        metrics=metrics,
        report=report,
        dataset_uri=made.dataset_uri,
        store=made.store,
        recipe=samples.RECIPE,
    )
    assert uri == made.model_uri
    assert checkpoint_uri == f"{made.store}/runs/{run_key}"
    assert steps > 0
    assert lost == 0
    assert Path(model.path, "model.json").is_file()
    assert model.metadata["run_key"] == run_key
    assert 0.0 <= metrics.metadata["val_roc_auc"] <= 1.0
    assert run_key in Path(report.path).read_text()
    assert {"attempts", "lost_steps", "optimizer_steps", "rows_per_second"} <= set(metrics.metadata)


def test_an_artifact_and_its_twin_say_the_same_thing(tmp_path, capsys):
    """Exactly one of the two is given."""
    model, metrics = dsl.Model(name="model", uri=str(tmp_path / "model")), dsl.Metrics(name="metrics")
    report = dsl.HTML(name="report", uri=str(tmp_path / "report.html"))
    with pytest.raises(SystemExit) as ended:
        train_ddp.python_func(model=model, metrics=metrics, report=report, store=str(tmp_path / "store"))
    assert ended.value.code == 2
    assert "give the artifact dataset, or dataset_uri" in capsys.readouterr().err
