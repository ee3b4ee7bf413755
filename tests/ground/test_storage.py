"""Stores: local, in memory, and on a real S3 server; what is atomic there must be so here."""

import os
import socket
import threading
import time
import uuid
from pathlib import Path

import pytest

from carryover.ground import failures, storage
from carryover.ground.errors import RunAgain, WrongInput
from carryover.ground.storage import Store, open_store

THREADS = 16


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return open_store(request.getfixturevalue("s3_store_uri"))
    return open_store(str(tmp_path / "store") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def test_files_come_and_go(store: Store, tmp_path: Path) -> None:
    assert not store.exists("a/b.txt")
    assert store.size("a/b.txt") is None
    with pytest.raises(FileNotFoundError):
        store.read("a/b.txt")
    store.write("a/b.txt", b"0123456789")
    assert (store.read("a/b.txt"), store.size("a/b.txt")) == (b"0123456789", 10)
    assert store.read_range("a/b.txt", 2, 5) == b"234"
    store.write("a/b.txt", bytearray(b"new"))
    assert store.read("a/b.txt") == b"new"
    assert store.create("a/c.txt", b"first")
    assert not store.create("a/c.txt", b"second")
    assert store.read("a/c.txt") == b"first"
    store.write("top", b"t")
    # A folder is no file, nor is there anything below a file.
    assert not store.exists("a")
    assert store.size("top/below") is None
    assert (store.names("a"), store.names(), store.folders()) == (["b.txt", "c.txt"], ["top"], ["a"])
    assert store.walk() == ["a/b.txt", "a/c.txt", "top"]
    assert store.sub("a").walk() == ["b.txt", "c.txt"]
    store.download("a/b.txt", tmp_path / "deep" / "copy")
    store.upload(tmp_path / "deep" / "copy", "d")
    with store.open("d") as file:
        assert file.read() == b"new"
    assert storage.open_uri(store.at("d")).read() == b"new"
    store.delete("d")
    store.delete("d")
    store.delete_folder("a")
    store.delete_folder("a")
    assert store.walk() == ["top"]
    assert (store.names("a"), store.folders("a"), store.walk("a")) == ([], [], [])


def test_of_many_creators_exactly_one_wins(store: Store) -> None:
    start, won = threading.Barrier(THREADS), list[int]()

    def create(number: int) -> None:
        mine = open_store(store.uri)
        start.wait()
        if mine.create("race", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("race") == str(won[0]).encode()


@pytest.mark.parametrize("size", [10, 12 << 20])
def test_a_file_that_is_not_finished_never_appears(store: Store, size: int) -> None:
    """12 MiB is more than a part of a multipart upload has, so that one has begun when the error comes."""

    def write(*, fail: bool) -> None:
        with store.open_write("big") as file:
            file.write(b"x" * size)
            assert not store.exists("big")
            if fail:
                raise KeyError("full")

    with pytest.raises(KeyError):
        write(fail=True)
    assert store.walk() == []
    if store.local:
        assert list(store.local.iterdir()) == []
    write(fail=False)
    assert store.size("big") == size


def test_expand_finds_files_patterns_and_folders(store: Store) -> None:
    for name in ("p/b.csv", "p/a.csv", "p/c.txt", "p/_hidden", "p/q/d.csv"):
        store.write(name, b"1")
    at = [store.at(name) for name in ("p/a.csv", "p/b.csv", "p/c.txt", "p/q/d.csv")]
    assert storage.expand(store.at("p/a.csv")) == at[:1]
    assert storage.expand(store.at("p/*.csv")) == at[:2]
    # A pattern says itself what it wants, a folder leaves out what begins with a dot or an underscore.
    assert storage.expand(store.at("p/*")) == [store.at("p/_hidden"), *at[:3]]
    assert storage.expand(store.at("p/**/*.csv"))[-1] == at[3]
    assert storage.expand(store.at("p")) == at[:3]
    assert storage.expand(store.at("p") + "/") == at[:3]
    for missing in ("p/x.csv", "p/x*.csv", "nowhere"):
        with pytest.raises(WrongInput, match="no file found there"):
            storage.expand(store.at(missing))


def test_a_local_file_with_brackets_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").write_text("x")
    (tmp_path / "a1.csv").write_text("x")
    assert storage.expand(str(tmp_path / "a[1].csv")) == [str(tmp_path / "a[1].csv")]
    assert storage.expand(f"file://{tmp_path}/a?.csv") == [str(tmp_path / "a1.csv")]


def test_a_fingerprint_tells_versions_apart(store: Store) -> None:
    store.write("f", b"one")
    before = storage.fingerprint(store.at("f"))
    assert storage.fingerprint(store.at("f")) == before
    store.write("f", b"two")
    after = storage.fingerprint(store.at("f"))
    assert after != before
    assert (after["uri"], after["size"]) == (store.at("f"), 3)


def test_probe_says_whether_creation_is_conditional(store: Store) -> None:
    assert store.probe()
    assert store.walk() == []


def test_probe_refuses_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("I am no folder")
    for uri in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), "/proc/carryover"):
        with pytest.raises(WrongInput) as error:
            open_store(uri).probe()
        assert str(error.value).startswith(f"store {uri}: can't be written: ")
        assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_probe_refuses_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(WrongInput, match="can't be written: PermissionError"):
        open_store(str(tmp_path)).probe()
    tmp_path.chmod(0o700)


