"""Bulk bytes on S3: by obstore and by s3fs, each against the plain calls of the file system, bit for bit."""

import itertools
import json
import os
import random
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.config import Config

from carryover.ground import failures, remote_folder, storage, transfer, transfer_obstore
from carryover.ground.digests import Hasher, digest
from carryover.ground.errors import CarryoverError, RunAgain, WrongInput
from carryover.ground.storage import Store, open_store
from carryover.ground.unfinished import unfinished
from tests.support.faulty import Fault, FaultyProxy

# Three parts, the last of them odd.
SIZE = 2 * transfer.PART + 12345


@pytest.fixture(scope="module")
def data() -> bytes:
    return random.Random(3).randbytes(SIZE)


@pytest.fixture(params=["obstore", "fsspec"])
def choice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(remote_folder.CHOICE, request.param)
    return request.param


@pytest.fixture
def store(choice: str, s3_store_uri: str) -> Store:
    return open_store(s3_store_uri)


@pytest.fixture
def proxy(s3_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy in front of the S3 server, which stores are asked through; deadlines of seconds."""
    with FaultyProxy(s3_env["AWS_ENDPOINT_URL"]) as proxy:
        quick = {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 2}}
        monkeypatch.setattr(storage, "S3_OPTIONS", {"endpoint_url": proxy.url, "config_kwargs": quick})
        monkeypatch.setattr(storage, "_CALL_SECONDS", 20.0)
        monkeypatch.setattr(storage, "_SLOWEST_BYTES_A_SECOND", 64 << 20)
        yield proxy


def plainly(store: Store, name: str) -> bytes:
    """The slow twin: one call of the file system."""
    return store.fs.cat_file(store.at(name))


@pytest.mark.parametrize("size", [0, 1, transfer.LEAST, transfer.PART, SIZE])
def test_what_is_written_in_any_way_is_read_in_any_way(store: Store, data: bytes, size: int, tmp_path: Path) -> None:
    content, cuts = data[:size], random.Random(size)
    at = sorted({0, size, *(cuts.randrange(size + 1) for _ in range(20))})
    pieces = [memoryview(content)[a:b] for a, b in itertools.pairwise(at)]
    store.write("whole", content)
    store.write_pieces("pieces", iter(pieces), size=size)
    with store.open_write("stream") as file:
        for piece in pieces:
            reused = bytearray(piece)
            file.write(reused)
            # Who has written may use the memory again.
            reused[:] = bytes(len(reused))
    (tmp_path / "file").write_bytes(content)
    store.upload(tmp_path / "file", "uploaded")
    for name in ("whole", "pieces", "stream", "uploaded"):
        assert plainly(store, name) == content
        buffer, hasher = bytearray(size), Hasher()
        assert store.read_into(name, buffer, seen=hasher.update) == size
        assert buffer == content and hasher.hexdigest() == digest(content)
        assert b"".join(store.pieces(name)) == content == b"".join(store.pieces(name, size))
    store.download("whole", tmp_path / "back")
    storage.copy_tree(store, store.sub("copy"), ["stream"])
    assert (tmp_path / "back").read_bytes() == content == plainly(store, "copy/stream")
    assert unfinished(store, "") == []


def test_a_file_of_another_size_says_so(store: Store, data: bytes) -> None:
    store.write("a", data)
    store.write("empty", b"")
    for size in (SIZE - 1, SIZE + 1, 5 * transfer.PART, transfer.LEAST):
        assert store.read_into("a", bytearray(size)) == SIZE
    assert store.read_into("empty", bytearray(SIZE)) == 0
    for read in (lambda: store.read_into("none", bytearray(SIZE)), lambda: list(store.pieces("none", SIZE))):
        with pytest.raises(FileNotFoundError):
            read()


def test_what_fails_on_the_way_leaves_nothing(store: Store, data: bytes) -> None:
    def broken() -> Iterator[bytes]:
        yield data
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        store.write_pieces("a", broken(), size=2 * SIZE)

    def interrupted() -> None:
        with store.open_write("a") as file:
            file.write(data)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        interrupted()
    assert store.walk() == [] and unfinished(store, "") == []


@pytest.mark.parametrize("how", ["500", "reset", pytest.param("hole", marks=pytest.mark.slow)])
@pytest.mark.parametrize("skip", [0, 2])
def test_a_store_that_takes_no_parts_is_given_up(
    proxy: FaultyProxy, store: Store, data: bytes, how: str, skip: int
) -> None:
    """The last parts of an upload as well: they fail when all has been handed over."""
    fault = Fault("put-part", how, skip=skip, times=None)
    for write in (lambda: store.write("a", data), lambda: store.write_pieces("a", iter([data]), size=SIZE)):
        proxy.arm(fault)
        assert isinstance(_named(write), RunAgain) and fault.struck
        proxy.arm()
        assert not store.exists("a")
        assert _soon_none(store)


def _named(call: Callable[[], object]) -> CarryoverError | None:
    """Clients raise kinds of their own; what ours is tells what it means."""
    try:
        call()
    except Exception as error:
        return failures.named(error)
    return None


def _soon_none(store: Store) -> bool:
    """An upload that was cut off by its deadline is dropped behind the caller's back."""
    deadline = time.monotonic() + 30
    while unfinished(store, "") and time.monotonic() < deadline:
        time.sleep(0.1)
    return unfinished(store, "") == []


@pytest.mark.parametrize("how", ["500", "reset", "cut", "hole", "slow", "short"])
def test_a_part_that_fails_once_is_fetched_again(
    proxy: FaultyProxy, store: Store, data: bytes, how: str, choice: str
) -> None:
    store.write("a", data)
    fault = Fault("get-other", how, skip=1)
    proxy.arm(fault)
    buffer = bytearray(SIZE)
    if how == "short" and choice == "obstore":
        # An answer that is shorter and says so itself is no failure to this client; to us it is.
        with pytest.raises(ConnectionError, match="fewer bytes"):
            store.read_into("a", buffer)
    else:
        assert store.read_into("a", buffer) == SIZE and buffer == data
    assert fault.struck == 1


def test_each_byte_is_asked_for_once(proxy: FaultyProxy, store: Store, data: bytes) -> None:
    store.write("warm", b"1")
    proxy.calls.clear()
    store.write_pieces("a", iter([data]), size=SIZE)
    assert proxy.calls == {"create-multipart": 1, "put-part": 3, "complete-multipart": 1}
    proxy.calls.clear()
    store.read_into("a", bytearray(SIZE))
    assert proxy.calls == {"get-other": 3}
    proxy.calls.clear()
    with store.open_write("b") as file:
        file.write(b"small")
    store.write("c", data[: transfer.PART])
    assert proxy.calls == {"put-other": 2}


@pytest.mark.slow
def test_memory_is_a_few_parts_however_large_a_file_is(proxy: FaultyProxy, store: Store) -> None:
    """A store that takes nothing: whoever writes has to wait when so many parts are on their way."""
    proxy.arm(Fault("put-part", "hole", times=None))
    written = 0

    def write() -> None:
        nonlocal written
        with store.open_write("a") as file:
            for _ in range(4 * transfer.IN_FLIGHT):
                written += file.write(bytes(transfer.PART))

    assert isinstance(_named(write), RunAgain)
    assert written <= (transfer.IN_FLIGHT + 5) * transfer.PART


@pytest.mark.parametrize(("wrong", "kind"), [("key", WrongInput), ("port", RunAgain), ("bucket", WrongInput)])
def test_errors_mean_the_same_by_both(
    choice: str, s3_store_uri: str, data: bytes, monkeypatch: pytest.MonkeyPatch, wrong: str, kind: type
) -> None:
    options = {"key": {"key": "nobody", "secret": "verysecret"}, "port": {"endpoint_url": "http://127.0.0.1:9"}}
    quick = {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 1}}
    monkeypatch.setattr(storage, "S3_OPTIONS", {"config_kwargs": quick, **options.get(wrong, {})})
    uri = "s3://no-such-bucket/x" if wrong == "bucket" else s3_store_uri
    named = _named(lambda: open_store(uri).write("a", data))
    assert named is not None and "the store failed" in str(named) and "\n" not in str(named)
    # (s3fs calls a bucket that is not there a file that is not, which may be there soon.)
    assert isinstance(named, kind) or (wrong, choice) == ("bucket", "fsspec")
    assert "verysecret" not in str(named) and "<" not in str(named)


