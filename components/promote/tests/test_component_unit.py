"""The component `promote` called as a function, on small real data."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false
# The catalog's checks allow the standard library, kfp and pytest at the top: the runtime is where it is installed.

import pytest

from ..component import promote

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_a_rejected_model_is_kept_out_and_a_better_one_takes_the_place(tmp_path):
    """To keep the champion is an outcome, not a failure."""
    made = samples.trained(tmp_path)
    given = {"name": "reviews", "model_uri": made.model_uri, "store": made.store}
    promoted, uri, reason = promote.python_func(**given, accepted=False, reason="worse", owner="monday")
    assert (promoted, uri) == (False, "")
    assert "worse" in reason
    promoted, uri, _ = promote.python_func(**given, force=True, owner="tuesday")
    assert (promoted, uri) == (True, made.model_uri)
