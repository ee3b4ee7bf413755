"""Owns small source files for tests of the data floor, and how a dataset is prepared and read back."""

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from carryover.data.manifest import SPLITS, DatasetCard, load_card
from carryover.data.rows import Rows, materialise
from carryover.steps.prepare_data import prepare_data

WORDS = "a fine red blue long short story film told with care and no end in sight".split()


def reviews(count: int, *, seed: int = 0, start: int = 0) -> list[dict[str, Any]]:
    """Return rows with a text, a number (missing in a tenth), a category, an id and a binary label."""
    chance = random.Random(seed)
    return [
        {
            "id": start + number,
            "text": " ".join(chance.choices(WORDS, k=8)),
            "price": None if chance.random() < 0.1 else round(chance.uniform(0, 100), 2),
            "kind": chance.choice(["book", "film", "song"]),
            "label": chance.choice(["good", "bad"]),
        }
        for number in range(count)
    ]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows in the format of the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def prepared(tmp_path: Path, *sources: Path | str, label: str = "label", **arguments: Any) -> DatasetCard:
    """Prepare a dataset in a store of this test's own and open it."""
    arguments = {"store": str(tmp_path / "store"), **arguments}
    result = prepare_data(source=[str(source) for source in sources], label=label, **arguments)
    return load_card(result["uri"])


def table(card: DatasetCard, split: str, scratch: Path) -> pa.Table:
    """Return a whole split."""
    rows = Rows.open(materialise(card, split, scratch))
    return rows.take(np.arange(len(rows)))


def splits(card: DatasetCard, scratch: Path, column: str = "id") -> dict[Any, str]:
    """Return value of `column` -> the split its row is in."""
    return {value: split for split in SPLITS for value in table(card, split, scratch)[column].to_pylist()}
