"""Clocks that stand days apart, and one that jumps while its attempt runs: who lives is never judged by them.

Each attempt runs under libfaketime, which moves the time of day and leaves the monotonic clock, as who sets a clock
does.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.torture.harness import DEADLINE, Started, new_run, said, violations

LIBRARIES = ("libfaketimeMT.so.1", "libfaketime.so.1")
PROGRAM = "import json, sys; from tests.torture.worker import Attempt, run; run(Attempt(**json.loads(sys.argv[1])))"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def library() -> Path:
    """The library that moves clocks."""
    folders = [Path("/usr/lib"), *Path("/usr/lib").glob("*-linux-gnu"), Path("/usr/local/lib")]
    found = [folder / "faketime" / name for name in LIBRARIES for folder in folders]
    there = [path for path in found if path.exists()]
    if not there:
        pytest.skip("libfaketime is not installed (Debian: apt-get install libfaketime)")
    return there[0]


class Clock:
    """The time of day that a process sees: so far from everybody's, as its file says from now on."""

    def __init__(self, library: Path, file: Path) -> None:
        self.file = file
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(REPOSITORY / "tests" / "support" / "clock"),
        }

    def set(self, offset: str) -> "Clock":
        """Set it, "-2d" or "+5h" from the true one; a reader sees the old or the new text whole."""
        beside = self.file.with_suffix(".new")
        beside.write_text(f"{offset}\n")
        beside.replace(self.file)
        return self


class _Process(subprocess.Popen[bytes]):
    """A process with the words of those that harness.Started knows."""

    def is_alive(self) -> bool:
        return self.poll() is None

    def join(self, seconds: float | None = None) -> None:
        try:
            self.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    @property
    def exitcode(self) -> int | None:
        return self.poll()


@contextmanager
def attempt(folder: Path, uri: str, owner: str, clock: Clock) -> Iterator[Started]:
    """An attempt whose process sees this clock."""
    told = {"uri": uri, "said": said(folder), "owner": owner}
    # The harness's own processes are forked, and a library can be loaded before a start only.
    process = _Process(
        [sys.executable, "-c", PROGRAM, json.dumps(told)], cwd=REPOSITORY, env={**os.environ, **clock.env}
    )
    started = Started(process, Path(told["said"]))  # pyright: ignore[reportArgumentType]
    try:
        yield started
    finally:
        started.end()


def _until_saved(one: Started, more: int) -> None:
    goal = len(one.saved()) + more
    assert one.until(lambda: len(one.saved()) >= goal), one.lines()[-2:]


def test_the_clock_is_another(library: Path, tmp_path: Path) -> None:
    clock = Clock(library, tmp_path / "clock").set("-2d")
    program = "import time; print(time.time(), time.monotonic())"
    shown = subprocess.run([sys.executable, "-c", program], env={**os.environ, **clock.env}, capture_output=True)
    wall, steady = map(float, shown.stdout.split())
    assert 47 < (time.time() - wall) / 3600 < 49
    assert abs(time.monotonic() - steady) < DEADLINE


@pytest.mark.parametrize(("first", "second", "jump"), [("+3d", "-5h", "-2d"), ("-3d", "+5h", "+2d")])
def test_a_living_attempt_is_waited_for_and_a_still_one_is_not(
    library: Path, tmp_path: Path, first: str, second: str, jump: str
) -> None:
    uri = new_run(str(tmp_path / "store"))
    clock = Clock(library, tmp_path / "first").set(first)
    with attempt(tmp_path, uri, "one", clock) as one:
        assert one.until(lambda: bool(one.saved()))
        with attempt(tmp_path, uri, "two", Clock(library, tmp_path / "second").set(second)) as two:
            assert two.until(lambda: ["waiting"] in two.lines())
            clock.set(jump)
            _until_saved(one, 20)
            assert not two.saved(), "a living attempt was taken over"
            one.freeze()
            assert two.until(lambda: bool(two.saved())), two.lines()[-2:]
            Clock(library, tmp_path / "second").set(jump)
            _until_saved(two, 3)
            two.freeze()
            one.thaw()
            assert one.code() == 76
        assert violations(uri, [*one.saved(), *two.saved()]) == []
