"""A secret in the environment stays there: everything at DEBUG, and every byte that was written or said is searched.

prepare-data, train-ddp, evaluate      on a real S3 server, with the right secret
the same                               with a wrong one, so that what clients say of it is searched as well
compile                                the pipelines' YAML
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from carryover.ground.storage import open_store
from tests.conftest import CarryoverCli, Finished
from tests.support import s3_server
from tests.train.attempts import write_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CANARY, TOKEN = "canaryK7secretQ2x9", "canaryT5tokenZ8w3"
# Python runs sitecustomize at each start of each process, so ranks and torchrun log as well.
EVERYTHING = "import logging\nlogging.basicConfig(level=logging.DEBUG)\n"
FEW_STEPS = ["--set", "optimization.max_epochs=1", "--set", "env.num_workers=1", "--set", "env.batch_size=32",
             "--set", "data.record_samples=true"]  # fmt: skip


@pytest.fixture
def secret_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3_server.S3Server]:
    """A server of this test's own, whose secret is the canary."""
    monkeypatch.setattr(s3_server, "SECRET_KEY", CANARY)
    server = s3_server.start(os.environ.get("CARRYOVER_TEST_S3", ""))
    # A client that another test made in this process leads to that server, whatever the environment says now.
    S3FileSystem.clear_instance_cache()
    yield server
    S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def loud(tmp_path: Path, secret_server: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch) -> CarryoverCli:
    """The command line with the canaries in its environment and every logger at DEBUG."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(EVERYTHING)
    (tmp_path / "work").mkdir()
    for name, value in {**secret_server.env, "HF_TOKEN": TOKEN, "KFP_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    path = [str(tmp_path / "python"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    return CarryoverCli(tmp_path / "work")


def found_in(place: str, data: bytes) -> list[str]:
    return [f"{name} in {place}" for name, word in (("secret", CANARY), ("token", TOKEN)) if word.encode() in data]


def steps(cli: CarryoverCli, store: str) -> list[Finished]:
    write_rows(cli.cwd / "rows.csv")
    prepared = cli("prepare-data", "--source", "rows.csv", "--label", "liked", "--store", store, "--output", "data")
    path = cli.cwd / "data" / "result.json"
    uri = json.loads(path.read_text())["uri"] if path.exists() else f"{store}/datasets/none"
    out = ["--output", "out", "--outputs-dir", "outputs"]
    trained = cli("train-ddp", "--dataset", uri, "--store", store, *out, *FEW_STEPS)
    path = cli.cwd / "out" / "result.json"
    model = json.loads(path.read_text())["uri"] if path.exists() else f"{store}/models/none"
    return [prepared, trained, cli("evaluate", "--model", model, "--dataset", uri, "--store", store, "--output", "e")]


def test_a_secret_is_in_nothing_that_is_written_or_said(loud: CarryoverCli) -> None:
    place = f"s3://{s3_server.BUCKET}/canary"
    ended = steps(loud, place)
    assert [one.rc for one in ended] == [0, 0, 0], ended[-1].stderr[-2000:]
    store = open_store(place)
    names = store.walk()
    assert {name.split("/")[0] for name in names} == {"datasets", "models", "runs", "evaluations"}
    found = [hit for name in names for hit in found_in(name, store.read(name))]
    compiled = loud("compile", "train", "-o", "pipeline.yaml")
    assert compiled.rc == 0, compiled.stderr[-2000:]
    for index, one in enumerate([*ended, compiled]):
        found += found_in(f"output {index}", (one.stdout + one.stderr).encode())
    files = [path for path in loud.cwd.rglob("*") if path.is_file()]
    found += [hit for path in files for hit in found_in(path.name, path.read_bytes())]
    assert found == []
    # The control: everything was indeed logged, and the search finds what is there.
    assert "DEBUG:botocore" in ended[1].stderr
    assert found_in("here", f"x{CANARY}y".encode()) == ["secret in here"]


def test_a_wrong_secret_is_not_told_either(loud: CarryoverCli, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto takes any secret, a real store refuses it; what is said of it is searched in both cases."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{CANARY}-wrong")
    ended = steps(loud, f"s3://{s3_server.BUCKET}/wrong")
    assert {one.rc for one in ended} <= {0, 2}
    said = "".join(one.stdout + one.stderr for one in ended)
    assert found_in("what was said", said.encode()) == []
