"""The benchmarks' own ground: arms in turn, CPU of a whole tree, goals with bounds in both directions."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.arms import Arm, Goal, interleaved, ratio, write
from benchmarks.children import measured


def test_arms_run_in_turn_and_warm_ups_are_not_counted() -> None:
    order: list[str] = []

    def arm(name: str, value: float) -> Arm:
        def run() -> dict[str, float]:
            order.append(name)
            return {"time_s": value * len(order)}

        return Arm(name, run)

    figures = interleaved([arm("one", 1.0), arm("two", 2.0)], 3, warmups=1)
    assert order == ["one", "two"] * 4
    assert figures == {"one": {"time_s": [3.0, 5.0, 7.0]}, "two": {"time_s": [8.0, 12.0, 16.0]}}
    found = ratio(figures, "two", "one", "time_s")
    assert (found.low, found.median, found.high) == (16 / 7, 12 / 5, 8 / 3)


@pytest.mark.parametrize(
    ("ours", "reach", "reached"),
    [
        (4.0, "<= 5 us", True),
        (6.0, "<= 5 us", False),
        (0.98, ">= 0.99", False),
        (0.995, ">= 0.99", True),
        (1.0, 1.05, True),
        (None, 1.05, None),
    ],
)
def test_a_goal_knows_its_bound(ours: float | None, reach: float | str, reached: bool | None) -> None:
    assert Goal("a", "something", ours, 0, reach, "because").reached is reached


def test_a_goal_without_a_bound_or_a_row_of_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="'<= 5 us'"):
        Goal("a", "something", 1.0, 0, "about 5", "because")
    with pytest.raises(ValueError, match="rows are a to i"):
        Goal("z", "something", 1.0, 0, 1.0, "because")


def test_cpu_of_a_process_that_outlives_its_parent_is_counted() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}], start_new_session=True)"
    ended = measured([sys.executable, "-c", orphan + "; print('{\"answer\": 1}')"])
    assert ended.cpu_s >= 0.5
    assert ended.line() == {"answer": 1}
    assert ended.peak_bytes == 0


def test_memory_is_that_of_the_whole_tree() -> None:
    child = "import time; held = bytearray(60_000_000); time.sleep(0.6)"
    parent = f"import subprocess, sys; held = bytearray(60_000_000); subprocess.run([sys.executable, '-c', {child!r}])"
    assert 120_000_000 <= measured([sys.executable, "-c", parent], memory=True).peak_bytes < 240_000_000


def test_a_child_that_fails_or_is_late_is_said() -> None:
    with pytest.raises(RuntimeError, match=r"exited 3 .*\nout of words"):
        measured([sys.executable, "-c", "import sys; print('out of words', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(RuntimeError, match="exited -9"):
        measured([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.3)


def test_what_is_written_says_machine_and_verdict(tmp_path: Path) -> None:
    goal = Goal("c", "bytes", 1.01, 1.0, "<= 1.02", "headers", 1.0, 1.02)
    path = write("bytes", "python -m benchmarks.bytes", {"ours": {"disk_bytes": [1.0]}}, [goal], folder=tmp_path)
    content = json.loads(path.read_text())
    assert content["goals"][0]["reached"] is True
    assert content["machine"]["cores"] and content["machine"]["torch"]
    assert len(content["load"]["start"]) == len(content["load"]["end"]) == 3
