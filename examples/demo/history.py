"""Owns what can be read of a run from outside: plain JSON files in its home, without the code that wrote them.

<store>/runs/<run_key>/log/*.json        claims and commits
<store>/runs/<run_key>/samples/*.json    with `data.record_samples`: the rows of every step
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def home_in(store: Path) -> Path | None:
    """Return the home of the one run in a store, None before it is there."""
    found = sorted(store.glob("runs/*/run.json"))
    return found[0].parent if found else None


def train_rows(store: Path) -> int:
    """Return how many rows the one Dataset in a store has to train on."""
    (card,) = store.glob("datasets/*/dataset.json")
    return json.loads(card.read_text())["splits"]["train"]["rows"]


def records(home: Path, kind: str) -> list[Mapping[str, Any]]:
    """Return all records of a kind ("claim", "commit", "finish"), oldest first."""
    found = [json.loads(path.read_text()) for path in sorted(home.glob("log/*.json"))]
    return [record for record in found if record["kind"] == kind]


def newest_commit(home: Path) -> int:
    """Return the optimizer step of the newest commit, 0 before the first."""
    commits = records(home, "commit")
    return commits[-1]["step"] if commits else 0


@dataclass(frozen=True)
class Count:
    """How often each row was seen, by epoch.

    Attributes:
        rows: rows of the training split.
        epochs: epochs that were seen to their end.
        seen: samples in all steps of the surviving history.
        twice: (epoch, row) pairs seen more than once.
        never: (epoch, row) pairs not seen at all.
        files: files that were counted.
    """

    rows: int
    epochs: int
    seen: int
    twice: int
    never: int
    files: int

    @property
    def exactly_once(self) -> bool:
        """Whether every row was seen exactly once an epoch."""
        return self.seen == self.rows * self.epochs and not self.twice and not self.never


def count_samples(home: Path, *, rows: int, epochs: int) -> Count:
    """Count the samples of the surviving history: of each step, what the newest attempt that committed it saw."""
    committed = {(record["step"], record["attempt"]) for record in records(home, "commit")}
    steps: dict[int, tuple[int, list[list[Any]]]] = {}
    files = 0
    for path in sorted(home.glob("samples/*.json")):
        to_step, attempt = (int(part) for part in path.stem.split("-")[:2])
        if (to_step, attempt) not in committed:
            continue
        files += 1
        of_step: dict[int, list[list[Any]]] = {}
        for entry in json.loads(path.read_text())["epoch_rows"]:
            of_step.setdefault(entry[0], []).append(entry)
        for step, entries in of_step.items():
            if step not in steps or steps[step][0] < attempt:
                steps[step] = (attempt, entries)
    seen = Counter((epoch, row) for _, entries in steps.values() for _, epoch, found in entries for row in found)
    wanted = {(epoch, row) for epoch in {epoch for epoch, _ in seen} for row in range(rows)}
    return Count(
        rows=rows,
        epochs=epochs,
        seen=sum(seen.values()),
        twice=sum(times > 1 for times in seen.values()),
        never=len(wanted - set(seen)),
        files=files,
    )
