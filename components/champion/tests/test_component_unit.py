"""The component `champion` called as a function, on small real data."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false
# The catalog's checks allow the standard library, kfp and pytest at the top: the runtime is where it is installed.

import pytest

from ..component import champion

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_no_champion_is_an_answer(tmp_path):
    """The first run of a pipeline has none."""
    assert champion.python_func(name="reviews", store=str(tmp_path)) == ("", "", "", [], "")


def test_the_newest_champion(tmp_path):
    """What was promoted is found by its name."""
    from carryover.steps.promote import promote

    made = samples.trained(tmp_path)
    promote(name="reviews", model=made.model_uri, store=made.store, accepted=True)
    uri, digest, *_ = champion.python_func(name="reviews", store=made.store)
    assert uri == made.model_uri
    assert uri.endswith(digest)
