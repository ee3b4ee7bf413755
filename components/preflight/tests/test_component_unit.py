"""The component `preflight` called as a function, on small real data."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false
# The catalog's checks allow the standard library, kfp and pytest at the top: the runtime is where it is installed.

import pytest

from ..component import preflight

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_a_store_and_rows_pass(tmp_path):
    """It says the store's canonical spelling, and leaves nothing behind there."""
    source = samples.rows(tmp_path)
    given = {"source": [source], "label": samples.LABEL, "recipe": samples.RECIPE}
    (store,) = preflight.python_func(store=f"{tmp_path}/./store/", **given)
    assert store == str(tmp_path / "store")


def test_a_wrong_recipe_key_is_told_before_anything_costs_money(tmp_path, capsys):
    """Exit code 2 is "wrong input": nothing retries it."""
    with pytest.raises(SystemExit) as ended:
        preflight.python_func(store=str(tmp_path / "store"), set=["optimization.lerning_rate=1"])
    assert ended.value.code == 2
    assert "did you mean 'optimization.learning_rate'?" in capsys.readouterr().err
