"""The component `prepare_data` called as a function, on small real data."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false
# The catalog's checks allow the standard library, kfp and pytest at the top: the runtime is where it is installed.

import json
from pathlib import Path

import pytest
from kfp import dsl

from ..component import prepare_data

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_the_same_rows_are_one_dataset(tmp_path):
    """The artifact is the card; the second time nothing is new to the store."""
    given = {"source": [samples.rows(tmp_path)], "label": samples.LABEL, "store": str(tmp_path / "store")}
    first, second = (dsl.Dataset(name="dataset", uri=str(tmp_path / name)) for name in ("first", "second"))
    report = dsl.HTML(name="report", uri=str(tmp_path / "report"))
    uri, digest, changed = prepare_data.python_func(dataset=first, report=report, **given)
    assert changed
    assert prepare_data.python_func(dataset=second, report=report, **given) == (uri, digest, False)
    assert f"of {samples.LABEL}" in Path(report.path).read_text()
    card = json.loads(Path(second.path, "dataset.json").read_text())
    assert card["digest"] == digest == second.metadata["digest"]
    assert card["at"] == uri


def test_a_label_that_is_not_there_is_wrong_input(tmp_path, capsys):
    """The message names the nearest column."""
    dataset = dsl.Dataset(name="dataset", uri=str(tmp_path / "dataset"))
    with pytest.raises(SystemExit) as ended:
        prepare_data.python_func(
            dataset=dataset,
            report=dsl.HTML(name="report", uri=str(tmp_path / "report")),
            source=[samples.rows(tmp_path)],
            label="like",
            store=str(tmp_path / "store"),
        )
    assert ended.value.code == 2
    assert "liked" in capsys.readouterr().err
