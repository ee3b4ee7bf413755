"""How long work shows how far it is: on a real pseudo-terminal, and as lines."""

import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from carryover.ground import bars

REPOSITORY = Path(__file__).parents[2]
WORK = """
import os, sys, time
from carryover.ground import bars, console
with bars.bar("first pass", total=200) as shown, bars.bar("uploading x", unit=bars.BYTES) as other:
    for done in range(20):
        time.sleep(0.08)
        shown.add(10)
        other.add(1 << 20)
        if done == 12:
            console.say("a line [bold] of its own")
            print("from a library", file=sys.stderr)
            print("result", flush=True)
with bars.working("looking"):
    time.sleep(0.9)
console.panel("attempt 2 goes on", {"lost": "2 steps", "changed": "a: 1 -> 2"})
"""


def on_terminal(code: str, **environment: str) -> tuple[str, str]:
    """Run code with its stderr on a terminal; returns what that got, and stdout."""
    near, far = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(near, 65536):
                seen.append(data)
        except OSError:
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **environment}
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    ended = subprocess.run(command, stdout=pipe, stderr=far, env=env, cwd=REPOSITORY, check=True, timeout=60)
    os.close(far)
    reader.join(5)
    return b"".join(seen).decode(), ended.stdout.decode()


def test_a_terminal_gets_bars_with_lines_above(monkeypatch: pytest.MonkeyPatch):
    seen, stdout = on_terminal(WORK)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert stdout == "result\n", "what a command prints is not the terminal's"
    assert "━" in plain and "200 rows" in plain and "MiB" in plain and "looking" in plain
    assert "a line [bold] of its own\r\n" in plain and "from a library\r\n" in plain
    assert "╭─ attempt 2 goes on" in plain and "2 steps" in plain
    assert seen.rstrip().endswith("╯") or "\x1b[?25h" in seen, "the cursor is there in the end"


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"CARRYOVER_LOG_FORMAT": "text"}])
def test_lines_where_a_bar_is_not_wanted(environment: dict[str, str]):
    seen, _ = on_terminal(WORK, **environment)
    assert "━" not in seen and "\x1b" not in seen
    assert "attempt 2 goes on\r\n  lost     2 steps\r\n  changed  a: 1 -> 2\r\n" in seen


def test_no_colours_are_drawn_where_they_are_not_wanted():
    seen, _ = on_terminal(WORK, NO_COLOR="1")
    assert "━" in seen and not re.search(r"\x1b\[[0-9;]*3[0-9]m", seen)


def test_long_work_says_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bars, "SECONDS", 0.0)
    with bars.bar("second pass", total=1200) as shown:
        shown.to(300, note="file 1 of 2")
    assert capsys.readouterr().err == "second pass: 300 of 1,200 rows, file 1 of 2\n"
    monkeypatch.setattr(bars, "SECONDS", 15.0)
    with bars.bar("short"), bars.working("short too"):
        pass
    assert capsys.readouterr().err == ""
