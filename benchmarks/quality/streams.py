"""Owns what is forgotten: streams of tasks, each learned by extending the model before, plainly and with each remedy.

    make quality      or      python -m benchmarks.quality.streams --stream domains --arm plain --seeds 0

    task 0 --train--> Model --extend by task 1, with an arm's keys--> Model --extend--> ... --evaluate--> R[i,j]

The first Model of a seed is the same for all arms. Results are lines of benchmarks/results/streams.jsonl: the task
matrix, and which test rows of each task the last Model tells right; from these the page compares arms on the same rows.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import yaml

from benchmarks.quality.cases import DATA, IMAGE, ROOT, SEEDS, TEXT, Tables
from benchmarks.quality.command import WORK, carryover, resolved
from benchmarks.quality.results import Results
from carryover import __version__

RESULTS = Results(ROOT / "benchmarks" / "results" / "streams.jsonl", key=("stream", "arm", "seed"))
PLAIN = "plain"


@dataclass(frozen=True)
class Stream:
    """Tasks that come one after the other.

    Attributes:
        tasks: name -> gives rows to train on and rows to test on, from the data set's folder.
        first: recipe of the first task's model.
        later: keys of every extension, whatever the arm.
        arms: name -> keys of every extension.
        grows: whether later tasks bring new classes.
        goals: arm -> least accuracy on the last task, mean over the seeds, and where the number is from.
    """

    name: str
    title: str
    folder: str
    label: str
    tasks: Mapping[str, Callable[[Path], Tables]]
    first: Mapping[str, Any]
    later: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    grows: bool = False
    column_types: Mapping[str, str] = field(default_factory=dict)
    goals: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    note: str = ""


def _phrases(start: int) -> Callable[[Path], Tables]:
    """A fixed random sample of 1,000 phrases, another one for each start; tested on the dev set."""

    def tables(folder: Path) -> Tables:
        train, dev = (pq.read_table(folder / f"{part}.parquet") for part in ("train", "dev"))
        chosen = np.random.default_rng(0).permutation(train.num_rows)[start : start + 1000]
        return train.take(pa.array(chosen)), dev

    return tables


def _domain(name: str) -> Callable[[Path], Tables]:
    """A domain's 1,000 sentences: a fixed random quarter to test on."""

    def tables(folder: Path) -> Tables:
        whole = pq.read_table(folder / "review_domains.parquet")
        mine = whole.filter(pa.array(whole["domain"].to_numpy(zero_copy_only=False) == name))
        mine = mine.select(["sentence", "label"])
        order = np.random.default_rng(0).permutation(mine.num_rows)
        cut = mine.num_rows // 4
        return mine.take(pa.array(order[cut:])), mine.take(pa.array(order[:cut]))

    return tables


def _group(name: str) -> Callable[[Path], Tables]:
    """The pictures of a group of classes."""

    def tables(folder: Path) -> Tables:
        whole = pyarrow.csv.read_csv(folder / "index.csv")
        group, split = (whole[column].to_numpy(zero_copy_only=False) for column in ("group", "split"))
        train, test = (
            whole.filter(pa.array((group == name) & (split == part))).select(["file", "label"])
            for part in ("train", "val")
        )
        return train, test

    return tables


_REMEDIES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "replay of a fifth": {"data.replay.fraction": 0.2},
    "L2-SP": {"remedy.l2_sp": 0.01},
    "EWC": {"remedy.ewc": 100.0, "remedy.ewc_rows": 128},
    "LwF": {"remedy.lwf": 1.0},
    "WiSE-FT, auto": {"remedy.wise_ft": "auto"},
    "replay of a fifth and LwF": {"data.replay.fraction": 0.2, "remedy.lwf": 1.0},
}

STREAMS: tuple[Stream, ...] = (
    Stream(
        name="phrases",
        title="More of the same: 1,000 phrases (SST-2), then 1,000 others",
        folder="sst2",
        label="label",
        tasks={"first 1,000": _phrases(0), "1,000 more": _phrases(1000)},
        first=TEXT,
        later={},
        arms={PLAIN: {}, "replay of all": {"data.replay.fraction": 1.0}},
        goals={PLAIN: (0.81, "asked for; AutoMM after the first 1,000 rows has 0.759")},
        note="Both are tested on the 872 rows of GLUE's dev set, so nothing can be forgotten: this asks whether "
        "extending helps.",
    ),
    Stream(
        name="classes",
        title="Classes: fruit, then vegetables",
        folder="images_grocery",
        label="label",
        tasks={"fruit": _group("Fruit"), "vegetables": _group("Vegetables")},
        first={**IMAGE, "model.timm_image.image_size": 64, "optimization.max_epochs": 25, "env.num_workers": 0},
        later={"optimization.max_epochs": 15},
        arms={
            **_REMEDIES,
            "replay of all": {"data.replay.fraction": 1.0},
            "only norms and heads": {"optimization.peft": "norm_fit"},
        },
        grows=True,
        column_types={"file": "image_path"},
        note="resnet10t of random weights on 64 pixels. The second task has other classes than the first: they get "
        "outputs of their own, and what is told of a fruit must win against them. Only replay shows the model that a "
        "fruit is no vegetable; the other remedies hold how fruits are told from each other.",
    ),
    Stream(
        name="domains",
        title="Domains: reviews of amazon, then yelp, then imdb",
        folder="review_domains",
        label="label",
        tasks={name: _domain(name) for name in ("amazon", "yelp", "imdb")},
        first=TEXT,
        later={},
        arms={**_REMEDIES, "LoRA": {"optimization.peft": "lora", "optimization.learning_rate": 5e-4}},
        note="MiniLM, two epochs a task. The tasks are alike: little is forgotten, each is learned from the others.",
    ),
)


