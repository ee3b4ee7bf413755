"""One attempt of `carryover train-ddp` as a tree of forked processes: the real step, and real ranks below it.

    the server (torch and all loaded)
      step       carryover.steps.train_ddp: plan, probe, claim, heartbeat, Model      its session is the whole attempt
        rank 0.. carryover.train.rank, each forked before the step had a thread       torchrun is what is left out

So a start costs tenths of a second, and one SIGKILL to the session is the end of all of it. What happens inside is said
as lines in a pipe, whose end of file is the death of the last process:
    rank NUMBER PID | save NUMBER | record NUMBER | ended CODE
"""

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

import torch

from carryover.ground.errors import CarryoverError
from carryover.ground.storage import Store
from carryover.launch import ranks
from carryover.launch.processes import AGENT_VARIABLE
from carryover.launch.ranks import Ending
from carryover.steps import train_ddp
from carryover.train import rank as rank_process
from tests.torture import plants

# What a rank would load on its way: here once, in the server that attempts are forked from.
PRELOAD = (
    "torch._dynamo",
    "sklearn.metrics",
    "carryover.models.layers",
    "carryover.tasks.classification",
    "carryover.train.run",
)
_LOOK_EVERY_SECONDS = 0.005
# As torchrun ends the others when one is lost: SIGTERM, and SIGKILL after a time (there 30 s).
_LINGER_SECONDS = 3.0


@dataclass(frozen=True)
class Attempt:
    """What an attempt is told.

    Attributes:
        folder: an empty one of its own; what it prints is in `said.txt` there.
        settings: "key=value" of the recipe.
        die_at: (instant, n): all of it dies at its nth "before" or "after" a commit's record, by its own hand.
        plant: name of a planted error (see plants), "" for none.
        env: variables that lead to the store; the server that attempts are forked from may be older than they are.
    """

    dataset: str
    store: str
    ranks: int
    folder: Path
    settings: tuple[str, ...]
    die_at: tuple[str, int] = ("", 0)
    plant: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    def said(self) -> str:
        """Return what it printed."""
        path = self.folder / "said.txt"
        return path.read_text(errors="replace") if path.exists() else ""


def run(attempt: Attempt, pipe: Connection) -> None:
    """Be that attempt's step; ends the process with the exit code of the command line."""
    os.setsid()
    os.environ.update(attempt.env)
    output = os.open(attempt.folder / "said.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    tempfile.tempdir = str(attempt.folder)
    torch.set_num_threads(1)
    _watch_store(attempt, pipe)
    plants.plant(attempt.plant)
    port = free_port()
    waiting = [_fork_rank(number, attempt, pipe, port) for number in range(attempt.ranks)]
    ranks.run_ranks = lambda module, spec, **rest: _run_ranks(spec, waiting, **rest)
    code = 0
    try:
        train_ddp.train_ddp(
            dataset=attempt.dataset, store=attempt.store, nproc_per_node=attempt.ranks, overrides=attempt.settings
        )
    except CarryoverError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = error.exit_code
    say(pipe, "ended", code)
    # As a rank does: the end of the heavy libraries takes a second, and all is saved by now.
    os._exit(code)


def say(pipe: Connection, *words: object) -> None:
    """Tell the test; a line is far below what a pipe takes at once, so lines of several processes never mix."""
    os.write(pipe.fileno(), f"{' '.join(map(str, words))}\n".encode())


def free_port() -> int:
    """Return a port for the ranks to meet at, below those that a kernel gives to outgoing connections."""
    while True:
        port = 10_000 + int.from_bytes(os.urandom(2)) % 20_000
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@dataclass(frozen=True)
class Waiting:
    """A rank that was forked and waits for its spec."""

    pid: int
    begin: int


def _fork_rank(number: int, attempt: Attempt, pipe: Connection, port: int) -> Waiting:
    """Fork a rank now, while this process has one thread; it begins when it is told where its spec is."""
    told, begin = os.pipe()
    if pid := os.fork():
        os.close(told)
        return Waiting(pid, begin)
    code = 1
    try:
        os.close(begin)
        spec = os.read(told, 4096).decode()
        if not spec:
            os._exit(0)
        os.environ.update(
            RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(attempt.ranks),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo",
        )  # fmt: skip
        os.environ[AGENT_VARIABLE] = str(os.getppid())
        sys.argv = ["rank", spec]
        say(pipe, "rank", number, os.getpid())
        rank_process.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os._exit(code)


def _run_ranks(
    spec: Mapping[str, Any], waiting: list[Waiting], *, ranks: int, scratch: Path, grace_seconds: float, **_: object
) -> Ending:
    """Do what launch.ranks.run_ranks does, with the ranks that wait here instead of torchrun's."""
    spec_file = scratch / "spec.json"
    spec_file.write_text(json.dumps(spec))
    for one in waiting:
        os.write(one.begin, str(spec_file).encode())
    living, lost_at = {one.pid for one in waiting}, 0.0
    while living:
        ended = {pid: status for pid in living for done, status in [os.waitpid(pid, os.WNOHANG)] if done}
        living -= ended.keys()
        if any(ended.values()) and not lost_at:
            lost_at = time.monotonic()
            _signal_all(living, signal.SIGTERM)
        if lost_at and time.monotonic() - lost_at > _LINGER_SECONDS:
            # One that waits for the lost one to come, at the very start, does not hear anything.
            _signal_all(living, signal.SIGKILL)
        time.sleep(_LOOK_EVERY_SECONDS)
    return _ending(0, scratch, ranks, stopped=False)


def _signal_all(pids: set[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


# What ranks say, and who says nothing, means here what it means to the launcher.
_ending = ranks._ending


def _watch_store(attempt: Attempt, pipe: Connection) -> None:
    """Say where a save stands, and die at the instant that the attempt was told."""
    counts = {"save": 0, "record": 0}
    create, open_write = Store.create, Store.open_write
    instant, number = attempt.die_at

    def seen(what: str) -> None:
        counts[what] += 1
        say(pipe, what, counts[what])

    def die(where: str) -> None:
        if (instant, number) == (where, counts["record"]):
            os.killpg(0, signal.SIGKILL)

    def watched_create(self: Store, name: str, data: bytes) -> bool:
        if not name.startswith("log/") or b'"kind":"commit"' not in data:
            return create(self, name, data)
        seen("record")
        die("before")
        done = create(self, name, data)
        die("after")
        return done

    @contextlib.contextmanager
    def watched_open_write(self: Store, name: str, *, size: int = 0) -> Iterator[BinaryIO]:
        # The first thing that a save writes: the pack of the weights.
        if name.startswith("objects/") and counts["save"] == counts["record"]:
            seen("save")
        with open_write(self, name, size=size) as file:
            yield file

    Store.create, Store.open_write = watched_create, watched_open_write
