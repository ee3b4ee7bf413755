"""Real torchrun, real signals: what the ranks' ends become, and that nothing is left running."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from carryover.ground.errors import WrongInput
from carryover.launch import ranks
from carryover.launch.ranks import Ending, check_torchrun, run_ranks
from tests.support import processes
from tests.support.processes import Tree

REPOSITORY = Path(__file__).parents[2]
RANK = "tests.support.launch_rank"
Start = Callable[..., Tree]
FOR_MEMORY = (
    "rank {} was lost: SIGKILL ended it, as a kernel does for want of memory; unless somebody killed it, give more "
    "memory or lower env.per_gpu_batch_size or env.num_workers; the same command goes on from the newest commit"
)


def run(scratch: Path, do: dict[str, str], **rest: Any) -> Ending:
    arguments: dict[str, Any] = {"ranks": 2, "grace_seconds": 20, "scratch": scratch, **rest}
    return run_ranks(RANK, {"do": do}, **arguments)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a step with its ranks as a tree of its own, which is killed whole in the end."""
    trees = []

    def begin(do: dict[str, str], *, grace: float = 20, count: int = 2, **spec: float) -> Tree:
        command = [sys.executable, "-m", "tests.support.launch_step", str(tmp_path)]
        values = json.dumps({"do": do, **spec})
        said = tmp_path.with_suffix(".txt")
        tree = processes.start([*command, values, str(grace), str(count)], said=said, cwd=REPOSITORY)
        trees.append(tree)
        return tree

    yield begin
    for tree in trees:
        tree.kill()


def begun(scratch: Path, count: int = 2) -> Callable[[], bool]:
    return lambda: len(list(scratch.glob("rank-*.json"))) == count


def pid_of(scratch: Path, rank: int) -> int:
    return json.loads((scratch / f"rank-{rank}.json").read_text())["pid"]


def ended(tree: Tree) -> dict[str, Any]:
    """Waits for the step's own end; says its Ending, and checks that its exit code is the same."""
    code = tree.process.wait(timeout=60)
    (line,) = [line for line in tree.text().splitlines() if line.startswith('{"exit_code"')]
    assert json.loads(line)["exit_code"] == code
    return json.loads(line)


def gone(tree: Tree, seconds: float) -> bool:
    """Whether nothing of the tree runs any more, within a time."""
    deadline = time.monotonic() + seconds
    while tree.living() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not tree.living()


def test_all_is_well(tmp_path: Path) -> None:
    assert run(tmp_path, {}) == Ending(0, "", -1)


def test_a_rank_that_never_begins_is_said_to_have_failed(tmp_path: Path) -> None:
    ending = run_ranks("tests.support.no_such_module", {}, ranks=1, scratch=tmp_path, grace_seconds=5)
    assert (ending.exit_code, ending.trouble) == (1, "step-failed")


def test_an_error_of_one_rank_counts_and_not_that_the_others_lost_it(tmp_path: Path) -> None:
    ending = run(tmp_path, {"0": "wait", "1": "exit:1:ValueError: no such thing"})
    assert ending == Ending(1, "rank 1: ValueError: no such thing", 7)


@pytest.mark.parametrize(
    ("do", "want"),
    [
        pytest.param(
            {"0": "exit:75:another rank was lost", "1": "exit:2:the GPU is missing"},
            (2, "the GPU is missing"),
            id="wrong input",
        ),
        pytest.param(
            {"0": "exit:2:whatever", "1": "exit:76:claimed"}, (76, "claimed"), marks=pytest.mark.slow, id="superseded"
        ),
    ],
)
def test_codes_of_ours_pass_through(tmp_path: Path, do: dict[str, str], want: tuple[int, str]) -> None:
    ending = run(tmp_path, do)
    assert (ending.exit_code, ending.message) == want


def test_a_killed_rank_means_run_me_again(tmp_path: Path, start: Start) -> None:
    tree = start({"*": "wait"})
    assert tree.wait_until(begun(tmp_path))
    os.kill(pid_of(tmp_path, 1), signal.SIGKILL)
    assert ended(tree) == {"exit_code": 75, "message": FOR_MEMORY.format(1), "step": 7, "trouble": "rank-lost"}
    assert gone(tree, 1)


@pytest.mark.slow
def test_a_rank_that_crashed_is_not_said_to_have_been_killed_for_memory(tmp_path: Path, start: Start) -> None:
    tree = start({"*": "wait"})
    assert tree.wait_until(begun(tmp_path))
    os.kill(pid_of(tmp_path, 1), signal.SIGSEGV)
    words = "rank 1 was lost: SIGSEGV ended it; the same command goes on from the newest commit"
    assert ended(tree) == {"exit_code": 75, "message": words, "step": 7, "trouble": "rank-lost"}


def test_the_only_rank_is_killed(tmp_path: Path, start: Start) -> None:
    tree = start({"*": "wait"}, count=1)
    assert tree.wait_until(begun(tmp_path, 1))
    os.kill(pid_of(tmp_path, 0), signal.SIGKILL)
    assert ended(tree) == {"exit_code": 75, "message": FOR_MEMORY.format(0), "step": 7, "trouble": "rank-lost"}
    assert gone(tree, 1)


def test_sigterm_lets_all_ranks_save(tmp_path: Path, start: Start) -> None:
    # Rank 1 is done at once; rank 0 still saves.
    tree = start({"*": "save"}, seconds=1.0)
    assert tree.wait_until(begun(tmp_path))
    tree.process.send_signal(signal.SIGTERM)
    assert ended(tree) == {"exit_code": 75, "message": "saved", "step": 7, "trouble": ""}
    assert gone(tree, 1)


