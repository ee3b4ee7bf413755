"""What saves cost a loop, beside other programs: `python -m benchmarks.stall [--quick]` (rows b, f and i).

arm            a program in a process of its own saves again and again, on a disk or on S3    (peers/stall.py)
unit           one copy of the state (ViT-S with AdamW, 260 MB) into memory that is there, by one thread
blocked        the loop stood still       longer: that, and what the steps beside the save took more
memory         of all processes of a node, shared pages once, over the bare loop's, in states
"""

import argparse
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.arms import Arm, Figures, Goal, interleaved, spread, write
from benchmarks.children import Child, measured
from benchmarks.peers.programs import Absent, run_in, versions
from benchmarks.s3_places import serving
from tests.support import s3_server

COMMAND = "python -m benchmarks.stall"
STATE_BYTES = 260_030_164
ENVIRONMENTS = {"torch_checkpointing": "torch_checkpointing", "torchsnapshot": "torchsnapshot"}
FLOOR = "raw writer"
_SCRIPTS = {"ours": "benchmarks.stall_ours", FLOOR: "benchmarks.stall_floor"}
DISK = ("ours", FLOOR, "torch.save", "DCP save", "DCP async", *ENVIRONMENTS)
S3 = ("ours", FLOOR, "torch.save", "DCP async")
CEPH, LIGHT = "S3 (Ceph)", "S3 (in memory)"
Place = Callable[[], AbstractContextManager[str]]  # gives a folder for one arm's run
_SHOWN = ("blocked", "longer", "main_cpu", "memcpy_s", "step_s", "longer_s", "slower_cpu_s", "until_written_s")


def main() -> None:
    """Run all arms, and write what they gave."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="fewer saves and repeats")
    quick = flags.parse_args().quick
    saves, repeats = (2, 1) if quick else (5, 3)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="stall-") as folder:
        disk = _disk(folder)
        arms = [_arm(f"disk / {name}", name, disk, saves) for name in DISK]
        for server, place in ((CEPH, _ceph), (LIGHT, _light)):
            arms += [_arm(f"{server} / {name}", name, place, saves) for name in S3] if _is_there(place) else []
        arms += [_memory(kind, ranks, folder) for ranks in (1, 2) for kind in ("bare", "ours")]
        missing = {}
        for name in ENVIRONMENTS:
            try:
                _arm("", name, disk, 1).run()
            except (Absent, RuntimeError) as error:
                missing[name] = str(error).strip().splitlines()[-1]
                arms = [arm for arm in arms if not arm.name.endswith(f" / {name}")]
        figures = interleaved(arms, repeats, warmups=0)
    notes = [
        "a step is one thread's, so that the other core is free; the state is that of ViT-S/16 with AdamW",
        "a disk is the machine's own; S3 is Ceph's gateway, or a server in memory that costs next to nothing; both "
        "share this machine's cores and memory with the loop, and what the raw writer shows is their part",
        "copies from a GPU are taken while the loop waits, through pinned memory; no GPU was at hand",
    ]
    write("stall", COMMAND, figures, _goals(figures), notes, {**versions(*ENVIRONMENTS), **missing})


def _goals(figures: Figures) -> list[Goal]:
    return [*_stalls(figures), *_lost(figures), *_memories(figures)]


def _stalls(figures: Figures) -> Iterator[Goal]:
    asked = {"disk": (0.1, 1.0), CEPH: (0.1, 4.0), LIGHT: (0.1, 4.0)}
    for place, (blocked, longer) in asked.items():
        if f"{place} / ours" not in figures:
            continue
        ours = figures[f"{place} / ours"]
        yield _goal("b", f"{place}: loop blocked per save, in copies of the state", ours["blocked"], 0, blocked, _WHY_B)
        floor = f"{spread(figures[f'{place} / {FLOOR}']['longer']).median:.2f} (another process writes as many bytes)"
        yield _goal("b", f"{place}: with the stretch of the steps beside it", ours["longer"], floor, longer, _WHY_L)
        yield _goal("b", f"{place}: CPU of the training's process", ours["main_cpu"], 1, 2.0, _WHY_C)
        part = [seconds / 10 for seconds in ours["longer_s"]]
        yield _goal("b", f"{place}: part of the time that a save every 10 s costs", part, 0, 0.005, _WHY_L)


def _lost(figures: Figures) -> Iterator[Goal]:
    """The seconds of work that a kill costs at most, where saves cost half a percent of the time."""
    for place, least, asked in (("disk", 2.0, "<= 2 s"), (CEPH, 10.0, "<= 12 s"), (LIGHT, 10.0, "<= 12 s")):
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
_WHY_L = (
    "writing as many bytes slows any loop beside it, by the memory's bandwidth and, on S3, the server's use of the "
    "same cores; the copy and a second look at the bytes, for their digests, come on top"
)
_WHY_C = "one copy of the state, and what is told to the writing process"
_WHY_F = (
    "the stretch of a save over 0.005 is the interval, so what writing the bytes costs any loop here bounds it; one "
    "that is not written is lost too"
)
_WHY_I = "the arena is one copy; the rest is the writing process: an interpreter, and an object store's client"


def _arm(shown: str, name: str, place: Place, saves: int) -> Arm:
    def run() -> Mapping[str, float]:
        with place() as folder:
            line = _run(name, folder, saves).line()
        return {figure: line[figure] for figure in _SHOWN}

    return Arm(shown, run)


def _run(name: str, folder: str, saves: int) -> Child:
    if name in ENVIRONMENTS:
        return run_in(ENVIRONMENTS[name], "stall", [name, folder, saves])
    script = _SCRIPTS.get(name, "benchmarks.peers.stall")
    return measured([sys.executable, "-m", script, "raw" if name == FLOOR else name, folder, str(saves)])


def _memory(kind: str, ranks: int, place: str) -> Arm:
    def run() -> Mapping[str, float]:
        folder = f"{place}/{uuid.uuid4().hex}"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        own = "ranks" if kind == "ours" else "bare"
        try:
            child = measured([*launcher, "-m", "benchmarks.stall_ours", own, folder, "3"], memory=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return {"peak_bytes": float(child.peak_bytes)}

    return Arm(f"memory / {kind}, ranks: {ranks}", run)


def _disk(folder: str) -> Place:
    @contextmanager
    def place() -> Iterator[str]:
        one = f"{folder}/{uuid.uuid4().hex}"
        try:
            yield one
        finally:
            shutil.rmtree(one, ignore_errors=True)

    return place


@contextmanager
def _ceph() -> Iterator[str]:
    """A gateway of its own for each arm: what was overwritten or removed still fills the server's memory."""
    server = s3_server.start("ceph")
    try:
        with _environment(server.env):
            yield f"s3://{s3_server.BUCKET}/stall"
    finally:
        server.stop()


@contextmanager
def _light() -> Iterator[str]:
    """A server in memory, at full speed."""
    with serving("memory", delay=0, rate=0) as endpoint, _environment(_variables(endpoint)):
        yield f"s3://{s3_server.BUCKET}/stall"


def _variables(endpoint: str) -> Mapping[str, str]:
    return s3_server.S3Server("memory", endpoint, Path(), ()).env


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            os.environ.pop(name, None)


def _is_there(place: Place) -> bool:
    try:
        with place():
            return True
    except Exception as error:
        print(f"no S3 server: {error}", flush=True)
        return False


if __name__ == "__main__":
    main()
