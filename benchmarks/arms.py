"""Owns how the benchmarks measure: arms run in turn, medians and spread, CPU beside wall, one JSON a topic.

    arms A, B, C:   A B C   A B C   A B C ...      a busy minute slows all of them
                    warm-up \\______ counted ____/
    figures         {arm: {figure: [one value a repeat]}}; a name ends in its unit: _s _cpu_s _us _bytes _count,
                    or in none (a ratio)
                    arms named "MiniLM / ours" and "MiniLM / bare" are one table of the page
    goals           lines of the table of goals: what is measured, beside its floor and what was to be reached
    file            benchmarks/results/<topic>.json, read by benchmarks/page.py

Times of one machine say little, so a claim is a ratio of arms of one run.
"""

import json
import os
import platform
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

RESULTS = "BENCH_RESULTS"  # environment: another folder for the JSON files
Figures = dict[str, dict[str, list[float]]]
_load: list[tuple[float, float, float]] = []  # what the first round of this process began beside


@dataclass(frozen=True)
class Arm:
    """A program to compare: `run` does one repeat and returns its figures."""

    name: str
    run: Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Spread:
    """What repeats gave: the median, the lowest and the highest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Goal:
    """A line of the table of goals.

    row: "a" to "i". ours: the measured ratio (a median) with its low and high; None: not measured, and `why` says why
    not. floor: what no program can beat, a number or words. reach: what was to be reached: "<= 5 us", ">= 0.99", or a
    number, which means at most that. why: one sentence, what the gap between ours and the floor is made of.
    peer: the best other program in the same run, in words with its figure.
    """

    row: str
    what: str
    ours: float | None
    floor: float | str
    reach: float | str
    why: str
    low: float | None = None
    high: float | None = None
    peer: str = ""

    def __post_init__(self) -> None:
        if self.row not in list("abcdefghi"):
            raise ValueError(f"row: {self.row!r}; the table's rows are a to i")
        _bound(self.reach)

    @property
    def reached(self) -> bool | None:
        """Whether ours keeps the bound; None where nothing was measured."""
        if self.ours is None:
            return None
        at_most, bound = _bound(self.reach)
        return self.ours <= bound if at_most else self.ours >= bound


def _bound(reach: float | str) -> tuple[bool, float]:
    """The direction (at most?) and the number of a bound such as "<= 5 us"."""
    if isinstance(reach, (int, float)):
        return True, float(reach)
    found = re.fullmatch(r"(<=|>=)\s*([0-9.]+(?:e-?[0-9]+)?)\s*.*", reach)
    if not found:
        raise ValueError(f"reach: {reach!r}; write a number, '<= 5 us' or '>= 0.99'")
    return found[1] == "<=", float(found[2])


def interleaved(arms: Sequence[Arm], repeats: int, warmups: int = 1) -> Figures:
    """Runs all arms in order, `warmups + repeats` times over, and prints a line each; warm-ups are not counted."""
    if not _load:
        _load.append(os.getloadavg())
        warn_if_busy()
    figures: Figures = {arm.name: {} for arm in arms}
    for turn in range(warmups + repeats):
        counted = turn >= warmups
        for arm in arms:
            measured = arm.run()
            print(f"{arm.name}: {_words(measured)}" + ("" if counted else " (warm-up, not counted)"), flush=True)
            for figure, value in measured.items() if counted else ():
                figures[arm.name].setdefault(figure, []).append(float(value))
    return figures


def spread(values: Sequence[float]) -> Spread:
    """The median of the values, the lowest and the highest."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(figures: Figures, ours: str, over: str, figure: str) -> Spread:
    """One arm's figure over another's, repeat by repeat: those stood beside each other in time."""
    pairs = zip(figures[ours][figure], figures[over][figure], strict=True)
    return spread([mine / theirs for mine, theirs in pairs])


def warn_if_busy() -> bool:
    """Says so when more runs here than the machine has cores for; true when it does."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if busy := load > cores:
        print(f"the machine is busy (load {load:.1f} on {cores} cores): trust ratios and CPU seconds only", flush=True)
    return busy


def machine() -> dict[str, object]:
    """The machine in words, without names: cores, CPU, memory, accelerators, versions."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = [
        line.split(":", 1)[1].strip() for path in gpus for line in path.read_text().splitlines() if "Model" in line
    ]
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gib": round(pages / 2**30),
        "gpu": ", ".join(models) or "none",
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def version(package: str) -> str:
    """The installed version of a package, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def write(
    topic: str,
    command: str,
    figures: Figures,
    goals: Sequence[Goal],
    notes: Sequence[str] = (),
    peers: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Path:
    """Writes <topic>.json and prints the goals; returns the file.

    command: what repeats it. peers: name -> version, or the reason why that program can't do the job.
    """
    content = {
        "topic": topic,
        "command": command,
        "machine": machine(),
        "load": {"start": _load[0] if _load else os.getloadavg(), "end": os.getloadavg()},
        "goals": [asdict(goal) | {"reached": goal.reached} for goal in goals],
        "figures": figures,
        "notes": list(notes),
        "peers": dict(peers or {}),
    }
    for goal in goals:
        verdict = {True: "reached", False: "missed", None: "not measured"}[goal.reached]
        ours = "-" if goal.ours is None else f"{goal.ours:.4g}"
        print(f"({goal.row}) {goal.what}: {ours}, floor {goal.floor}, asked {goal.reach}: {verdict}", flush=True)
    path = (folder or results_folder()) / f"{topic}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def results_folder() -> Path:
    """Where results are written and read: benchmarks/results, or what BENCH_RESULTS names."""
    return Path(os.environ.get(RESULTS) or Path(__file__).parent / "results")


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"model name\s*:\s*(.+)", info)
    return found[1] if found else platform.machine()


def _words(measured: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in measured.items())
