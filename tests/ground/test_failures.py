"""Which errors have a name of ours: a store's own, however a file system wraps them."""

import errno
from collections.abc import Callable

import pytest
import torch
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from carryover.ground import failures
from carryover.ground.errors import CarryoverError, RunAgain, WrongInput


def _wrapped(cause: Exception) -> OSError:
    """An error as s3fs raises it: an OSError without words, from what the client said."""
    try:
        raise OSError(errno.EINVAL, "") from cause
    except OSError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NoCredentialsError(), WrongInput),
        (_wrapped(ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject")), WrongInput),
        (_wrapped(ClientError({"Error": {"Code": "SlowDown", "Message": "later"}}, "PutObject")), RunAgain),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:9"), RunAgain),
        (ReadTimeoutError(endpoint_url="http://127.0.0.1:9"), RunAgain),
        (_wrapped(ReadTimeoutError(endpoint_url="http://127.0.0.1:9")), RunAgain),
        (ConnectionResetError(errno.ECONNRESET, "reset"), RunAgain),
        (TimeoutError(), RunAgain),
        (OSError(errno.ENOSPC, "No space left on device"), RunAgain),
    ],
)
def test_a_stores_error_has_a_name(error: Exception, kind: type[CarryoverError]) -> None:
    named = failures.named(error)
    assert type(named) is kind
    assert "the store failed" in str(named) and "\n" not in str(named)


@pytest.mark.parametrize("allocate", [lambda: bytearray(1 << 60), lambda: torch.empty(1 << 55, dtype=torch.uint8)])
def test_an_allocation_that_failed_is_worth_another_attempt(allocate: Callable[[], object]) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as failed:
        allocate()
    named = failures.named(failed.value)
    assert type(named) is RunAgain
    assert str(named).startswith("out of memory: ") and "env.per_gpu_batch_size" in str(named)


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(errno.ENOENT, "gone"), RuntimeError("gloo")])
def test_other_errors_have_none(error: Exception) -> None:
    assert failures.named(error) is None


def test_ours_stay_what_they_are_also_when_a_client_was_the_reason() -> None:
    ours = WrongInput("store: can't be written")
    ours.__cause__ = EndpointConnectionError(endpoint_url="x")
    assert failures.named(ours) is ours
