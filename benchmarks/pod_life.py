"""What a pod's end costs: training in a container is ended as Kubeflow Pipelines, Argo and a lost node do it.

    python -m benchmarks.pod_life --image carryover:v0.1.0-cpu          needs podman, as root; prints a table

way        what happens                                                        promise
kfp        SIGTERM to every process, a second later SIGKILL to all             at most what came after the last commit
argo       SIGTERM to process 1, up to 120 s until it has ended by itself      nothing: saved, exit code 75
node       SIGKILL to all at once                                              at most what came after the last commit

Each way has a store of its own and the same command after every end, until the run is finished; its Model is compared
with the one of a run that nobody ended. Containers are locked as the manifests lock pods.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

USER = 10001
INSIDE = "/work"
LOCKED = (
    "--read-only",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    f"--user={USER}:0",
    "--tmpfs=/tmp:mode=1777",
    "--tmpfs=/home/carryover:mode=1777",
    "--shm-size=1g",
)
RECIPE = """\
model: {names: [numerical_mlp]}
optimization: {max_epochs: 8, patience: 1000}
checkpoint: {every_seconds: 3}
env: {batch_size: 16, per_gpu_batch_size: 8, num_workers: 0, num_workers_evaluation: 0}
"""
PROMISE = {"kfp": "what came after the last commit", "argo": "nothing", "node": "what came after the last commit"}
GRACE = 120


@dataclass
class Container:
    """One container of a training command, by its name."""

    image: str
    folder: Path
    name: str
    process: "subprocess.Popen[bytes] | None" = None

    def start(self, *words: str) -> None:
        """Start it in the background; it is removed when it has ended."""
        own = (f"--name={self.name}", "--env=OMP_NUM_THREADS=1", f"--volume={self.folder}:{INSIDE}")
        command = ["podman", "run", "--rm", *own, *LOCKED, self.image, *words]
        with self._said().open("wb") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def alive(self) -> bool:
        """Say whether it runs."""
        return self.process is not None and self.process.poll() is None

    def end(self) -> tuple[int, str]:
        """Wait until it has ended; return its exit code and what it said."""
        assert self.process is not None, "it was started"
        return self.process.wait(), self._said().read_text(errors="replace")

    def _said(self) -> Path:
        return self.folder / f"{self.name}.txt"


@dataclass
class Ended:
    """What one end of a container cost."""

    way: str
    code: int
    seconds: float
    lost_seconds: float


@dataclass
class Way:
    """All ends of one way, and what the run gave after them."""

    ends: list[Ended] = field(default_factory=list)
    lost_steps: int = 0
    model: str = ""


def podman(*words: str, check: bool = True) -> str:
    """Run podman and return what it said, both streams."""
    ended = subprocess.run(["podman", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if ended.returncode and check:
        raise RuntimeError(f"podman {' '.join(words)}: {ended.stdout.strip()[-500:]}")
    return ended.stdout


def as_kfp(name: str) -> None:
    """End a container as a pod of KFP ends: the signal goes to its whole group, and the pod is gone a second later.

    The signals are sent from outside: podman's own commands may take longer than that second.
    """
    first = int(podman("inspect", "--format={{.State.Pid}}", name))
    inside = os.readlink(f"/proc/{first}/ns/pid")
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.readlink(entry / "ns" / "pid") == inside:
                os.kill(int(entry.name), signal.SIGTERM)
    time.sleep(1)
    # Who had saved by then has ended already; with process 1 all others go.
    with contextlib.suppress(OSError):
        os.kill(first, signal.SIGKILL)


def as_argo(name: str) -> None:
    """End a container as a pod with a grace time ends."""
    # Who has ended is removed at once, maybe before podman looks again.
    podman("stop", f"--time={GRACE}", name, check=False)


def as_node(name: str) -> None:
    """End a container as it ends with its node."""
    if podman("ps", "--quiet", f"--filter=name=^{name}$"):
        podman("kill", "--signal=KILL", name)


WAYS: dict[str, Callable[[str], None]] = {"kfp": as_kfp, "argo": as_argo, "node": as_node}


def records(store: Path) -> list[Path]:
    """Return the files of a run's history, oldest first."""
    return sorted(store.glob("runs/*/log/*.json"))


def commits(store: Path) -> list[Path]:
    """Return those of them that are commits."""
    return [path for path in records(store) if json.loads(path.read_text())["kind"] == "commit"]


def wait_for_commits(container: Container, store: Path, count: int) -> bool:
    """Wait until the attempt has made so many commits; False when it ended before."""
    before = len(commits(store))
    while len(commits(store)) < before + count:
        if not container.alive():
            return False
        time.sleep(0.2)
    return True


