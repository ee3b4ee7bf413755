"""Python runs this at every start where this folder is on PYTHONPATH: the clock of whole trainings of any program.

BENCH_CLOCK_FILE     a line of JSON is added here when an optimizer has made its N-th step, for each N of
BENCH_CLOCK_STEPS    "15,60"
BENCH_CLOCK_PARENT   the benchmark's process: CPU and written bytes are those of the tree below it

    {"step": 15, "wall_s": ..., "cpu_s": ..., "written_bytes": ...}

All programs train with torch's AdamW, whose step is Adam's: it is wrapped when torch.optim.adam is first imported, so
that a process without torch pays nothing. A program is not changed, and cannot say when its own clock starts. (torch's
own hook behind a step would be called by those alone that call the step through torch's wrapping for profilers.)
"""

import functools
import json
import os
import sys
import time
from importlib.machinery import PathFinder

TICKS = os.sysconf("SC_CLK_TCK")


def _tree(parent: int) -> list[str]:
    """The processes below one, as folders of /proc."""
    above: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat:
                above.setdefault(int(stat.read().rpartition(")")[2].split()[1]), []).append(int(name))
        except OSError:
            continue
    found, waiting = [], list(above.get(parent, []))
    while waiting:
        found.append(waiting.pop())
        waiting += above.get(found[-1], [])
    return [f"/proc/{pid}" for pid in found]


def _spent(parent: int) -> tuple[float, int]:
    """CPU seconds and written bytes of the tree, with those of its processes that have ended."""
    ticks = written = 0
    for folder in _tree(parent):
        try:
            with open(f"{folder}/stat") as stat:
                ticks += sum(map(int, stat.read().rpartition(")")[2].split()[11:15]))
            with open(f"{folder}/io") as io:
                written += int(next(line for line in io if line.startswith("wchar:")).split()[1])
        except OSError:
            continue
    return ticks / TICKS, written


class _Clock:
    """Counts the steps of this process and writes down the asked ones."""

    def __init__(self) -> None:
        self.steps = 0
        self.asked = {int(word) for word in os.environ["BENCH_CLOCK_STEPS"].split(",")}

    def __call__(self) -> None:
        self.steps += 1
        if self.steps in self.asked:
            wall = time.monotonic()
            cpu, written = _spent(int(os.environ["BENCH_CLOCK_PARENT"]))
            line = {"step": self.steps, "wall_s": wall, "cpu_s": cpu, "written_bytes": written}
            with open(os.environ["BENCH_CLOCK_FILE"], "a") as file:
                file.write(json.dumps(line) + "\n")


def _clocked(step):
    """The step, and a look at the clock behind it."""
    clock = _Clock()

    @functools.wraps(step)
    def clocked(*words, **named):
        result = step(*words, **named)
        clock()
        return result

    return clocked


class _Watching(PathFinder):
    """Finds what the real one finds, and wraps the step of Adam behind its module."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        spec = super().find_spec(fullname, path, target)
        if fullname == "torch.optim.adam" and spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def with_clock(module):
                execute(module)
                module.Adam.step = _clocked(module.Adam.step)

            spec.loader.exec_module = with_clock
        return spec


if os.environ.get("BENCH_CLOCK_FILE"):
    sys.meta_path[sys.meta_path.index(PathFinder)] = _Watching
