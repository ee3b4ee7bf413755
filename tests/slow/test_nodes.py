"""One run on two nodes, each a command of its own: a node is killed, the other ends by itself, both go on.

node 0   trains ............ 75          again ---- Model                 the same bits as
node 1   trains ... SIGKILL              again                            two nodes, never killed; one node of two ranks
"""

import json
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from carryover.checkpoint.home import RunHome
from carryover.ground.errors import RunAgain, WrongInput
from carryover.ground.storage import open_store
from carryover.launch.nodes import JOIN_VARIABLE
from tests.conftest import CarryoverCli
from tests.support import processes
from tests.support.networks import Machine, two_machines
from tests.support.processes import Tree
from tests.train.attempts import SMALL, dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

RECIPE = {**SMALL, "optimization.max_epochs": 8, "optimization.patience": 1000, "checkpoint.every_steps": 5}
# Two cores may have to do with several tests at once.
PATIENCE = 600
HERE = (Machine("127.0.0.1", ()), Machine("127.0.0.1", ()))


@dataclass(frozen=True)
class Pair:
    """Two machines, and what is trained on them."""

    machines: Sequence[Machine]
    folder: Path
    dataset: str

    def command(self, store: str, *flags: object, **recipe: object) -> list[str]:
        settings = [word for name, value in {**RECIPE, **recipe}.items() for word in ("--set", f"{name}={value}")]
        where = ["--dataset", self.dataset, "--store", self.folder / store, "--owner", "job"]
        return CarryoverCli(self.folder).command("train-ddp", *where, *settings, *flags)

    def start(self, store: str, port: int, *, only: Sequence[int] = (0, 1), **recipe: object) -> list[Tree]:
        """Start both nodes, or `only` these."""
        trees = []
        for rank in only:
            machine = self.machines[rank]
            flags = ["--num-nodes", 2, "--node-rank", rank, "--master-addr", self.machines[0].name]
            output = ["--output", self.folder / f"{store}-{rank}"]
            command = self.command(store, *flags, "--master-port", port, "--nproc-per-node", 1, *output, **recipe)
            said = self.folder / f"{store}-{len(list(self.folder.glob('*.txt')))}.txt"
            trees.append(processes.start([*machine.prefix, *command], said=said, cwd=self.folder))
        return trees

    def commits(self, store: str) -> int:
        place = open_store(str(self.folder / store))
        return sum(len(RunHome.open(place, key).commits()) for key in place.folders("runs"))

    def weights(self, store: str) -> bytes:
        (file,) = (self.folder / store / "models").rglob("model.safetensors")
        return file.read_bytes()


@contextmanager
def ended(trees: list[Tree]) -> Iterator[list[Tree]]:
    try:
        yield trees
    finally:
        for tree in trees:
            tree.kill()


def codes(trees: list[Tree]) -> list[int]:
    return [tree.process.wait(timeout=PATIENCE) for tree in trees]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def killed_and_finished(pair: Pair, victim: int) -> None:
    """Kill one node in the middle of an epoch, start both again, and let them finish in the store "broken"."""
    port = free_port()
    with ended(pair.start("broken", port)) as trees:
        # Three commits: some way into an epoch, and never at its end, as an epoch has 8 steps.
        assert trees[0].wait_until(lambda: pair.commits("broken") >= 3, timeout=PATIENCE), (
            trees[0].text() + trees[1].text()
        )
        trees[victim].kill()
        other = trees[1 - victim]
        assert other.process.wait(timeout=PATIENCE) == RunAgain.exit_code, other.text()
        assert "error: run " in other.text()
        assert "another rank was lost" in other.text()
    with ended(pair.start("broken", port)) as trees:
        assert codes(trees) == [0, 0], trees[0].text() + trees[1].text()
        assert "goes on from step" in trees[0].text()
        assert "is finished; node 0 gives its Model" in trees[1].text()


def check_bits(pair: Pair) -> None:
    """Compare with two nodes that nobody killed, and with one node of two ranks."""
    with ended(pair.start("straight", free_port())) as trees:
        assert codes(trees) == [0, 0], trees[0].text() + trees[1].text()
    one = processes.start(pair.command("one", "--nproc-per-node", 2), said=pair.folder / "one.txt", cwd=pair.folder)
    with ended([one]):
        assert codes([one]) == [0], one.text()
    assert pair.weights("broken") == pair.weights("straight") == pair.weights("one")
    result = json.loads((pair.folder / "broken-0" / "result.json").read_text())
    assert result["attempts"] == 2
    assert not (pair.folder / "broken-1").exists(), "only node 0 leaves anything"


def test_a_node_killed_on_one_of_two_machines_costs_no_bit(tmp_path: Path) -> None:
    with two_machines() as machines:
        pair = Pair(machines, tmp_path, dataset(tmp_path / "data").at)
        killed_and_finished(pair, victim=1)
        check_bits(pair)


def test_the_leader_killed_and_a_stop_of_one_node_stops_both(tmp_path: Path) -> None:
    pair = Pair(HERE, tmp_path, dataset(tmp_path / "data").at)
    with ended(pair.start("stopped", free_port())) as trees:
        assert trees[0].wait_until(lambda: pair.commits("stopped") >= 1, timeout=PATIENCE), (
            trees[0].text() + trees[1].text()
        )
        trees[1].process.send_signal(signal.SIGTERM)
        assert codes(trees) == [RunAgain.exit_code] * 2, trees[0].text() + trees[1].text()
        assert all("stopped on request; all is saved at step" in tree.text() for tree in trees)
    killed_and_finished(pair, victim=0)
    # A finished run: each node sees it by itself, and no port is opened.
    with ended(pair.start("broken", 1)) as trees:
        assert codes(trees) == [0, 0], trees[0].text() + trees[1].text()


def test_nodes_of_different_runs_say_so_and_one_alone_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(HERE, tmp_path, dataset(tmp_path / "data").at)
    port = free_port()
    with ended([*pair.start("mixed", port, only=[0], seed=1), *pair.start("mixed", port, only=[1], seed=2)]) as trees:
        assert codes(trees) == [WrongInput.exit_code] * 2, trees[0].text() + trees[1].text()
        assert all("the nodes train different runs" in tree.text() for tree in trees)
    monkeypatch.setenv(JOIN_VARIABLE, "5")
    for rank, words in enumerate(("not all of 2 nodes came within 5 s", "node 0 gave no sign of life for ")):
        with ended(pair.start(f"alone-{rank}", free_port(), only=[rank])) as trees:
            assert codes(trees) == [RunAgain.exit_code], trees[0].text()
            assert words in trees[0].text()
            assert trees[0].text().endswith("more: carryover explain nodes-apart\n")
