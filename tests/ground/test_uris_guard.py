"""What a path or URI may not hold: credentials, control characters, a way out of a folder of an object store."""

import pytest

from carryover.ground import uris
from carryover.ground.errors import WrongInput
from carryover_kfp.remote import Server

SECRET = "canaryK7secretQ2x9"


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://key:{SECRET}@bucket/rows.csv",
        f"minio://key:{SECRET}@bucket/rows.csv",
        f"gs://:{SECRET}@bucket/rows.csv",
        f"s3://bucket/rows.csv?X-Amz-Credential=a&X-Amz-Signature={SECRET}",
        f"s3://bucket/rows.csv?versionId=1&X-Amz-Security-Token={SECRET}&x=1",
        f"az://container/rows.csv?sv=2024&sig={SECRET}",
        f"https://user:{SECRET}@example.org/rows.csv",
        f"https://example.org/rows.csv?access_token={SECRET}",
        f"ftp://user:{SECRET}@example.org/rows.csv",
        f"simplecache::s3://key:{SECRET}@bucket/rows.csv",
        f"s3://key:{SECRET}@bucket/a\x1b[2J",
    ],
)
def test_credentials_are_refused_and_not_said_again(uri: str) -> None:
    for use in (uris.scheme_of, uris.normal, uris.split):
        with pytest.raises(WrongInput) as error:
            use(uri)
        assert SECRET not in str(error.value)
        assert "***" in str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/mail@example.org/a:b/rows.csv",
        "abfs://container@account.dfs.core.windows.net/rows.csv",
        "s3://bucket/rows?.csv",
        "s3://bucket/a..b/..c/rows.csv",
        "/data/user:word@home/rows.csv",
        "../rows.csv",
        "file:///data/../rows.csv",
    ],
)
def test_what_only_looks_like_it_is_taken(uri: str) -> None:
    assert uris.scheme_of(uri)
    assert uris.shown(uri) == uri


@pytest.mark.parametrize("uri", ["s3://bucket/team-a/../team-b/rows.csv", "gs://bucket/..", "memory://a/../b"])
def test_an_object_store_has_no_way_up(uri: str) -> None:
    with pytest.raises(WrongInput, match=r"'\.\.' is not followed in an object store"):
        uris.normal(uri)


@pytest.mark.parametrize("uri", ["s3://bucket/a\nerror: all is well", "/data/a\x1b[2J", "rows\x00.csv"])
def test_control_characters_are_told_as_text(uri: str) -> None:
    with pytest.raises(WrongInput, match="control characters") as error:
        uris.normal(uri)
    assert str(error.value).isprintable()


def test_an_address_of_a_server_holds_no_password() -> None:
    for host in (
        f"https://user:{SECRET}@kfp.example.org",
        f"user:{SECRET}@kfp",
        f"ftp://user:{SECRET}@kfp.example.org",
    ):
        with pytest.raises(WrongInput) as error:
            Server(host)
        assert SECRET not in str(error.value)
    assert Server("https://kfp.example.org").host
