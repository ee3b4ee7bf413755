"""The doctor against real servers, well and ill: it says which look failed and how to mend it, and never hangs."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carryover.cli.main import main
from carryover.ground import storage, trouble_page
from carryover.steps import doctor_cluster, doctor_kfp, doctor_machine, doctor_store
from carryover.steps.doctor_look import FAIL, OK, WARN, Finding, Look, look_at_all
from tests.authoring import kfp_server
from tests.support import s3_server as s3
from tests.support.faulty import Fault, FaultyProxy
from tests.support.kube_server import KubeServer, check_there
from tests.support.last_words import error_of


def by_name(found: Iterator[Finding]) -> dict[str, Finding]:
    seen = {one.name: one for one in found}
    for one in seen.values():
        assert one.state == OK or one.mend or one.trouble, one
        assert not one.trouble or one.trouble in trouble_page.entries()
    return seen


def failed(found: dict[str, Finding]) -> set[str]:
    return {name for name, one in found.items() if one.state == FAIL}


@pytest.fixture
def through(s3_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy in front of the S3 server, which the store is asked through."""
    with FaultyProxy(s3_env["AWS_ENDPOINT_URL"]) as proxy:
        _lead_to(proxy.url, monkeypatch)
        yield proxy


def _lead_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # File systems of other servers live on in this process, so the endpoint is said to this one.
    monkeypatch.setattr(storage, "S3_OPTIONS", {**storage.S3_OPTIONS, "endpoint_url": endpoint})
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, endpoint)


def test_all_is_well_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command as machines read it: this machine and a folder, in one object."""
    main(["doctor", "--json", "--store", str(tmp_path / "store")])
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert {"python", "packages", "torch", "accelerator", "memory", "/dev/shm", "scratch", "hub"} <= found.keys()
    assert found["store conditions"]["state"] == OK and found["store delete"]["state"] == OK
    assert found["hub"]["found"].startswith("switched off (HF_HUB_OFFLINE)")
    assert list((tmp_path / "store").iterdir()) == [], "what it wrote is removed"


def test_a_store_on_s3_is_tried_call_by_call(s3_env: dict[str, str], s3_store_uri: str) -> None:
    found = by_name(doctor_store.store(s3_store_uri))
    assert not failed(found)
    calls = "credentials address write read list conditions uploads clock speed delete"
    assert [f"store {word}" for word in calls.split()] == list(found)
    assert s3.SECRET_KEY not in str(found) and s3.ACCESS_KEY not in str(found)
    assert storage.open_store(s3_store_uri).walk() == []


@pytest.mark.parametrize(
    ("kind", "look", "right"),
    [
        ("put-other", "store write", "s3:PutObject"),
        ("get-other", "store read", "s3:GetObject"),
        ("list", "store list", "s3:ListBucket"),
        ("delete", "store delete", "s3:DeleteObject"),
    ],
)
def test_a_missing_right_is_named(through: FaultyProxy, s3_store_uri: str, kind: str, look: str, right: str) -> None:
    through.arm(Fault(kind, "403", times=None))
    found = by_name(doctor_store.store(s3_store_uri))
    assert found[look].state == FAIL
    assert right in found[look].mend and found[look].trouble == "store-forbidden"
    through.arm()


def test_a_store_without_conditions_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    server = s3.start("rclone")
    try:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        _lead_to(server.endpoint, monkeypatch)
        found = by_name(doctor_store.store(f"s3://{s3.BUCKET}/careless"))
    finally:
        server.stop()
    assert found["store conditions"].state == FAIL
    assert found["store conditions"].trouble == "store-refuses-conditions"


def test_a_dead_host_takes_seconds(monkeypatch: pytest.MonkeyPatch, s3_env: dict[str, str]) -> None:
    _lead_to("http://127.0.0.1:9", monkeypatch)
    began = time.monotonic()
    found = by_name(doctor_store.store("s3://bucket/store"))
    assert found["store address"].state == FAIL and "AWS_ENDPOINT_URL" in found["store address"].mend
    found = by_name(doctor_kfp.server("http://127.0.0.1:9", ""))
    assert found["kfp"].trouble == "kfp-unreachable"
    assert time.monotonic() - began < 20


def test_a_host_that_never_answers_is_left_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def ask() -> Iterator[Finding]:
            yield Finding("first", OK, "was found before")
            with socket.create_connection(silent.getsockname()) as connection:
                connection.recv(1)

        (found,) = look_at_all([Look("silent", 0.5, ask)])
    assert [one.name for one in found] == ["first", "silent"]
    assert (found[1].state, found[1].found) == (FAIL, "no end within 0.5 s")


def test_what_goes_wrong_in_a_look_is_its_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--store", "/proc/store"])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert "store write" in error_of(said.err)
    assert any(line.startswith("fail  store write") for line in said.out.splitlines())


def test_a_disk_without_room_fails() -> None:
    # A file system that has no room at all, on every Linux.
    assert doctor_machine.disk("scratch", Path("/proc/none"), "make room").trouble == "disk-full"


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> Iterator[kfp_server.KfpServer]:
    server, http = kfp_server.start()
    monkeypatch.delenv("CARRYOVER_KFP_TOKEN", raising=False)
    yield server
    http.shutdown()
    http.server_close()
    # The older API is not in the definition of the newer one, and one test asks at a wrong place.
    assert all("v1beta1" in one or "/login/" in one for one in server.breaches), server.breaches


def test_a_kfp_server(kfp: kfp_server.KfpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not failed(by_name(doctor_kfp.server(kfp.url, "")))
    kfp.token = "a-bearer-token"
    refused = by_name(doctor_kfp.server(kfp.url, ""))
    assert refused["kfp"].trouble == "kfp-refused" and "CARRYOVER_KFP_TOKEN" in refused["kfp"].mend
    monkeypatch.setenv("CARRYOVER_KFP_TOKEN", "a-bearer-token")
    known = by_name(doctor_kfp.server(kfp.url, ""))
    assert known["kfp login"].state == OK and "a-bearer-token" not in str(known)
    assert by_name(doctor_kfp.server("localhost:8080", ""))["kfp"].trouble == "bad-uri"
    assert failed(by_name(doctor_kfp.server(f"{kfp.url}/login", ""))) == {"kfp"}


def test_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_there()
    server = KubeServer(tmp_path, environment={})
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    try:
        well = by_name(doctor_cluster.cluster(""))
        assert not failed(well) and well["trainer rights"].found.startswith("all 5")
        assert well["argo"].state == WARN and well["kueue"].state == OK
        server.refused |= {"create trainjobs", "get pods/log"}
        server.kinds["trainer.kubeflow.org/v1alpha1"]["clustertrainingruntimes"] = ["another"]
        server.kinds["kueue.x-k8s.io/v1beta1"] = {"localqueues": ["queue-a"]}
        ill = by_name(doctor_cluster.cluster(""))
    finally:
        server.close()
    assert ill["trainer rights"].found == "missing: create trainjobs, get pods/log"
    assert "carryover-ddp is missing (there: another)" in ill["trainer runtime"].found
    assert "queue-a" in ill["kueue"].found
    gone = by_name(doctor_cluster.cluster(""))
    assert gone["cluster"].trouble == "cluster-unreachable"
