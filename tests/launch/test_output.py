"""What ranks print on its way to a terminal: whole lines, a pipe that never fills, nobody left when the step dies."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from carryover.ground import console
from carryover.launch.output import Relay, Training

REPOSITORY = Path(__file__).parents[2]


def test_lines_are_whole_and_in_order(capsys: pytest.CaptureFixture[str]):
    relay = Relay()
    code = "import sys\nfrom carryover.ground.console import say\n"
    code += "for n in range(2000): say(f'{sys.argv[1]} {n} ' + 'x' * 100)"
    writers = [
        subprocess.Popen([sys.executable, "-u", "-c", code, name], stderr=relay.write_end, cwd=REPOSITORY)
        for name in "ab"
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    os.write(relay.write_end, b"10%\r50%\r100%\r\nwarning: \xff odd\nno end")
    relay.close()
    lines = capsys.readouterr().err.splitlines()
    for name in "ab":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {n} {'x' * 100}" for n in range(2000)]
    assert lines[-5:] == ["10%", "50%", "100%", "warning: \ufffd odd", "no end"]


def test_a_terminal_that_stands_still_stops_no_rank():
    held, printed = threading.Event(), []

    def printer(line: str) -> None:
        held.wait(30)
        printed.append(line)

    with console.shown_by(printer):
        relay = Relay()
        started = time.monotonic()
        code = "import os\nfor _ in range(100_000): os.write(1, b'y' * 99 + b'\\n')"
        subprocess.run([sys.executable, "-c", code], stdout=relay.write_end, check=True, timeout=60)
        assert time.monotonic() - started < 60
        held.set()
        relay.close()
    assert printed and set(printed) == {"y" * 99}, "what nobody took in time is dropped, whole lines only"


def test_json_lines_pass_and_others_become_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(console.FORMAT_VARIABLE, "json")
    relay = Relay()
    event = console.as_json("one", level="warning", fields={"step": 3})
    os.write(relay.write_end, f'{event}\nTraceback of a library\n{{"a": 1}}\n'.encode())
    relay.close()
    first, second, third = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first == json.loads(event)
    assert (second["message"], second["logger"]) == ("Traceback of a library", "output")
    assert third["message"] == '{"a": 1}'


def test_the_bar_is_what_rank_0_wrote_down(tmp_path: Path):
    row = Training(tmp_path, leads=True).row
    assert row()[:3] == ("starting", None, 0)
    told = {"step": 120, "total": 400, "epoch": 2, "max_epochs": 5, "attempt": 3, "phase": "training", "loss": 0.5}
    told |= {"learning_rate": 1e-4, "rows_per_second": 1234.5, "eta_seconds": 75.0, "commit_step": 100}
    (tmp_path / "progress.json").write_text(json.dumps({**told, "commit_time": time.time() - 12}))
    what, total, done, words = row()
    assert (what, total, done) == ("epoch 2/5", 400, 120)
    assert words == (
        "step 120/400  1m15s left\nattempt 3  loss 0.5000  rate 1.00e-04  1,234 rows/s  saved 12s ago at step 100"
    )
    (tmp_path / "progress.json").write_text(json.dumps({**told, "phase": "validating", "commit_time": None}))
    assert row()[0] == "epoch 2/5 (validating)" and "nothing saved yet" in row()[3]
    (tmp_path / "progress.json").write_text('{"step": 12')
    assert row()[0] == "starting", "a file that is no JSON is no bar, and no error"


def test_on_a_terminal_too_ranks_die_with_the_step(tmp_path: Path):
    near, far = pty.openpty()
    words = [sys.executable, "-m", "tests.support.launch_step", str(tmp_path), json.dumps({"do": {"*": "deaf"}})]
    env = {**os.environ, "TERM": "xterm-256color"}
    step = subprocess.Popen([*words, "20", "1"], cwd=REPOSITORY, stdout=far, stderr=far, env=env)
    os.close(far)
    seen: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(near, 65536):
                seen.append(data)
        except OSError:
            pass  # The last one that had the terminal is gone.

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    rank, deadline = tmp_path / "rank-0.json", time.monotonic() + 120
    while not rank.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    pid = json.loads(rank.read_text())["pid"]
    os.kill(step.pid, signal.SIGKILL)
    assert step.wait() == -signal.SIGKILL
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists(), "nobody reads the pipe any more, and nobody is left to write"
    reader.join(10)
    assert b"starting" in b"".join(seen)
