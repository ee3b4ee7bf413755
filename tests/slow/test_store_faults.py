"""A failing save never ends training while it passes; a store that stays away ends it with 75, and nothing is lost."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from carryover.ground.storage import open_store
from tests.conftest import CarryoverCli
from tests.support import processes
from tests.support.relay import Relay
from tests.support.s3_server import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def relay(s3_server: S3Server, s3_env: dict[str, str]) -> Iterator[Relay]:
    with Relay(int(s3_env["AWS_ENDPOINT_URL"].rpartition(":")[2])) as relay:
        yield relay


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Numbers alone: what is tested is the store, and a small network leaves it most of the time."""
    folder, chance = tmp_path_factory.mktemp("faults"), random.Random(0)
    rows = [(chance.gauss(0, 1), chance.gauss(0, 1)) for _ in range(400)]
    lines = [f"{a},{b},{'yes' if a + b > 0 else 'no'}" for a, b in rows]
    (folder / "numbers.csv").write_text("\n".join(["a,b,label", *lines]) + "\n")
    prepared = CarryoverCli(folder)(
        "prepare-data", "--source", "numbers.csv", "--label", "label", "--store", "store", "--output", "."
    )
    assert prepared.rc == 0, prepared.stderr
    return json.loads((folder / "result.json").read_text())["uri"]


def start(
    cli: CarryoverCli, folder: Path, dataset: str, store: str, relay: Relay | None, *, give_up: float
) -> processes.Tree:
    recipe = {
        "optimization.max_epochs": 30,
        "env.batch_size": 8,
        "env.num_workers": 0,
        "env.num_workers_evaluation": 0,
        "checkpoint.every_seconds": 0.3,
        "checkpoint.give_up_seconds": give_up,
    }
    settings = [word for name, value in recipe.items() for word in ("--set", f"{name}={value}")]
    command = cli.command("train-ddp", "--dataset", dataset, "--store", store, "--output", folder / "out", *settings)
    env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}"} if relay else {}
    return processes.start(command, said=folder / "said.txt", cwd=folder, env=env)


def weights(folder: Path) -> bytes:
    return (folder / "out" / "model.ckpt" / "model.safetensors").read_bytes()


def test_training_outlives_an_outage_of_its_store(
    tmp_path: Path, carryover_cli: CarryoverCli, dataset: str, s3_store_uri: str, relay: Relay
) -> None:
    tree = start(carryover_cli, tmp_path, dataset, s3_store_uri, relay, give_up=300)
    assert tree.wait_until(lambda: "committed step" in tree.text())
    relay.cut()
    assert tree.wait_until(lambda: "is tried again" in tree.text())
    relay.mend()
    assert tree.process.wait(timeout=240) == 0, tree.text()[-3000:]
    said = tree.text()
    assert "committed step" in said.partition("is tried again")[2]
    assert json.loads((tmp_path / "out" / "result.json").read_text())["attempts"] == 1
    verified = carryover_cli("checkpoint", "verify", *_home(s3_store_uri))
    assert verified.rc == 0, verified.stderr


def test_a_store_that_stays_away_ends_the_attempt_and_the_next_goes_on(
    tmp_path: Path, carryover_cli: CarryoverCli, dataset: str, s3_store_uri: str, relay: Relay
) -> None:
    (tmp_path / "straight").mkdir()
    straight = start(
        carryover_cli, tmp_path / "straight", dataset, str(tmp_path / "straight" / "store"), None, give_up=300
    )
    assert straight.process.wait(timeout=240) == 0, straight.text()[-3000:]
    tree = start(carryover_cli, tmp_path, dataset, s3_store_uri, relay, give_up=2)
    assert tree.wait_until(lambda: "committed step" in tree.text())
    relay.cut()
    assert tree.process.wait(timeout=240) == 75, tree.text()[-3000:]
    assert "nothing could be saved" in tree.text()
    assert not tree.living()
    again = start(carryover_cli, tmp_path, dataset, s3_store_uri, None, give_up=2)
    assert again.process.wait(timeout=240) == 0, again.text()[-3000:]
    assert "goes on from step" in again.text()
    assert weights(tmp_path) == weights(tmp_path / "straight")


def _home(store: str) -> tuple[str, ...]:
    (key,) = open_store(store).folders("runs")
    return ("--store", store, "--run-key", key)
