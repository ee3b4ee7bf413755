"""What all tests share: an environment without a hub, a real S3 server, a tiny model, and the command line."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import s3_server as s3
from tests.support.tiny_bert import save_tiny_bert

# No test asks a hub, and two cores are soon full: set before any test imports torch or transformers.
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
# Hundreds of trainings need no pictures; the tests of pictures ask for them.
os.environ.setdefault("CARRYOVER_CURVES_SECONDS", "0")

REPOSITORY = Path(__file__).resolve().parents[1]
S3_SERVER = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> Iterator[s3.S3Server]:
    """A real S3 server for the session; `CARRYOVER_TEST_S3=ceph|moto` chooses, else Ceph where it is installed."""
    server = s3.start(os.environ.get("CARRYOVER_TEST_S3", ""))
    request.config.stash[S3_SERVER] = server.kind
    # Where tests run in several processes, the one that sums up has none of their stashes.
    getattr(request.config, "workeroutput", {})["s3"] = server.kind
    yield server
    server.stop()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Takes over from a process of tests which S3 server it had."""
    if kind := getattr(node, "workeroutput", {}).get("s3"):
        node.config.stash[S3_SERVER] = kind


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says which S3 server the tests ran against, as the two differ in what they prove."""
    kind = terminalreporter.config.stash.get(S3_SERVER, "")
    if kind:
        terminalreporter.write_line(f"S3 server: {'Ceph RADOS gateway' if kind == 'ceph' else 'moto (no Ceph here)'}")


@pytest.fixture
def s3_env(s3_server: s3.S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that lead to the S3 server: set in this process (so children inherit them) and returned."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return s3_server.env


@pytest.fixture
def s3_store_uri(s3_env: dict[str, str]) -> str:
    """An empty place of this test's own on the S3 server, as `s3://bucket/prefix`."""
    return f"s3://{s3.BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: `CARRYOVER_SHARED`, or `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("CARRYOVER_SHARED", "") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder}; CARRYOVER_SHARED names their folder")
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random BERT and its tokenizer, to be named as `model.hf_text.checkpoint_name`."""
    return save_tiny_bert(tmp_path_factory.mktemp("tiny-bert"))


@dataclass(frozen=True)
class Finished:
    """How a command ended and what it said."""

    rc: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class CarryoverCli:
    """Runs `carryover ...` as a user does: in a process of its own, in a folder of this test's own."""

    cwd: Path

    def command(self, *args: object) -> list[str]:
        """The whole command line, for tests that start and kill it themselves."""
        return [sys.executable, "-m", "carryover", *map(str, args)]

    def __call__(self, *args: object, env: Mapping[str, str] | None = None, timeout: float = 240) -> Finished:
        """Runs to the end; raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        ended = subprocess.run(
            self.command(*args),
            cwd=self.cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Finished(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def carryover_cli(tmp_path: Path) -> CarryoverCli:
    """`carryover_cli("train-ddp", "--dataset", uri) -> Finished(rc, stdout, stderr)`."""
    return CarryoverCli(tmp_path)
