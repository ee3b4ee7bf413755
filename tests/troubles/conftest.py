"""The world of the tests of troubles."""

from pathlib import Path

import pytest

from carryover.data.manifest import DatasetCard
from tests.train.attempts import dataset
from tests.troubles.world import World


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    """150 rows with two numbers, a category and a binary label."""
    return dataset(tmp_path_factory.mktemp("small"))


@pytest.fixture
def world(
    tmp_path: Path, small: DatasetCard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> World:
    monkeypatch.chdir(tmp_path)
    for name in ("KUBERNETES_SERVICE_HOST", "CARRYOVER_DEBUG", "CARRYOVER_LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    return World(tmp_path, small, capsys)
