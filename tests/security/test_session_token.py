"""A session token travels in a header of each request, and at DEBUG the client's log has whole requests."""

import logging

import pytest
from botocore.exceptions import EndpointConnectionError

from carryover.ground.storage import open_store

TOKEN, SECRET = "canaryT5tokenZ8w3", "canaryK7secretQ2x9"


def test_neither_token_nor_secret_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody listens at that port, but the request is signed and logged before that is known."""
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "canary-session",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.DEBUG)
    store = open_store("s3://bucket/session")
    # A client of its own: file systems are shared within a process, and so would be another test's credentials.
    store.fs.clear_instance_cache()
    store = open_store("s3://bucket/session")
    with pytest.raises(EndpointConnectionError) as error:
        store.create("name", b"content")
    store.fs.clear_instance_cache()
    assert "botocore" in caplog.text
    for word in (TOKEN, SECRET):
        assert word not in caplog.text
        assert word not in repr(error.value)
