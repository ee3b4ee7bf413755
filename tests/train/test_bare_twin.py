"""Engine and loop beside the loop of a tutorial: the same bits, and nothing is read that nobody wants to know."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from carryover.data.loader import Batch
from carryover.ground.storage import open_store
from carryover.models.peft import Adaptation, LoraConfig, adapt
from carryover.train.limits import Limits
from carryover.train.loop import Training, train
from carryover.train.progress import Progress, Start
from carryover.train.schedule import first_curve
from carryover.train.sections import Optimization
from carryover.train.state import RunState
from carryover.train.stop import Stop
from tests.support.bare_rank import STEPS, WORLD, Plain
from tests.train.engines import CLASSES, ROWS, WIDTH, copies, engine, global_batch, same_bits

SIZE, MICRO = 20, 8


class Normed(nn.Module):
    """A BatchNorm, and dropout twice."""

    backbones = ("layers",)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(WIDTH, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 16), nn.Dropout(0.1)
        )
        self.head = nn.Linear(16, CLASSES)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        return self.head(self.layers(features["x"]))


def normed() -> nn.Module:
    torch.manual_seed(1)
    network = Normed()
    # As libraries open a network: the whole in training mode, its parts not.
    network.layers.eval()
    return network


def with_lora() -> nn.Module:
    network = normed()
    adapt(network, Adaptation("lora", LoraConfig(r=2, filter=("0", "4"))), name="net")
    return network


def compiled() -> nn.Module:
    torch.compiler.reset()
    network = normed()
    network.compile(backend="aot_eager")
    return network


def batches_of(step: int, micro: int = MICRO) -> list[Batch]:
    """20 rows in pieces of 8, 8 and 4; the epoch's last step has 16."""
    return global_batch(SIZE * step % ROWS, size=SIZE, micro=micro)


def check_twins(make: Callable[[], nn.Module], precision: str, micro: int, **config: Any) -> None:
    bare, fast = Plain(make(), precision, **config), engine(make(), precision=precision, **config)
    for step in range(STEPS):
        seen, norm = bare.step(batches_of(step, micro), step=step, rate=0.02 / (step + 1))
        # What others draw meanwhile plays no part.
        torch.rand(step + 1)
        result = fast.step(batches_of(step, micro), step=step, rate=0.02 / (step + 1))
        assert float(result.loss) == seen
        assert (None if result.norm is None else float(result.norm)) == norm
    assert same_bits(bare.tensors(), copies(fast))
    assert fast.scaler_state() == bare.scaler.state_dict()


@pytest.mark.parametrize("precision", ["32", "64", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("micro", [MICRO, SIZE], ids=["accumulated", "whole"])
@pytest.mark.parametrize("make", [normed, with_lora])
def test_a_step_has_the_bits_of_a_tutorials(make: Callable[[], nn.Module], micro: int, precision: str) -> None:
    check_twins(make, precision, micro)


@pytest.mark.parametrize(
    "config",
    [
        {"gradient_clip_val": 0.0},
        {"gradient_clip_val": 0.05},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"optim_type": "sgd", "lr_choice": ""},
        {"optim_type": "adafactor", "lr_choice": "two_stages", "lr_mult": 3.0},
    ],
)
def test_clipping_and_optimizers_too(config: dict[str, Any]) -> None:
    check_twins(normed, "32", MICRO, **config)


def test_a_compiled_network_too() -> None:
    check_twins(compiled, "32", SIZE)


@pytest.mark.slow
def test_two_ranks_too(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORLD}"]
    ended = subprocess.run(
        [*torchrun, "-m", "tests.support.bare_rank", str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert same_bits(*(load_file(tmp_path / f"{name}.safetensors") for name in ("bare", "engine")))


class Quiet:
    """A saver of nothing."""

    def due(self, state: RunState) -> bool:
        return False

    def seen(self, state: RunState, batches: list[Batch]) -> None: ...
    def commit(self, state: RunState, engine: object) -> None: ...
    def flush(self) -> None: ...
    def end(self, state: RunState, reason: str) -> None: ...
    def close(self) -> None: ...


class Heard(Progress):
    """The reporter, which notes what it was given."""

    def __init__(self, *args: Any, **known: Any) -> None:
        super().__init__(*args, **known)
        self.given: list[Any] = []

    def step(self, state: RunState, **values: Any) -> None:
        self.given.append(Counted(values["loss"]))
        super().step(state, **{**values, "loss": self.given[-1]})


class Counted:
    """A number that counts how often it is read."""

    def __init__(self, number: Any) -> None:
        self.number, self.reads = number, 0

    def __float__(self) -> float:
        self.reads += 1
        return float(self.number)


def test_a_training_has_the_bits_of_a_tutorials_and_reads_only_what_it_tells(tmp_path: Path) -> None:
    total, every = 30, 10
    config = Optimization(learning_rate=0.01, max_steps=total)
    curve, state = first_curve(config, total), RunState()
    limits = Limits(
        rows=ROWS, batch_size=SIZE, max_epochs=100, max_steps=total, patience=1, check_every=0, seconds=math.inf
    )
    heard = Heard(
        open_store(str(tmp_path / "home")), state, limits=limits, total=total, every=every, metric="accuracy",
        start=Start(1), progress=tmp_path / "progress", scratch=None,
    )  # fmt: skip
    fast = engine(normed())

    def steps() -> Iterator[list[Batch]]:
        while True:
            yield global_batch(state.position, size=SIZE, micro=MICRO)

    run = Training(
        state=state, limits=limits, curve=curve, engine=fast, steps=steps(), saver=Quiet(), reporter=heard,
        validator=None, stop=Stop(),
    )  # fmt: skip
    assert train(run) == "max_steps"

    bare, position, losses = Plain(normed(), "32"), 0, []
    for step in range(total):
        batches = global_batch(position, size=SIZE, micro=MICRO)
        seen, _ = bare.step(batches, step=step, rate=curve.rate(step))
        losses.append(seen / batches[0].micro.size)
        position = (position + batches[0].micro.size) % ROWS
    assert same_bits(bare.tensors(), copies(fast))
    reads = [one.reads for one in heard.given]
    assert [float(one) for one in heard.given] == losses
    assert reads == [0 if step % every else 1 for step in range(1, total + 1)]
    assert (tmp_path / "progress").read_text().split() == [str(total)]
