"""Several ranks through real torchrun: the curve of one rank, and after a resume the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from carryover.train.engine import Engine
from tests.support import engine_rank
from tests.train.engines import copies, same_bits


@pytest.fixture(scope="module")
def alone() -> tuple[Engine, list[float]]:
    """One rank, here."""
    made = engine_rank.make("primed", {})
    return made, engine_rank.steps(made, 0, engine_rank.STEPS)


@pytest.mark.parametrize("world", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_ranks_give_the_curve_of_one_and_resume_to_the_same_bits(
    tmp_path: Path, alone: tuple[Engine, list[float]], world: int
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    ended = subprocess.run(
        [*torchrun, "-m", "tests.support.engine_rank", str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    losses = json.loads((tmp_path / "losses.json").read_text())
    found = {path.stem: load_file(path) for path in tmp_path.glob("*.safetensors")}
    made, curve = alone
    assert losses["primed"] == pytest.approx(curve, rel=1e-4)
    want = copies(made)
    assert found["straight-primed"].keys() == want.keys()
    for name, value in found["straight-primed"].items():
        # Adam divides by the gradient's size, so where that is almost nothing a last digit counts for more.
        # The counter of forward passes is each rank's own.
        if name != "model/steps":
            torch.testing.assert_close(value, want[name], rtol=1e-2, atol=1e-4, msg=name)
    assert same_bits(found["straight-primed"], found["resumed-primed"])
    if world >= 3:
        # The control: without the pass that settles the buckets, the resumed run sums in another order.
        assert not same_bits(found["straight-unprimed"], found["resumed-unprimed"])
