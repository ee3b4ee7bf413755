"""Owns the small real things that tests of components start from: rows, a recipe, a Dataset, a Model, a Backbone.

rows.csv -> prepare_data -> Dataset -> train_ddp -> Model -> dump_backbone -> Backbone

What takes seconds is made once in a process, in a temporary folder that goes with it; each call then gives a copy, so
that no test sees what another one wrote.
"""

import functools
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

LABEL = "liked"
# One rank, one epoch, one small network: what is tested is the component, not the training.
RECIPE = """\
model:
  names: [numerical_mlp, categorical_mlp, fusion_mlp]
optimization:
  max_epochs: 1
env:
  batch_size: 32
  per_gpu_batch_size: 32
  num_workers: 0
  num_workers_evaluation: 0
"""


@dataclass(frozen=True)
class Samples:
    """A store with a Dataset, a Model and its Backbone, by their canonical URIs, and the rows that they are of."""

    source: str
    store: str
    dataset_uri: str = ""
    model_uri: str = ""
    backbone_uri: str = ""


def rows(folder: Path, count: int = 120) -> str:
    """Write a table of two numbers, a category and a label that depends on them; returns its path."""
    chance = random.Random(7)
    lines = [f"x,y,kind,{LABEL}"]
    for _ in range(count):
        x, y, kind = chance.gauss(0, 1), chance.gauss(0, 1), chance.choice("abc")
        lines.append(f"{x:.4f},{y:.4f},{kind},{'yes' if x + y + (kind == 'a') > 0 else 'no'}")
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def prepared(folder: Path) -> Samples:
    """Return rows and a Dataset of them, in a store below `folder`."""
    from carryover.steps.prepare_data import prepare_data

    source, store = rows(folder), str(folder / "store")
    return Samples(source, store, prepare_data(source=[source], label=LABEL, store=store)["uri"])


def trained(folder: Path) -> Samples:
    """Return all of them, in a store below `folder`: a copy of what is made once in this process."""
    made = _trained()
    shutil.copytree(Path(made.source).parent, folder, dirs_exist_ok=True)
    # Files name their neighbours by relative names, so a store may be copied and still opens.
    moved = (text.replace(str(Path(made.source).parent), str(folder)) for text in vars(made).values())
    return Samples(*moved)


@functools.cache
def _trained() -> Samples:
    from carryover.steps.dump_backbone import dump_backbone
    from carryover.steps.train_ddp import train_ddp

    folder = Path(_temporary().name)
    made = prepared(folder)
    model = train_ddp(dataset=made.dataset_uri, store=made.store, output=str(folder / "model"), recipe=RECIPE)
    backbone = dump_backbone(model=model["uri"], store=made.store, output=str(folder / "backbone"))
    return Samples(made.source, made.store, made.dataset_uri, model["uri"], backbone["uri"])


@functools.cache
def _temporary() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="carryover-samples-")
