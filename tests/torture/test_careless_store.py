"""A real store that ignores preconditions (rclone's S3 server): refused at the start, and caught where it is not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from carryover.cli.main import main
from carryover.ground import storage
from tests.support import s3_server as s3
from tests.support.last_words import error_of
from tests.torture.harness import new_run, note, said, start, violations
from tests.torture.worker import Attempt

CONTROLS = 3


@pytest.fixture(scope="module")
def server() -> Iterator[s3.S3Server]:
    server = s3.start("rclone")
    yield server
    server.stop()


@pytest.fixture
def careless(server: s3.S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place on it. Its endpoint is said, as file systems of other servers live on in this process."""
    monkeypatch.setattr(storage, "S3_OPTIONS", {**storage.S3_OPTIONS, "endpoint_url": server.endpoint})
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.BUCKET}/careless"


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    (tmp_path / "rows.csv").write_text("x,label\n" + "".join(f"{x},{'ab'[x % 2]}\n" for x in range(40)))
    words = ["prepare-data", "--source", tmp_path / "rows.csv", "--label", "label", "--output", tmp_path]
    main([*map(str, words), "--store", str(tmp_path / "store")])
    return json.loads((tmp_path / "result.json").read_text())["uri"]


@pytest.mark.parametrize("step", ["preflight", "train-ddp"])
def test_it_is_refused_before_anything_starts(
    careless: str, dataset: str, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([step, "--store", careless, *(["--dataset", dataset] if step == "train-ddp" else [])])
    error = error_of(capsys.readouterr().err)
    assert ended.value.code == 2
    assert error.startswith(f"error: store {careless}: ignores conditional writes")
    assert "use a local folder, or an object store that honours them" in error
    assert storage.open_store(careless).walk() == [], "nothing is left there"


@pytest.mark.slow
def test_a_zombie_on_it_is_caught(careless: str, tmp_path: Path) -> None:
    """The control: attempts that ask no probe. A zombie that is woken writes over its successor's records."""
    found = [line for _ in range(CONTROLS) for line in _haunt(tmp_path, new_run(careless))]
    note("control, must fail: zombies", store="S3 (rclone, no conditions)", count=CONTROLS, violations=len(found))
    assert len(found) >= CONTROLS


def _haunt(folder: Path, uri: str) -> list[str]:
    """Let an attempt stand still, another one go on, and the first one write again; returns what is wrong then."""
    zombie = start(Attempt(uri, said(folder), "job"))
    attempts = [zombie]
    try:
        assert zombie.until(lambda: len(zombie.saved()) >= 1)
        zombie.freeze()
        attempts.append(successor := start(Attempt(uri, said(folder), "job")))
        assert successor.until(lambda: len(successor.saved()) >= 2)
        successor.freeze()
        before = len(zombie.saved())
        zombie.thaw()
        zombie.until(lambda: len(zombie.saved()) > before + 1)
    finally:
        for one in attempts:
            one.end()
    return violations(uri, [step for one in attempts for step in one.saved()])
