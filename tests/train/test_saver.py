"""What a save holds: the state of its step bit by bit, however training went on while it was copied.

The twin of every commit is a clone of everything at the moment of the commit: slow, and obviously right.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carryover.checkpoint import scribe
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.policy import CheckpointConfig
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.snapshot import restore
from carryover.checkpoint.verify import verify
from carryover.ground.storage import open_store
from carryover.train.engine import Engine
from carryover.train.progress import Silent
from carryover.train.saver import CommitSaver
from carryover.train.state import RunState
from tests.checkpoint.support import start
from tests.train.engines import WIDTH, copies, engine, global_batch, net, same_bits

# Wide, so that a copy takes longer than it takes the next forward pass to begin.
WIDE = 1200


class Wide(nn.Module):
    """Layers of every kind that a copy meets: large and small weights, a norm with buffers, a frozen one, a 4-d one."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Linear(WIDTH, WIDE)
        self.norm = nn.BatchNorm1d(WIDE)
        self.across = nn.Linear(WIDE, WIDE, bias=False)
        self.frozen = nn.Linear(WIDE, 16).requires_grad_(False)
        self.trained = nn.Linear(WIDE, 16)
        self.image = nn.Conv2d(1, 64, 33, padding=16)
        # Rows of it are not rows in memory.
        self.image.weight = nn.Parameter(self.image.weight.detach().transpose(2, 3))
        self.last = nn.Linear(16, 3)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        hidden = self.across(torch.relu(self.norm(self.inward(features["x"]))))
        small = self.frozen(hidden) + self.trained(hidden)
        spread = self.image(small.reshape(-1, 1, 4, 4)).mean(1).reshape(-1, 16)
        return self.last(small + spread) * self.scale


class Written(nn.Module):
    """A network whose forward pass writes into a weight, from one of its passes on, in one way or another."""

    def __init__(self, write: Callable[[Tensor], object], *, after: int = 0) -> None:
        super().__init__()
        self.net, self.passes, self.write, self.after = net(), 0, write, after

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        self.passes += 1
        if self.training and self.passes > self.after:
            with torch.no_grad():
                self.write(self.net.last.weight)
        return self.net(features)


class Loop:
    """A training that commits at chosen steps, and keeps a clone of the state of each."""

    def __init__(self, folder: Path, made: Engine) -> None:
        self.home = RunHome.open(open_store(str(folder / "store")), "key")
        self.home.start({"recipe": {}})
        self.engine = made
        self.state = RunState()
        self.twins: dict[int, dict[str, Tensor]] = {}
        self.saver = CommitSaver(
            start(self.home),
            engine=made,
            config=CheckpointConfig(every_steps=1),
            keep=Keep(last=1000),
            files={"words.json": b"[]"},
            reporter=Silent(),
            samples=None,
            step=0,
        )

    def go(self, steps: int, *, micro: int = 8) -> "Loop":
        for _ in range(steps):
            self.engine.step(
                global_batch(16 * self.state.step % 80, size=16, micro=micro), step=self.state.step, rate=0.01
            )
            self.state.advance(16, 96)
            if self.saver.due(self.state):
                self.twins[self.state.step] = copies(self.engine)
                self.saver.commit(self.state, self.engine)
        return self

    def end(self) -> dict[int, dict[str, Tensor]]:
        """Return what the commits hold, by step."""
        self.saver.flush()
        self.saver.end(self.state, "")
        self.saver.close()
        return {record.step: restore(self.home.load(record).tensors()) for record in self.home.commits()}


@pytest.fixture(params=[scribe.PROCESS, scribe.THREAD])
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(scribe.VARIABLE, request.param)
    return request.param


def _wide(**config: Any) -> Engine:
    torch.manual_seed(0)
    return engine(Wide(), **config)


def _compiled() -> Engine:
    network = Wide()
    network.compile(backend="aot_eager")
    return engine(network)