def main() -> None:
    """Run what was asked for, then write the page."""
    from benchmarks.quality.run import write_page

    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--stream", action="append", choices=[stream.name for stream in STREAMS], help="default: all")
    flags.add_argument("--arm", action="append", help="default: all of a stream")
    flags.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    asked = flags.parse_args()
    run(streams=asked.stream, arms=asked.arm, seeds=asked.seeds)
    write_page()


def run(*, streams: list[str] | None, arms: list[str] | None, seeds: list[int]) -> None:
    """Run streams, arms (None: all) and seeds; what has a result already is done again from its finished runs."""
    for stream in STREAMS:
        if streams and stream.name not in streams:
            continue
        if not (DATA / stream.folder).is_dir():
            print(f"{stream.name}: no data in {DATA / stream.folder}; set CARRYOVER_DATA to the folder that has it")
            continue
        for seed in seeds:
            for arm in stream.arms:
                if not arms or arm in arms:
                    RESULTS.put(learn(stream, arm, seed))


def learn(stream: Stream, arm: str, seed: int) -> dict[str, Any]:
    """Learn a stream's tasks one after the other; return the line of what came of it."""
    home, stages, datasets = WORK / "streams" / stream.name, [], []
    word = "".join(letter if letter.isalnum() else "-" for letter in arm)
    for number, task in enumerate(stream.tasks):
        datasets.append(_prepare(stream, task, first=datasets[0] if datasets else ""))
        folder = home / f"{number}-{word if number else 'first'}" / str(seed)
        keys = {**resolved(stream.first), "seed": seed} if number == 0 else {**stream.later, **stream.arms[arm]}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
        words = ["--dataset", datasets[-1], "--recipe", str(folder / "recipe.yaml"), "--output", str(folder / "model")]
        if stages:
            words += ["--init-from", stages[-1], *(["--grow-classes"] if stream.grows else [])]
        carryover("train-ddp", *words)
        stages.append(str(folder / "model"))
    out = home / "reports" / f"{word}-{seed}"
    earlier = [word for stage in stages[:-1] for word in ("--stage", stage)]
    carryover(
        "evaluate", "--model", stages[-1], *earlier, "--dataset", datasets[-1], *datasets[:-1], "--metric", "accuracy",
        "--output", str(out),
    )  # fmt: skip
    matrix = json.loads((out / "matrix.json").read_text())
    table = pq.read_table(out / "predictions.parquet")
    said = zip(table["label"].to_pylist(), table["prediction"].to_pylist(), strict=True)
    right, owner = np.array([truth == answer for truth, answer in said]), table["dataset"].to_numpy()
    # evaluate counts Datasets as given, the newest first; the line has them in the order of the stream.
    places = [(number + 1) % len(datasets) for number in range(len(datasets))]
    line = {
        "stream": stream.name, "arm": arm, "seed": seed, "scores": matrix["scores"],
        "right": [right[owner == place].astype(int).tolist() for place in places],
        "date": datetime.now(UTC).date().isoformat(), "version": __version__,
    }  # fmt: skip
    print(f"{stream.name}, {arm}, seed {seed}: {[[round(x, 3) for x in row] for row in matrix['scores']]}", flush=True)
    return line


def _prepare(stream: Stream, task: str, *, first: str) -> str:
    """Prepare a task's rows; later tasks follow the schema of the first."""
    folder = WORK / "streams" / stream.name / task
    folder.mkdir(parents=True, exist_ok=True)
    source = DATA / stream.folder
    train, test = stream.tasks[task](source)
    for part, rows in (("train", train), ("test", test)):
        pq.write_table(rows, folder / f"{part}.parquet")
    for link in (path for path in source.iterdir() if path.is_dir()):
        if not (folder / link.name).exists():
            (folder / link.name).symlink_to(link)
    types = [word for name, kind in stream.column_types.items() for word in ("--column-type", f"{name}={kind}")]
    follow = ["--schema-from", first, *(["--grow-classes"] if stream.grows else [])] if first else types
    carryover(
        "prepare-data", "--source", str(folder / "train.parquet"), "--test-source", str(folder / "test.parquet"),
        "--label", stream.label, "--train-fraction", "0.85", "--validation-fraction", "0.15", "--test-fraction", "0",
        *follow, "--output", str(folder / "data"),
    )  # fmt: skip
    return str(folder / "data")


if __name__ == "__main__":
    main()
