"""The example notebooks in a real kernel, and what a kernel's interrupt and end do to a training."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager

from tools import notebooks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ["continue", "extend", "resume", "transfer"]
# Long enough to be stopped in its middle; the same words in each kernel.
CELL = """
import carryover, random
chance = random.Random(3)
rows = [{"x": chance.random(), "y": chance.random()} for _ in range(600)]
data = carryover.prepare([{**row, "big": "yes" if row["x"] + row["y"] > 1 else "no"} for row in rows], "big")
model = carryover.train(
    data,
    model={"names": ["numerical_mlp"]},
    optimization={"max_epochs": 30, "patience": 1000, "val_check_interval": 1.0},
    env={"batch_size": 16, "num_workers": 0, "num_workers_evaluation": 0},
    checkpoint={"every_steps": 20},
    nproc_per_node=1,
)
print("DIGEST", model.digest, "ATTEMPTS", model.result["attempts"])
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_keeps_what_it_says(name: str) -> None:
    """Its claims are asserted in its own cells; what is stored has the shape of what comes out now."""
    stored: Any = nbformat.read(notebooks.NOTEBOOKS / f"{name}.ipynb", as_version=4)
    now = notebooks.run(name)
    assert [_kinds(cell) for cell in now.cells] == [_kinds(cell) for cell in stored.cells]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_with_its_outputs_and_nothing_of_a_machine(name: str) -> None:
    path = notebooks.NOTEBOOKS / f"{name}.ipynb"
    text = path.read_text(encoding="utf-8")
    code: list[Any] = [cell for cell in nbformat.reads(text, as_version=4).cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in code) > len(code) / 2
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not re.findall(r"/(?:tmp|home|root|work|Users|var|opt|usr)/[^\s\"<\\]*", text)
    assert not re.findall(r"Traceback|\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text)
    # Errors on show are of ours: one line, how to go on, where to read more.
    errors = [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert all(len(error.traceback) <= 3 for error in errors)


def _kinds(cell: Any) -> tuple[str, list[str]]:
    return cell.cell_type, [output.output_type for output in cell.get("outputs", ())]


@dataclass
class Kernel:
    """A real kernel in a folder; `said` is what its cells printed, `errors` (name, value, shown lines)."""

    manager: KernelManager
    client: Any
    said: str = ""
    errors: list[tuple[str, str, list[str]]] = field(default_factory=list)

    def start(self, code: str) -> str:
        return self.client.execute(code)

    def listen(self, request: str, *, until: str = "", seconds: float = 300) -> None:
        """Take in what a cell says, until it has said a word or, without one, until it has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = self.client.get_iopub_msg(timeout=max(1, end - time.monotonic()))
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                self.said += content["text"]
            if kind == "error":
                self.errors.append((content["ename"], content["evalue"], content["traceback"]))
            if (until and until in self.said) or (kind == "status" and content["execution_state"] == "idle"):
                return
        raise AssertionError(f"{seconds:g} s are over; it said: {self.said}")


@contextmanager
def kernel(folder: Path) -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    env = {**os.environ, "PYTHONPATH": str(notebooks.ROOT), "HF_HUB_OFFLINE": "1"}
    manager.start_kernel(cwd=str(folder), env=env)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _digest(said: str) -> str:
    found = re.search(r"DIGEST (\w+) ATTEMPTS 2", said)
    assert found, said
    return found[1]


def _commits(folder: Path) -> int:
    records = folder.glob(".carryover/runs/*/log/*.json")
    return sum(json.loads(record.read_text())["kind"] == "commit" for record in records)


def test_the_stop_button_saves_and_a_killed_kernel_loses_little(tmp_path: Path) -> None:
    stopped, killed = tmp_path / "stopped", tmp_path / "killed"
    stopped.mkdir()
    killed.mkdir()
    with kernel(stopped) as one:
        request = one.start(CELL)
        one.listen(request, until="committed step 20")
        one.manager.interrupt_kernel()
        one.listen(request)
        ((name, value, shown),) = one.errors
        assert name == "RunAgain" and "saved" in value
        assert shown[1:] == [
            "Run this cell again: it goes on from the newest commit.",
            "more: !carryover explain preempted",
        ]
        one.listen(one.start(CELL))
        assert len(one.errors) == 1
    with kernel(killed) as first:
        request = first.start(CELL)
        first.listen(request, until="committed step 20")
        assert _commits(killed) >= 1
        pid = first.manager.provisioner.pid  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        os.kill(pid, signal.SIGKILL)
    with kernel(killed) as second:
        second.listen(second.start(CELL))
        assert second.errors == []
    # However it ended: the same bits.
    assert _digest(one.said) == _digest(second.said)