@pytest.mark.parametrize(
    ("make", "micro"),
    [
        pytest.param(_wide, 16, id="plain"),
        pytest.param(lambda: _wide(gradient_clip_val=0.01), 4, id="accumulated and clipped"),
        pytest.param(lambda: _wide(precision="16-mixed", optim_type="adam"), 8, id="16-mixed"),
        pytest.param(lambda: _wide(precision="bf16-mixed", optim_type="sgd"), 8, id="bf16-mixed"),
        pytest.param(lambda: _wide(precision="64", optim_type="adafactor"), 8, id="64"),
        pytest.param(_compiled, 16, id="compiled", marks=pytest.mark.slow),
    ],
)
def test_a_commit_taken_beside_a_step_is_the_state_of_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Engine], micro: int
) -> None:
    monkeypatch.setenv(scribe.VARIABLE, scribe.THREAD)
    loop = Loop(tmp_path, make())
    while len(loop.twins) < 5:
        loop.go(1, micro=micro)
    assert loop.saver._beside is True, "copies are taken beside steps"
    held = loop.end()
    assert held.keys() == loop.twins.keys()
    assert all(same_bits(held[step], loop.twins[step]) for step in held)
    assert not same_bits(held[min(held)], held[max(held)])
    assert any(name.startswith("optim/") for name in held[max(held)])


def test_both_writers_store_the_same(tmp_path: Path, writer: str) -> None:
    """The process is started by the first commit, and is the writer before long."""
    loop = Loop(tmp_path, _wide()).go(1)
    made, deadline = loop.saver._scribe, time.monotonic() + 60
    assert made is not None
    while writer == scribe.PROCESS and not made._told:
        assert time.monotonic() < deadline
        loop.go(1)
    before = len(loop.twins)
    while len(loop.twins) < before + 3:
        loop.go(1)
    held = loop.end()
    assert held.keys() == loop.twins.keys()
    assert all(same_bits(held[step], loop.twins[step]) for step in held)
    assert verify(loop.home).problems == ()


@pytest.mark.parametrize(
    "write", [lambda weight: weight.mul_(1.01), lambda weight: weight.data.add_(1e-3)], ids=["in place", "by .data"]
)
def test_a_network_that_writes_its_weights_is_copied_while_it_waits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    write: Callable[[Tensor], object],
) -> None:
    monkeypatch.setenv(scribe.VARIABLE, scribe.THREAD)
    loop = Loop(tmp_path, engine(Written(write)))
    while len(loop.twins) < 4:
        loop.go(1)
    held = loop.end()
    said = capfd.readouterr().err
    assert said.count("something writes parameters outside the optimizer's update") == 1
    assert "dropped" not in said
    assert held.keys() == loop.twins.keys(), "nothing is lost: the first copy was taken while it waited as well"
    assert all(same_bits(held[step], loop.twins[step]) for step in held)


def test_a_network_that_begins_to_write_its_weights_loses_one_save_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(scribe.VARIABLE, scribe.THREAD)
    network = Written(lambda weight: weight.mul_(1.01), after=10**9)
    loop = Loop(tmp_path, engine(network))
    while len(loop.twins) < 3:
        loop.go(1)
    network.after = 0
    while len(loop.twins) < 6:
        loop.go(1)
    held = loop.end()
    assert capfd.readouterr().err.count("one save was dropped, and is made up for at once") == 1
    assert len(held) == len(loop.twins) - 1
    assert all(same_bits(held[step], loop.twins[step]) for step in held)


def test_what_must_not_be_lost_is_copied_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a validation is among the best, perhaps: a later write into it must find it copied."""
    monkeypatch.setenv(scribe.VARIABLE, scribe.THREAD)
    loop = Loop(tmp_path, engine())
    while len(loop.twins) < 2:
        loop.go(1)
    loop.saver.flush()
    loop.state.checked_step = loop.state.step
    twin = copies(loop.engine)
    loop.saver.commit(loop.state, loop.engine)
    with torch.no_grad():
        loop.engine.network.get_parameter("last.weight").zero_()
    assert same_bits(loop.end()[loop.state.step], twin)