def test_probe_refuses_a_bucket_that_is_not_there(s3_env: dict[str, str]) -> None:
    with pytest.raises(WrongInput, match=r"^store s3://no-such-bucket-here/x: can't be written: "):
        open_store("s3://no-such-bucket-here/x").probe()


def test_minio_is_s3_at_the_configured_endpoint(s3_store_uri: str) -> None:
    store = open_store(s3_store_uri.replace("s3://", "minio://"))
    assert store.uri == s3_store_uri
    store.write("a", b"1")
    assert open_store(s3_store_uri).read("a") == b"1"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "an empty URI names nothing"),
        ("simplecache::file:///etc", "chained URIs"),
        ("/tmp/a::s3://b", "chained URIs"),
        ("reference://x", "scheme 'reference' is not supported"),
        ("http://example.org/x", "scheme 'http' is not supported"),
        ("S4://x", "scheme 'S4' is not supported"),
    ],
)
def test_only_plain_uris_of_known_schemes(uri: str, message: str) -> None:
    for use in (open_store, storage.normal, storage.expand, storage.open_uri, storage.fingerprint):
        with pytest.raises(WrongInput, match=message):
            use(uri)


def test_one_spelling_of_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.normal("a/../b/") == str(tmp_path / "b")
    assert storage.normal(f"file://{tmp_path}/b") == str(tmp_path / "b")
    assert storage.normal("s3://bucket/a/") == "s3://bucket/a"
    assert storage.split("s3://bucket/a/b.csv") == ("s3://bucket/a", "b.csv")
    assert storage.join("s3://bucket/a/", "b") == "s3://bucket/a/b"


def test_copying_a_folder_between_stores(store: Store, tmp_path: Path) -> None:
    store.write("a/b", b"1" * 100)
    target = open_store(str(tmp_path / "copy"))
    storage.copy_tree(store, target, store.walk())
    assert target.read("a/b") == b"1" * 100


def test_a_store_that_never_answers_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A black hole: connections are accepted and nothing is ever said."""
    monkeypatch.setattr(storage, "_CALL_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{hole.getsockname()[1]}")
        for name, value in (("ACCESS_KEY_ID", "k"), ("SECRET_ACCESS_KEY", "s"), ("DEFAULT_REGION", "us-east-1")):
            monkeypatch.setenv(f"AWS_{name}", value)
        store = storage.open_store("s3://bucket/hole")
        # The library keeps one client a set of options; one of another test would ask another server.
        type(store.fs).clear_instance_cache()
        store = storage.open_store("s3://bucket/hole")
        for call in (lambda: store.create("name", b"data"), lambda: store.size("name"), lambda: store.names()):
            began = time.monotonic()
            with pytest.raises(TimeoutError) as caught:
                call()
            assert time.monotonic() - began < 30, "the client's own tries take minutes"
            assert isinstance(failures.named(caught.value), RunAgain)
        type(store.fs).clear_instance_cache()
