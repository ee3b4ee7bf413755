"""Whole attempts of one rank in this process: a small table, a recipe, a store, and what a run left there.

An attempt here is what a rank does between its start and its end. A "kill" is an exception out of the loop at a step:
nothing of it can tidy up, and the store is as a SIGKILL at that step would leave it. For real processes and real
signals see tests/steps.
"""

import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from carryover.checkpoint import scribe
from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.log import Record
from carryover.data.manifest import DatasetCard, load_card
from carryover.data.rows import materialise
from carryover.ground.storage import open_store
from carryover.steps.prepare_data import prepare_data
from carryover.train import recipe as recipes
from carryover.train.parent import Parent
from carryover.train.run import attempt
from carryover.train.spec import Spec
from tests.support.curves import told

SMALL: dict[str, Any] = {
    "env.batch_size": 16,
    "env.per_gpu_batch_size": 4,
    "env.num_workers": 0,
    "env.num_workers_evaluation": 0,
    "optimization.learning_rate": 0.01,
    "optimization.max_epochs": 2,
    "data.categorical.minimum_cat_count": 5,
    "checkpoint.every_steps": 3,
}


def write_rows(path: Path, count: int = 150, *, seed: int = 0) -> Path:
    """Write a CSV with two numbers, a category and a label that depends on them."""
    chance = random.Random(seed)
    lines = ["x,y,kind,liked"]
    for _ in range(count):
        x, y, kind = chance.gauss(0, 1), chance.gauss(0, 1), chance.choice("abc")
        liked = "yes" if x + y / 2 + (kind == "a") + chance.gauss(0, 0.5) > 0 else "no"
        lines.append(f"{x:.5f},{y:.5f},{kind},{liked}")
    path.write_text("\n".join(lines) + "\n")
    return path


def dataset(folder: Path, *, count: int = 150, **settings: Any) -> DatasetCard:
    """Prepare such a table as a dataset in `folder`/store."""
    folder.mkdir(parents=True, exist_ok=True)
    source = write_rows(folder / "rows.csv", count)
    result = prepare_data(source=[str(source)], label="liked", store=str(folder / "store"), **settings)
    return load_card(result["uri"])


class Killed(Exception):
    """The instant at which a test ends an attempt."""


@dataclass
class Instant:
    """A rank's wish to stop: asked once a step, it says yes, or kills, after so many steps of this attempt."""

    stop_after: int = -1
    kill_after: int = -1
    seen: int = 0

    @property
    def wanted(self) -> bool:
        self.seen += 1
        if self.seen == self.kill_after:
            raise Killed
        return self.seen == self.stop_after


@dataclass(frozen=True)
class Run:
    """One run in a store.

    Attributes:
        parent: the Model in the same store that it extends, and `old` the dataset that was trained on.
    """

    card: DatasetCard
    store: str
    recipe: Mapping[str, Any]
    scratch: Path
    run_key: str = "run"
    parent: Parent | None = None
    old: DatasetCard | None = None

    @property
    def home(self) -> RunHome:
        return RunHome.open(open_store(self.store), self.run_key)

    def go(
        self, *, stop_after: int = -1, kill_after: int = -1, time_limit: float | None = None, **changes: Any
    ) -> None:
        """Make one attempt; `changes` are recipe keys with "__" for the dot."""
        spec = self.claim({name.replace("__", "."): value for name, value in changes.items()}, time_limit=time_limit)
        with pytest.MonkeyPatch.context() as patch:
            # Hundreds of small trainings need no process of their own to write; real ranks have one.
            patch.setenv(scribe.VARIABLE, os.environ.get(scribe.VARIABLE, scribe.THREAD))
            attempt(spec.as_json(), Instant(stop_after, kill_after))  # pyright: ignore[reportArgumentType]

    def claim(self, changes: Mapping[str, Any], *, time_limit: float | None = None) -> Spec:
        """Begin an attempt as the step does; returns what it would tell its ranks."""
        recipe = recipes.make({**SMALL, **self.recipe, **changes})
        home = self.home
        home.start(self.run_json(recipe))
        writer = claim(home, owner="tests")
        assert writer is not None
        splits = ("train", "validation")
        rows = {name: str(materialise(self.card, name, self.scratch)) for name in splits}
        old = {name: str(materialise(self.old, name, self.scratch)) for name in splits} if self.old else {}
        return Spec(
            home=home.store.uri,
            run_key=self.run_key,
            recipe=json.loads(json.dumps(recipe.flat())),
            schema=self.card.schema.to_json(),
            rows=rows,
            dataset={"digest": self.card.digest, "uri": self.card.at},
            handoff=json.loads(json.dumps(writer.handoff())),
            time_limit=time_limit,
            lost_step=None,
            progress=str(self.scratch / "progress"),
            first_step="",
            parent=json.loads(json.dumps(self.parent.to_json())) if self.parent else None,
            old_rows=old,
        )

    def run_json(self, recipe: recipes.Recipe) -> dict[str, Any]:
        dataset = {"digest": self.card.digest, "uri": self.card.at}
        flat, identity = recipe.flat(), recipes.identity(recipe)
        return {"recipe": flat, "identity": identity, "dataset": dataset, "parent": None}

    def state(self) -> dict[str, Any]:
        """The newest commit's RunState."""
        return self.home.commits()[-1].body["state"]

    def finish(self) -> Record:
        found = self.home.finish_record()
        assert found is not None
        return found

    def tensors(self) -> dict[str, bytes]:
        """The newest commit's tensors as bits."""
        loaded = self.home.load_newest()
        assert loaded is not None
        return {name: bytes(raw.data) for name, raw in loaded.tensors().items()}

    def curve(self) -> list[dict[str, Any]]:
        """The lines of the curve that count."""
        return told(self.home.store)

    def global_batches(self) -> list[tuple[int, int, list[int]]]:
        """(step, epoch, its rows sorted) of every committed step in order, by the sample records."""
        commits = [r for r in map(self.home.log.read, self.home.log.numbers()) if r.kind == "commit"]
        names = [f"samples/{record.step:010d}-{record.attempt:010d}-0.json" for record in commits]
        found = [entry for name in names for entry in json.loads(self.home.store.read(name))["epoch_rows"]]
        return [(step, epoch, sorted(rows)) for step, epoch, rows in found]

    def seen(self) -> dict[int, list[int]]:
        """Epoch -> rows in the order of their steps, by the sample records of committed attempts."""
        seen: dict[int, list[int]] = {}
        for _, epoch, rows in self.global_batches():
            seen.setdefault(epoch, []).extend(rows)
        return seen
