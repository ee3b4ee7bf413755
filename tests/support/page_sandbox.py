"""Owns the folders in which the pages' blocks are run, and what `$MADE` holds for them.

$MADE/   loans.csv          income, debt, purpose, defaulted: 600 rows
         new-loans.csv      300 more, with other incomes
         limits.csv         the same columns and another label, `limit`, a number
         recipe.yaml        small networks for such a table, two epochs
         .carryover/        a store with the Dataset and the Model of loans.csv
         data/, model/      the Dataset and the Model, as artifacts

A group of blocks is one shell script in an empty folder with `examples/` in it, and what its `setup` lines copy.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.support.page_blocks import ROOT, Block

RECIPE = """\
model:
  names: [numerical_mlp, categorical_mlp, fusion_mlp]
optimization:
  max_epochs: 2
env:
  batch_size: 32
  per_gpu_batch_size: 32
  num_workers: 0
  num_workers_evaluation: 0
data:
  categorical:
    minimum_cat_count: 5
"""
PURPOSES = ("car", "house", "school", "travel")


def made(folder: Path) -> Path:
    """Make what `$MADE` holds, by the command line itself; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _table(folder / "loans.csv", 600, seed=1, income=40.0, label="defaulted")
    _table(folder / "new-loans.csv", 300, seed=2, income=55.0, label="defaulted")
    _table(folder / "limits.csv", 300, seed=3, income=40.0, label="limit")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    for words in (
        "prepare-data --source loans.csv --label defaulted --output data",
        "train-ddp --dataset data --recipe recipe.yaml --output model",
    ):
        ended = run(f"carryover {words}", folder, {})
        assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


def run(script: str, folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script by `bash -e` in a folder, our command on its path, no hub and one thread."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CARRYOVER_", "PET_", "AWS_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**kept, "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def script(blocks: Iterable[Block]) -> str:
    """Return the blocks of a group as one script, each with its place on the page in front."""
    lines: list[str] = []
    for number, block in enumerate(blocks):
        lines += [f"echo '== {block.where}' >&2", block.setup]
        if block.language == "python":
            lines += [f"cat >block-{number}.py <<'END OF BLOCK'", block.text.rstrip(), "END OF BLOCK"]
            lines += [f"python block-{number}.py"]
        else:
            lines += [block.text]
    return "\n".join(lines)


def sandbox(folder: Path) -> Path:
    """Return an empty folder that has the examples, as a checkout has."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def _table(path: Path, rows: int, *, seed: int, income: float, label: str) -> None:
    chance = random.Random(seed)
    lines = [f"income,debt,purpose,{label}"]
    for _ in range(rows):
        earned, owed, purpose = chance.gauss(income, 12), chance.gauss(20, 8), chance.choice(PURPOSES)
        risk = owed - earned / 2 + 5 * (purpose == "travel") + chance.gauss(0, 3)
        value = ("yes" if risk > 0 else "no") if label == "defaulted" else f"{max(0.0, 30 - risk):.1f}"
        lines.append(f"{earned:.1f},{owed:.1f},{purpose},{value}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
