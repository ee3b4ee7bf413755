"""What tests of steps share: a small dataset, and a command line whose processes leave a record of themselves."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from carryover.data.manifest import DatasetCard
from tests.conftest import CarryoverCli, Finished
from tests.train.attempts import dataset

STARTUP = Path(__file__).parents[1] / "support" / "startup"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    """150 rows with two numbers, a category and a binary label."""
    return dataset(tmp_path_factory.mktemp("small"))


@dataclass(frozen=True)
class Watched:
    """A command that ended, and the Python processes that it was: (command line, heavy libraries loaded)."""

    ended: Finished
    processes: list[tuple[str, str]]

    @property
    def light(self) -> bool:
        """Whether it was one process and loaded nothing heavy."""
        return [heavy for _, heavy in self.processes] == [""]


@dataclass(frozen=True)
class WatchedCli:
    """Runs `carryover ...` like `carryover_cli`, and sees what it loads and starts."""

    cli: CarryoverCli

    def __call__(self, *args: object, hide: str = "") -> Watched:
        record = self.cli.cwd / f"record-{len(list(self.cli.cwd.glob('record-*')))}"
        record.mkdir()
        env = {"PYTHONPATH": str(STARTUP), "CARRYOVER_TEST_RECORD": str(record), "CARRYOVER_TEST_HIDE": hide}
        ended = self.cli(*args, env=env)
        lines = [path.read_text().split("\n") for path in record.iterdir()]
        return Watched(ended, [(command, heavy) for command, heavy in lines])


@pytest.fixture
def watched(carryover_cli: CarryoverCli) -> WatchedCli:
    return WatchedCli(carryover_cli)
