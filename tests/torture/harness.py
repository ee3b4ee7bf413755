"""What the torture tests share: starting and stopping attempts, judging a history, and the results that add up."""

import json
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged
from carryover.checkpoint.log import Record
from carryover.checkpoint.verify import verify
from carryover.ground.storage import open_store
from tests.torture import worker
from tools.reliability_page import RESULTS

DEADLINE = 60.0
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pytest", "tests.torture.worker"])


@dataclass(frozen=True)
class Started:
    """A running attempt."""

    process: BaseProcess
    said: Path

    def lines(self) -> list[list[str]]:
        """Return what it has said so far, in words."""
        text = self.said.read_text() if self.said.exists() else ""
        return [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def saved(self) -> list[int]:
        """Return the steps that it knows to be saved."""
        return [int(words[1]) for words in self.lines() if words[0] == "saved"]

    def until(self, happened: Callable[[], bool]) -> bool:
        """Wait for something of it; False when it ended, or nothing came in time."""
        deadline = time.monotonic() + DEADLINE
        while not happened():
            if not self.process.is_alive() or time.monotonic() > deadline:
                return happened()
            time.sleep(0.002)
        return True

    def freeze(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        assert self.process.pid
        os.kill(self.process.pid, signal.SIGSTOP)
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZ":
            time.sleep(0.001)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process.pid
        os.kill(self.process.pid, signal.SIGCONT)

    def code(self, seconds: float = DEADLINE) -> int | None:
        """Wait for its end; return the exit code, None when it does not end."""
        self.process.join(seconds)
        return self.process.exitcode

    def end(self) -> None:
        """SIGKILL it where it still lives."""
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def start(attempt: worker.Attempt, barrier: Barrier | None = None) -> Started:
    """Start an attempt."""
    env = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    process = processes.Process(target=worker.run, args=(replace(attempt, env=env), barrier), daemon=True)
    process.start()
    return Started(process, Path(attempt.said))


def said(folder: Path) -> str:
    """Return the path of a new file for an attempt's lines."""
    return str(folder / uuid.uuid4().hex)


def new_run(store_uri: str) -> str:
    """Make a run and return the URI of its home."""
    home = RunHome.open(open_store(store_uri), f"torture-{uuid.uuid4().hex[:8]}")
    home.start({})
    return home.store.uri


def violations(uri: str, acknowledged: list[int]) -> list[str]:
    """Return what is wrong with a history: one line in which every acknowledged step stands, and only once."""
    home = RunHome.at(uri)
    found = list(verify(home).problems)
    records: list[Record] = []
    for record in home.log.scan():
        if isinstance(record, Damaged):
            return [*found, str(record)]
        records.append(record)
    attempt, newest = 0, None
    for record in records:
        if record.kind == "claim":
            attempt += 1
        if record.attempt != attempt:
            found.append(f"record {record.number} is of attempt {record.attempt}, but {attempt} has the run")
        if record.kind == "commit":
            if (record.body["parent"], record.step) != ((newest.number, newest.step + 1) if newest else (None, 1)):
                found.append(f"record {record.number} (step {record.step}) does not go on from the commit before it")
            newest = record
    steps = [record.step for record in records if record.kind == "commit"]
    if lost := set(acknowledged) - set(steps):
        found.append(f"acknowledged steps {sorted(lost)} are lost")
    return found


def note(what: str, *, store: str, count: int, violations: int) -> None:
    """Append a result to docs/reliability.jsonl where `make torture` asks for it."""
    command = os.environ.get("CARRYOVER_TORTURE_COMMAND", "")
    if not command:
        return
    day = datetime.now(UTC).date().isoformat()
    row = {"date": day, "what": what, "store": store, "count": count, "violations": violations, "command": command}
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
