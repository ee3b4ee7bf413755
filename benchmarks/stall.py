"""What saves cost a loop, beside other programs: `python -m benchmarks.stall [--quick]` (rows b, f and i).

arm            a program in a process of its own saves again and again, on a disk or on S3    (peers/stall.py)
unit           one copy of the state (ViT-S with AdamW, 260 MB) into memory that is there, by one thread
blocked        the loop stood still       longer: that, and what the steps beside the save took more
memory         of all processes of a node, shared pages once, over the bare loop's, in states
"""

import argparse
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from benchmarks.arms import Arm, Figures, Goal, interleaved, spread, write
from benchmarks.children import Child, measured
from benchmarks.peers.programs import Absent, run_in, versions

COMMAND = "python -m benchmarks.stall"
STATE_BYTES = 260_030_164
ENVIRONMENTS = {"torch_checkpointing": "torch_checkpointing", "torchsnapshot": "torchsnapshot"}
DISK = ("ours", "torch.save", "DCP save", "DCP async", *ENVIRONMENTS)
S3 = ("ours", "torch.save", "DCP async")
_SHOWN = ("blocked", "longer", "main_cpu", "memcpy_s", "step_s", "longer_s", "until_written_s")


def main() -> None:
    """Run all arms, and write what they gave."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="fewer saves and repeats")
    quick = flags.parse_args().quick
    saves, repeats = (2, 1) if quick else (5, 5)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="stall-") as folder, _s3() as bucket:
        arms = [_arm(f"disk / {name}", name, folder, saves) for name in DISK]
        arms += [_arm(f"S3 / {name}", name, bucket, saves) for name in S3] if bucket else []
        arms += [_memory(kind, ranks, folder) for ranks in (1, 2) for kind in ("bare", "ours")]
        missing = {}
        for name in ENVIRONMENTS:
            try:
                _arm("", name, folder, 1).run()
            except (Absent, RuntimeError) as error:
                missing[name] = str(error).strip().splitlines()[-1]
                arms = [arm for arm in arms if not arm.name.endswith(f" / {name}")]
        figures = interleaved(arms, repeats, warmups=0)
    notes = [
        "a step is one thread's, so that the other core is free; the state is that of ViT-S/16 with AdamW",
        "a disk is the machine's own; S3 is Ceph's gateway on this machine, whose CPU is the loop's too",
        "copies from a GPU are taken while the loop waits, through pinned memory; no GPU was at hand",
    ]
    write("stall", COMMAND, figures, _goals(figures), notes, {**versions(*ENVIRONMENTS), **missing})


def _goals(figures: Figures) -> list[Goal]:
    return [*_stalls(figures), *_lost(figures), *_memories(figures)]


def _stalls(figures: Figures) -> Iterator[Goal]:
    asked = {"disk": (0.1, 1.0), "S3": (0.1, 4.0)}
    for place, (blocked, longer) in asked.items():
        if f"{place} / ours" not in figures:
            continue
        ours = figures[f"{place} / ours"]
        yield _goal("b", f"{place}: loop blocked per save, in copies of the state", ours["blocked"], 0, blocked, _WHY_B)
        yield _goal("b", f"{place}: with the stretch of the steps beside it", ours["longer"], 1, longer, _WHY_L)
        yield _goal("b", f"{place}: CPU of the training's process", ours["main_cpu"], 1, 2.0, _WHY_C)
        part = [seconds / 10 for seconds in ours["longer_s"]]
        yield _goal("b", f"{place}: part of the time that a save every 10 s costs", part, 0, 0.005, _WHY_L)


def _lost(figures: Figures) -> Iterator[Goal]:
    """The seconds of work that a kill costs at most, where saves cost half a percent of the time."""
    for place, least, asked in (("disk", 2.0, "<= 2 s"), ("S3", 10.0, "<= 12 s")):
        if f"{place} / ours" in figures:
            ours = figures[f"{place} / ours"]
            lost = [
                max(longer / 0.005, least, written) + written
                for longer, written in zip(ours["longer_s"], ours["until_written_s"], strict=True)
            ]
            what = f"{place}: seconds lost with a kill, at the interval that costs 0.5 %"
            yield _goal("f", what, lost, "the time of one transfer", asked, _WHY_F)


def _memories(figures: Figures) -> Iterator[Goal]:
    for ranks in (1, 2):
        mine, bare = (figures.get(f"memory / {name}, ranks: {ranks}") for name in ("ours", "bare"))
        if mine and bare:
            more = [(a - b) / STATE_BYTES for a, b in zip(mine["peak_bytes"], bare["peak_bytes"], strict=True)]
            yield _goal("i", f"peak memory over the bare loop, in states, ranks: {ranks}", more, 1, 1.1, _WHY_I)


def _goal(row: str, what: str, values: list[float], floor: float | str, reach: float | str, why: str) -> Goal:
    found = spread(values)
    return Goal(row, what, found.median, floor, reach, why, found.low, found.high)


_WHY_B = "the list of live tensors and their versions is made, buffers and counters are copied while the loop waits"
_WHY_L = "the copy and the writing process share the memory's bandwidth, caches and, on S3, the server's cores with it"
_WHY_C = "one copy of the state, and what is told to the writing process"
_WHY_F = "the interval is never below 2 s on a disk and 10 s on an object store, and one that is not written is lost"
_WHY_I = "the arena is one copy; the rest is the writing process: an interpreter, and an object store's client"


def _arm(shown: str, name: str, place: str, saves: int) -> Arm:
    def run() -> Mapping[str, float]:
        folder = f"{place}/{uuid.uuid4().hex}"
        try:
            line = _run(name, folder, saves).line()
        finally:
            _remove(folder)
        return {figure: line[figure] for figure in _SHOWN}

    return Arm(shown, run)


def _run(name: str, folder: str, saves: int) -> Child:
    if name in ENVIRONMENTS:
        return run_in(ENVIRONMENTS[name], "stall", [name, folder, saves])
    script = [sys.executable, "-m", "benchmarks.stall_ours" if name == "ours" else "benchmarks.peers.stall"]
    return measured([*script, name, folder, str(saves)])


def _memory(kind: str, ranks: int, place: str) -> Arm:
    def run() -> Mapping[str, float]:
        folder = f"{place}/{uuid.uuid4().hex}"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        own = "ranks" if kind == "ours" else "bare"
        try:
            child = measured([*launcher, "-m", "benchmarks.stall_ours", own, folder, "3"], memory=True)
        finally:
            _remove(folder)
        return {"peak_bytes": float(child.peak_bytes)}

    return Arm(f"memory / {kind}, ranks: {ranks}", run)


def _remove(folder: str) -> None:
    from carryover.ground.storage import open_store

    parent, _, name = folder.rpartition("/")
    open_store(parent).delete_folder(name)


@contextmanager
def _s3() -> Iterator[str]:
    """Give a place on an S3 server of this machine; "" where none can be had."""
    from tests.support import s3_server

    try:
        server = s3_server.start()
    except Exception as error:
        print(f"no S3 server: {error}", flush=True)
        yield ""
        return
    os.environ.update(server.env)
    try:
        yield f"s3://{s3_server.BUCKET}"
    finally:
        server.stop()


if __name__ == "__main__":
    main()