def test_sigterm_before_a_rank_has_begun(tmp_path: Path, start: Start) -> None:
    tree = start({"*": "save"}, late=30)
    assert tree.wait_until(lambda: len(tree.living()) >= 2 and (tmp_path / "spec.json").exists())
    # The agent may be anywhere now: in its own start, in torchrun's, or with ranks that have not begun.
    time.sleep(0.5)
    tree.process.send_signal(signal.SIGTERM)
    assert ended(tree) == {
        "exit_code": 75,
        "message": "stopped before the ranks could save",
        "step": -1,
        "trouble": "preempted",
    }
    assert gone(tree, 1)


@pytest.mark.slow
def test_a_long_save_has_all_of_the_grace(tmp_path: Path, start: Start) -> None:
    """Rank 1 says 75 at once; without SIGTERM a rank would wait only 15 s for one that may be lost."""
    tree = start({"*": "save"}, seconds=18, grace=40)
    assert tree.wait_until(begun(tmp_path))
    tree.process.send_signal(signal.SIGTERM)
    assert ended(tree) == {"exit_code": 75, "message": "saved", "step": 7, "trouble": ""}


@pytest.mark.slow
def test_sigterm_when_ranks_run_but_have_not_begun(tmp_path: Path, start: Start) -> None:
    tree = start({"*": "save"}, late=30)
    assert tree.wait_until(lambda: len(tree.living()) >= 4)
    tree.process.send_signal(signal.SIGTERM)
    assert ended(tree)["exit_code"] == 75
    assert gone(tree, 1)


def test_ranks_that_do_not_listen_are_ended_after_the_grace(tmp_path: Path, start: Start) -> None:
    tree = start({"0": "save", "1": "deaf"}, grace=1.0)
    assert tree.wait_until(begun(tmp_path))
    tree.process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert ended(tree)["exit_code"] == 75
    assert time.monotonic() - asked < 15
    assert "not saved within 1 s of SIGTERM" in tree.text()
    assert gone(tree, 1)


def test_a_second_sigterm_ends_at_once(tmp_path: Path, start: Start) -> None:
    tree = start({"*": "deaf"}, grace=300)
    assert tree.wait_until(begun(tmp_path))
    tree.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert tree.process.poll() is None
    tree.process.send_signal(signal.SIGTERM)
    assert ended(tree)["exit_code"] == 75
    assert "asked to stop again" in tree.text()
    assert gone(tree, 1)


@pytest.mark.parametrize("when", ["ranks have begun", pytest.param("ranks have not begun", marks=pytest.mark.slow)])
def test_a_killed_step_leaves_no_orphan(tmp_path: Path, start: Start, when: str) -> None:
    late = 0 if when == "ranks have begun" else 30
    tree = start({"*": "deaf"}, late=late)
    assert tree.wait_until(begun(tmp_path) if not late else lambda: len(tree.living()) >= 4)
    assert len(tree.living()) >= 4
    tree.kill_one(tree.process.pid)
    tree.process.wait()
    assert gone(tree, 5)


@pytest.mark.slow
def test_a_killed_torchrun_takes_its_ranks_along(tmp_path: Path, start: Start) -> None:
    tree = start({"*": "deaf"})
    assert tree.wait_until(begun(tmp_path))
    (agent,) = [
        int(pid) for pid in Path(f"/proc/{tree.process.pid}/task/{tree.process.pid}/children").read_text().split()
    ]
    tree.kill_one(agent)
    assert ended(tree)["exit_code"] == 75
    assert gone(tree, 5)


def test_a_rank_whose_torchrun_is_gone_when_it_begins_does_not_begin(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"do": {"*": "deaf"}}')
    env = {"RANK": "0", "CARRYOVER_AGENT_PID": "1"}
    command = [sys.executable, "-m", "carryover.train.rank", str(tmp_path / "spec.json")]
    tree = processes.start(command, said=tmp_path / "said.txt", cwd=REPOSITORY, env=env)
    assert tree.process.wait(timeout=30) == 75
    assert not begun(tmp_path, 1)()


def test_progress_of_a_start_that_came_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.read_progress(tmp_path) == -1
    ranks.progress_file(tmp_path).write_text("")
    assert ranks.read_progress(tmp_path) == -1
    ranks.progress_file(tmp_path).write_text("12    ")
    assert ranks.read_progress(tmp_path) == 12
    monkeypatch.setenv(ranks.PROGRESS_VARIABLE, str(tmp_path / "elsewhere"))
    assert ranks.progress_file(tmp_path) == tmp_path / "elsewhere"


def test_torchrun_is_looked_for_without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_torchrun()
    # A torch without its launcher, as a stripped image has it.
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(WrongInput, match=r"^torchrun is missing: .* has no torch\.distributed\.run; install"):
        check_torchrun()


@pytest.mark.slow
def test_a_rank_that_waits_for_a_lost_one_is_ended(tmp_path: Path) -> None:
    """Rank 0 hangs in a collective that rank 1 will never join; torchrun alone would let it wait for minutes."""
    started = time.monotonic()
    ending = run(tmp_path, {"0": "deaf", "1": "exit:2:the file is unreadable"})
    assert (ending.exit_code, ending.message) == (2, "the file is unreadable")
    assert time.monotonic() - started < 60
