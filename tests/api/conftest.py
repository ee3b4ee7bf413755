"""What the tests of the API share: rows in memory, and a Model that was trained on them by a real rank."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import carryover

SETTINGS: dict[str, Any] = {
    "model": {"names": ["numerical_mlp", "categorical_mlp", "fusion_mlp"]},
    "optimization": {"max_epochs": 1, "learning_rate": 1e-2},
    "env": {"batch_size": 32, "num_workers": 0, "num_workers_evaluation": 0},
    "data.categorical.minimum_cat_count": 5,
}


def fruits(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with two numbers, a category, and a label that depends on them."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        row = {"size": chance.random(), "weight": chance.gauss(0, 1), "colour": chance.choice(["red", "blue"])}
        rows.append({**row, "ripe": "yes" if row["size"] + 0.3 * row["weight"] > 0.5 else "no"})
    return rows


@dataclass(frozen=True)
class Orchard:
    """A store with a Dataset and a Model."""

    store: Path
    rows: list[dict[str, Any]]
    data: carryover.Dataset
    model: carryover.Model


@pytest.fixture(scope="session")
def orchard(tmp_path_factory: pytest.TempPathFactory) -> Orchard:
    store, rows = tmp_path_factory.mktemp("orchard") / "store", fruits(300)
    data = carryover.prepare(rows, "ripe", store=store)
    return Orchard(store, rows, data, carryover.train(data, nproc_per_node=1, **SETTINGS))