def test_credentials_and_endpoint_of_a_profile(
    s3_env: dict[str, str], s3_store_uri: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    """A program that gives credentials which soon end, named in a configuration file, and asked by both in one way."""
    program, asked = tmp_path / "give", tmp_path / "asked"
    words = {"Version": 1, "AccessKeyId": s3_env["AWS_ACCESS_KEY_ID"], "Expiration": "2199-01-01T00:00:00Z"}
    said = json.dumps({**words, "SecretAccessKey": s3_env["AWS_SECRET_ACCESS_KEY"]})
    program.write_text(f"#!{sys.executable}\nopen({str(asked)!r}, 'a').write('x')\nprint({said!r})\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "config").write_text(
        f"[profile {choice}]\nregion = us-east-1\nendpoint_url = {s3_env['AWS_ENDPOINT_URL']}\n"
        f"credential_process = {program}\n"
    )
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setattr(storage, "S3_OPTIONS", {"profile": choice})
    store = open_store(s3_store_uri)
    store.write("a", data)
    buffer = bytearray(SIZE)
    assert store.read_into("a", buffer) == SIZE and buffer == data
    assert asked.read_text() == "x", "one session's credentials serve both clients"


def test_credentials_that_end_in_the_middle_of_an_upload(
    s3_store_uri: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part of an object asks for them anew."""
    monkeypatch.setenv(remote_folder.CHOICE, "obstore")
    monkeypatch.setattr(transfer_obstore, "_CREDENTIALS_MINUTES", 1)
    # (A file system of its own, which has no credentials yet.)
    monkeypatch.setattr(storage, "S3_OPTIONS", {"config_kwargs": {"read_timeout": 21}})
    store = open_store(s3_store_uri)
    store.write("a", data)
    with store.open_write("b") as file:
        file.write(data)
    assert store.read("a", large=True) == store.read("b", large=True) == data


@pytest.mark.parametrize(
    ("bucket", "endpoint", "how", "leads_to", "is_virtual"),
    [
        ("abc", None, {}, "https://abc.s3.eu-central-1.amazonaws.com", True),
        ("a.b", None, {}, "https://s3.eu-central-1.amazonaws.com", False),
        ("abc", None, {"use_dualstack_endpoint": True}, "https://abc.s3.dualstack.eu-central-1.amazonaws.com", True),
        ("minio", "http://minio.svc:9000", {}, "http://minio.svc:9000", False),
        ("abc", "http://host:1/before", {}, "http://host:1/before", False),
        ("abc", "http://ceph.example", {"addressing_style": "virtual"}, "http://abc.ceph.example", True),
    ],
)
def test_a_bucket_is_where_botocore_signs_for(
    monkeypatch: pytest.MonkeyPatch, bucket: str, endpoint: str | None, how: dict, leads_to: str, is_virtual: bool
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    words: dict[str, Any] = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "eu-central-1"}
    config = Config(s3=how)
    client = botocore.session.get_session().create_client("s3", endpoint_url=endpoint, config=config, **words)
    address = urlsplit(client.generate_presigned_url("head_bucket", Params={"Bucket": bucket}))
    place = transfer_obstore.place(bucket, client.meta.region_name, address)
    assert (place["endpoint"], place["virtual_hosted_style_request"]) == (leads_to, is_virtual)


def test_a_choice_that_cannot_be_had_is_said(s3_store_uri: str, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    store = open_store(s3_store_uri)
    monkeypatch.setenv(remote_folder.CHOICE, "boto")
    with pytest.raises(WrongInput, match="'boto' is unknown; give obstore or fsspec"):
        store.write("a", data)
    monkeypatch.setattr(storage, "S3_OPTIONS", {"s3_additional_kwargs": {"ContentType": "text/odd"}})
    store = open_store(s3_store_uri)
    monkeypatch.setenv(remote_folder.CHOICE, "obstore")
    with pytest.raises(WrongInput, match="no word for s3fs's option s3_additional_kwargs"):
        store.write("a", data)
    monkeypatch.delenv(remote_folder.CHOICE)
    store.write("a", data)
    bucket, key, _ = store.fs.split_path(store.at("a"))
    assert store.fs.call_s3("head_object", Bucket=bucket, Key=key)["ContentType"] == "text/odd"
    # obstore would refuse this name.
    store.fs.pipe_file(f"{store.uri}//odd", b"1")
    assert b"".join(store.pieces("/odd")) == b"1"


READS_FOR_EVER = """
import sys, threading, time
from carryover.ground.storage import open_store

store, size, once = open_store(sys.argv[1]), int(sys.argv[2]), threading.Event()

def read():
    while True:
        store.read_into("a", bytearray(size))
        once.set()

threading.Thread(target=read, daemon=True).start()
once.wait(60)
"""


def test_a_process_ends_in_the_middle_of_a_transfer(store: Store, data: bytes) -> None:
    store.write("a", data)
    ended = subprocess.run(
        [sys.executable, "-c", READS_FOR_EVER, store.uri, str(SIZE)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


def test_a_forked_child_leaves_obstore_alone(s3_store_uri: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads are in the parent only: a call would wait for ever."""
    monkeypatch.setenv(remote_folder.CHOICE, "")
    store = open_store(s3_store_uri)
    store.write("a", data)
    assert transfer_obstore.refused(store.fs) == ""
    child = os.fork()
    if not child:
        buffer = bytearray(SIZE)
        good = (
            store.read_into("a", buffer) == SIZE and buffer == data and "forked" in transfer_obstore.refused(store.fs)
        )
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
