"""A pipeline on this machine: retries, exit codes, and that nothing of a step outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carryover.ground.errors import CarryoverError, RunAgain, Superseded, WrongInput
from carryover_kfp import processes
from carryover_kfp.local import run_here
from tests.authoring import tiny_pipelines

REPOSITORY = Path(__file__).resolve().parents[2]


def tries(folder: Path) -> int:
    return len((folder / "attempts").read_text().splitlines())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@pytest.mark.parametrize("code", [1, 75, -9])
def test_a_step_that_may_succeed_is_tried_again(tmp_path, capsys, code):
    finished = run_here(tiny_pipelines.attempts, {"folder": str(tmp_path), "code": code}, root=tmp_path / "root")
    assert tries(tmp_path) == 3
    assert finished.outputs == {"Output": str(tmp_path)}
    assert finished.folder.is_relative_to(tmp_path / "root")
    shown = capsys.readouterr().out
    assert "[1/1] attempt\n" in shown
    assert "(attempt 3)" in shown
    assert ("killed by SIGKILL" if code == -9 else f"exit code {code}") in shown
    assert f"attempt 1 in {tmp_path}" in shown
    assert "KFP Executor" not in shown, "kfp's own chatter stays in its log"
    assert "Running pipeline" in (finished.folder / "kfp.log").read_text()


@pytest.mark.parametrize(("code", "kind"), [(2, WrongInput), (76, Superseded)])
def test_what_cannot_succeed_is_not_tried_again(tmp_path, code, kind):
    with pytest.raises(kind, match=f"'attempt' ended with exit code {code}"):
        run_here(tiny_pipelines.attempts, {"folder": str(tmp_path), "code": code}, root=tmp_path / "root")
    assert tries(tmp_path) == 1


@pytest.mark.parametrize(("code", "kind"), [(1, CarryoverError), (75, RunAgain)])
def test_the_last_code_is_the_pipelines(tmp_path, code, kind):
    with pytest.raises(kind, match="kfp's own log is") as caught:
        run_here(tiny_pipelines.once, {"folder": str(tmp_path), "code": code}, root=tmp_path / "root")
    assert caught.value.exit_code == code
    assert tries(tmp_path) == 1


def test_python3_inside_an_argument_is_left_alone(tmp_path):
    folder = tmp_path / "lib" / "python3.11" / "site-packages"
    folder.mkdir(parents=True)
    finished = run_here(tiny_pipelines.attempts, {"folder": str(folder), "code": 0}, root=folder / "root")
    assert finished.outputs == {"Output": str(folder)}


def test_kfps_own_functions_are_back_afterwards(tmp_path):
    from kfp.local import subprocess_task_handler as handler

    before = handler.run_local_subprocess, handler.replace_python_executable
    run_here(tiny_pipelines.attempts, {"folder": str(tmp_path), "code": 0}, root=tmp_path / "root")
    assert before == (handler.run_local_subprocess, handler.replace_python_executable)


def test_what_a_step_leaves_behind_is_ended(tmp_path):
    run_here(tiny_pipelines.leaves, {"folder": str(tmp_path)}, root=tmp_path / "root")
    pid = int((tmp_path / "pids").read_text())
    until(lambda: not alive(pid))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_whole_step(tmp_path, number):
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.authoring.tiny_pipelines", str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As in a terminal: a group of its own, and SIGINT not ignored.
        start_new_session=True,
    )
    until((tmp_path / "pids").exists)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(alive(pid) for pid in pids)
    os.kill(run.pid, number)
    said, _ = run.communicate(timeout=60)
    assert run.returncode != 0, said
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_kill_reaches_every_session(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-c", "import subprocess,time; subprocess.Popen(['sleep','99'],start_new_session=True); "
         "print('up', flush=True); time.sleep(99)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert run.stdout
    run.stdout.readline()
    found = processes.below(run.pid)
    assert len(found) == 1
    assert processes.stop(lambda: {run.pid, *processes.below(run.pid)}) == {run.pid, *found}
    assert all(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T" for pid in found)
    processes.kill(lambda: {run.pid, *processes.below(run.pid)})
    assert run.wait(timeout=10) == -signal.SIGKILL
    until(lambda: not any(alive(pid) for pid in found))