def run_way(way: str, image: str, folder: Path, dataset: str, *, ends: int) -> Way:
    """Train to the end, with so many ends in between."""
    found, chance = Way(), random.Random(way)
    store = folder / way
    store.mkdir(mode=0o2775)
    os.chown(store, USER, 0)
    for number in range(ends + 1):
        container = Container(image, folder, f"pod-life-{os.getpid()}-{way}-{number}")
        container.start(*command(dataset, way))
        if number < ends and wait_for_commits(container, store, 2):
            # Somewhere between two commits.
            time.sleep(chance.uniform(0, 3))
            newest, began = commits(store)[-1].stat().st_mtime, time.time()
            WAYS[way](container.name)
            seconds = time.time() - began
            saved = commits(store)[-1].stat().st_mtime
            code, _ = container.end()
            # What it saved while it ended is not lost.
            lost = began - newest if saved == newest else 0.0
            found.ends.append(Ended(way, code, seconds, lost))
            continue
        code, said = container.end()
        if code:
            raise RuntimeError(f"{way}: exit code {code}\n{said[-2000:]}")
    result = json.loads((folder / way / "out" / "result.json").read_text())
    found.lost_steps, found.model = result["lost_steps"], result["digest"]
    return found


def command(dataset: str, way: str) -> Sequence[str]:
    """Return the training command; the same for each attempt, as the engines repeat it."""
    store = f"{INSIDE}/{way}"
    where = ["--dataset", dataset, "--store", store, "--output", f"{store}/out", "--recipe", f"{INSIDE}/recipe.yaml"]
    return ["train-ddp", *where, "--nproc-per-node", "2", "--owner", "pod-life"]


def prepare(image: str, folder: Path) -> str:
    """Write a table and prepare it in the image; return the Dataset's URI inside."""
    chance = random.Random(7)
    rows = [(chance.gauss(0, 1), chance.gauss(0, 1)) for _ in range(800)]
    lines = [f"{left:.4f},{right:.4f},{'yes' if left + right > chance.gauss(0, 0.3) else 'no'}" for left, right in rows]
    (folder / "table.csv").write_text("\n".join(["left,right,label", *lines]) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    container = Container(image, folder, f"pod-life-{os.getpid()}-prepare")
    where = ["--source", f"{INSIDE}/table.csv", "--label", "label", "--store", f"{INSIDE}/data"]
    container.start("prepare-data", *where, "--output", f"{INSIDE}/prepared")
    code, said = container.end()
    if code:
        raise RuntimeError(f"prepare-data: exit code {code}\n{said[-2000:]}")
    return json.loads((folder / "prepared" / "result.json").read_text())["uri"]


def measure(image: str, folder: Path, *, ends: int, ways: Sequence[str] = tuple(WAYS)) -> dict[str, Way]:
    """Return what each way cost, and under "whole" the run that nobody ended."""
    os.chown(folder, USER, 0)
    folder.chmod(0o2775)
    dataset = prepare(image, folder)
    found = {"whole": run_way("whole", image, folder, dataset, ends=0)}
    for way in ways:
        found[way] = run_way(way, image, folder, dataset, ends=ends)
    return found


def clear() -> None:
    """Remove what is left of our containers after an error."""
    for name in podman("ps", "--all", f"--filter=name=pod-life-{os.getpid()}-", "--format={{.Names}}").split():
        podman("rm", "--force", "--time=0", name)


def table(found: dict[str, Way]) -> str:
    """Return the table for docs/cluster.md."""
    columns = ("way", "ends", "exit codes", "signal to end", "after the last commit", "steps done again", "may be lost")
    lines = [f"| {' | '.join(columns)} | final weights |", "|---" * (len(columns) + 1) + "|"]
    for way, promise in PROMISE.items():
        if way not in found:
            continue
        one = found[way]
        codes = ", ".join(sorted({str(end.code) for end in one.ends}))
        took = f"{max(end.seconds for end in one.ends):.1f} s at most"
        lost = f"{max(end.lost_seconds for end in one.ends):.1f} s at most"
        same = "the same bits" if one.model == found["whole"].model else "OTHERS"
        lines.append(f"| {way} | {len(one.ends)} | {codes} | {took} | {lost} | {one.lost_steps} | {promise} | {same} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table; exit 1 when a promise does not hold."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--image", required=True)
    flags.add_argument("--ends", type=int, default=3, help="how often each way ends the run")
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory(prefix="pod-life-") as folder:
        try:
            found = measure(asked.image, Path(folder), ends=asked.ends)
        finally:
            clear()
    print(table(found))
    sys.exit(bool(broken(found)))


def broken(found: dict[str, Way]) -> list[str]:
    """Return what does not hold of the promises."""
    wrong = []
    for way in WAYS.keys() & found.keys():
        one: Any = found[way]
        if one.model != found["whole"].model:
            wrong.append(f"{way}: other weights than those of the run that nobody ended")
        if way == "argo" and (one.lost_steps or {end.code for end in one.ends} != {75}):
            wrong.append(f"argo: {one.lost_steps} steps lost, exit codes {[end.code for end in one.ends]}")
    return wrong


if __name__ == "__main__":
    main()
