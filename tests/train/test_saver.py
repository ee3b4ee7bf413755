"""What a save holds: the state of its step bit by bit, however training went on while it was copied.

The twin of every commit is a clone of everything at the moment of the commit: slow, and obviously right.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carryover.checkpoint import scribe
from carryover.checkpoint.verify import verify
from carryover.models.peft import Adaptation, LoraConfig, adapt
from carryover.train.engine import Engine
from tests.train.engines import copies, engine, global_batch, net, same_bits
from tests.train.savers import Loop, Wide

COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")


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


@pytest.fixture(params=[scribe.PROCESS, scribe.THREAD])
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(scribe.VARIABLE, request.param)
    return request.param


def _wide(**config: Any) -> Engine:
    torch.manual_seed(0)
    return engine(Wide(), **config)


def _compiled(backend: str) -> Engine:
    torch.manual_seed(0)
    network = Wide()
    network.compile(backend=backend)
    return engine(network)


class Branch(nn.Module):
    """What adapters are put into."""

    backbones = ("encoder",)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Wide()

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.encoder(features)


def _adapted() -> Engine:
    torch.manual_seed(0)
    branch = Branch()
    adapt(branch, Adaptation("lora_norm", LoraConfig(filter=("across", "inward"))), name="branch")
    return engine(branch)


def _carried() -> Engine:
    """Its moments are another training's, as `optimization.carry_optimizer` and every resume have it."""
    before, made = _wide(), _wide()
    for step in range(3):
        before.step(global_batch(0, size=16, micro=16), step=step, rate=0.01)
    made.load_optimizer({name: value for name, value in copies(before).items() if name.startswith("optim/")}, {})
    return made


@pytest.mark.parametrize(
    ("make", "micro"),
    [
        pytest.param(_wide, 16, id="plain"),
        pytest.param(lambda: _wide(gradient_clip_val=0.01), 4, id="accumulated and clipped"),
        pytest.param(lambda: _wide(precision="16-mixed", optim_type="adam"), 8, id="16-mixed"),
        pytest.param(lambda: _wide(precision="bf16-mixed", optim_type="sgd"), 8, id="bf16-mixed"),
        pytest.param(lambda: _wide(precision="64", optim_type="adafactor"), 8, id="64"),
        pytest.param(_adapted, 8, id="lora"),
        pytest.param(_carried, 16, id="carried moments"),
        pytest.param(lambda: _compiled("aot_eager"), 16, id="compiled", marks=pytest.mark.slow),
        pytest.param(lambda: _compiled("inductor"), 16, id="compiled by inductor", marks=[pytest.mark.slow, COMPILER]),
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


@pytest.mark.slow
def test_two_ranks_too(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [*torchrun, "-m", "tests.support.saving_rank", str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.split()[-3:] == ["5", "commits", "same"]


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
