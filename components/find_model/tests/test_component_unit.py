"""The component `find_model` called as a function, on small real data."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportFunctionMemberAccess=false, reportArgumentType=false, reportCallIssue=false
# The catalog's checks allow the standard library, kfp and pytest at the top: the runtime is where it is installed.

import pytest

from ..component import find_model

samples = pytest.importorskip("carryover_kfp.samples", reason="the package carryover is not installed")


def test_a_model_tells_what_it_was_trained_on(tmp_path):
    """By its URI, and by its run's key."""
    made = samples.trained(tmp_path)
    found = find_model.python_func(store=made.store, model_uri=made.model_uri)
    uri, digest, dataset_uri, dataset_uris, dataset_digest = found
    assert uri == made.model_uri
    assert uri.endswith(digest)
    assert dataset_digest.startswith(dataset_uri.rpartition("/")[2])
    assert dataset_uris == [dataset_uri]


def test_a_run_that_is_not_there(tmp_path):
    """It fails: a step behind it must not go on with nothing."""
    with pytest.raises(SystemExit) as ended:
        find_model.python_func(store=str(tmp_path), model_uri="run:nothing")
    assert ended.value.code == 2
