"""Owns child processes of the benchmarks: wall time, CPU of the whole tree, highest memory.

    result = measured([python, script], memory=True)      wall_s  cpu_s  peak_bytes  stdout  stderr

CPU is what the kernel charges to the process when it is waited for: user and system, with every descendant that
somebody waited for. Those whose parent left first would be lost, so they come to this process and are waited for here.
Memory is the highest sum of proportional set sizes over the tree (shared pages counted once), sampled; that costs CPU,
so it is off unless asked for: never beside a clock that matters.
"""

import ctypes
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_S = 0.05


@dataclass(frozen=True)
class Child:
    """How a child process ended. peak_bytes is 0 where memory was not asked for."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    code: int
    stdout: str
    stderr: str

    def line(self) -> dict[str, Any]:
        """The JSON object on the last line of its output that holds one."""
        for text in reversed(self.stdout.splitlines()):
            if text.startswith("{"):
                return json.loads(text)
        raise RuntimeError(f"no line of JSON in the output:\n{self.stdout[-2000:]}{self.stderr[-2000:]}")


def measured(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    timeout: float = 1800,
    memory: bool = False,
    check: bool = True,
    cwd: Path | None = None,
) -> Child:
    """Runs a command to its end; `env` adds to the environment.

    Raises RuntimeError when it fails or is late, with the end of what it said; with check off, its code tells.
    """
    with orphans_adopted() as known, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, env={**os.environ, **(env or {})}, stdout=out, stderr=err, cwd=cwd, start_new_session=True
        )
        late = threading.Timer(timeout, lambda: _kill(child.pid))
        late.start()
        with _sampled(child.pid, memory) as peak:
            _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        late.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        cpu = usage.ru_utime + usage.ru_stime + reap(known)
        texts = [_text(stream) for stream in (out, err)]
    ended = Child(wall, cpu, peak[0], child.returncode, *texts)
    if check and ended.code:
        said = ended.stdout[-2000:] + ended.stderr[-4000:]
        raise RuntimeError(f"{' '.join(command)} exited {ended.code} after {wall:.0f} s:\n{said}")
    return ended


def _text(stream: Any) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


@contextmanager
def orphans_adopted() -> Iterator[set[int]]:
    """Descendants whose parent ends come to this process while the body runs; yields the children it had before.

    Not for longer: whoever waits for an orphan to be gone would wait for a zombie here, which nobody reaps.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield _children()
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _children() -> set[int]:
    return {int(word) for path in Path("/proc/self/task").glob("*/children") for word in path.read_text().split()}


def reap(known: set[int], patience: float = 30.0) -> float:
    """CPU seconds of the orphans that came here beside the `known` children.

    They get `patience` seconds to end, then a SIGKILL.
    """
    cpu, deadline = 0.0, time.monotonic() + patience
    while orphans := _children() - known:
        for pid in orphans:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                done, _, usage = os.wait4(pid, os.WNOHANG)
                cpu += usage.ru_utime + usage.ru_stime if done else 0.0
        time.sleep(0.01)
    return cpu


@contextmanager
def _sampled(pid: int, wanted: bool):
    """A list of one number, the highest memory of the tree under `pid` while the body runs."""
    peak, over = [0], threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_S):
            peak[0] = max(peak[0], tree_bytes(pid))

    if not wanted:
        yield peak
        return
    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        over.set()
        sampler.join()


def tree_bytes(pid: int) -> int:
    """Bytes that a process and its descendants hold now, shared pages counted once (proportional set size)."""
    total, waiting = 0, [pid]
    while waiting:
        each = waiting.pop()
        with suppress(OSError):
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))
            for path in Path(f"/proc/{each}/task").glob("*/children"):
                waiting += [int(word) for word in path.read_text().split()]
    return total
