"""Owns who makes the commits of an attempt: this process at first, then one of its own, nice and without torch.

    rank 0                                          writing process (desk.py)
    1st commit, by this process      start ------>  imports what a writer needs; maps the arena
    ready? the writer is told        begin ------>  is the writer from now on
    a commit                         commit ----->  hashes, packs, writes, appends the record
                                     <------------  record, bytes written, or what went wrong
    the end                          end -------->  tells the writer back, and goes

The process has no interpreter lock to share with training, and gives way to it wherever both want a core. One that is
lost before it is the writer costs nothing: this process goes on. Afterwards it ends the attempt, which runs again.
`CARRYOVER_WRITER=thread` keeps all in this process; so does a store that lives in this process's memory.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from carryover.checkpoint.arena import Arena
from carryover.checkpoint.channel import Channel, Closed
from carryover.checkpoint.handover import has_all, take_back, told
from carryover.checkpoint.pack import Kept, RawTensor
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.writer import Writer
from carryover.ground.console import warn
from carryover.ground.errors import CarryoverError, NoProgress, RunAgain, Superseded, WrongInput

VARIABLE = "CARRYOVER_WRITER"
PROCESS, THREAD = "process", "thread"
_MODULE = "carryover.checkpoint.desk"
_ERRORS = {error.exit_code: error for error in (WrongInput, NoProgress, RunAgain, Superseded)}
_LAST_SECONDS = 10.0


class FailedThere(Exception):
    """The store failed under the writing process; `ours` is what that means, and the message is its first line."""

    def __init__(self, said: str, ours: CarryoverError) -> None:
        super().__init__(said)
        self.ours = ours


@dataclass(frozen=True)
class Request:
    """One commit to be.

    Attributes:
        state: all beside tensors, plain JSON.
        arena: holds the tensors that change, which stand still until the answer; `lasting` are the others.
        beside: files of the run home that are there before the record: name -> content.
    """

    step: int
    epoch: int
    state: Mapping[str, Any]
    score: float | None
    arena: Arena
    lasting: Mapping[str, RawTensor]
    beside: Mapping[str, bytes]


@dataclass(frozen=True)
class Saved:
    """A commit that was made: number of its record, and the new bytes of objects that were sent for it."""

    number: int
    step: int
    epoch: int
    size: int


def who_writes() -> str:
    """Return who is asked to write: "process" or "thread".

    Raises:
        WrongInput: for anything else.
    """
    asked = os.environ.get(VARIABLE, PROCESS)
    if asked not in (PROCESS, THREAD):
        raise WrongInput(f"{VARIABLE}: {asked!r}; must be {PROCESS} or {THREAD}", trouble="wrong-value")
    return asked


def commit(
    writer: Writer,
    tensors: Mapping[str, RawTensor | Kept],
    *,
    beside: Mapping[str, bytes],
    files: Mapping[str, bytes],
    keep: Keep,
    step: int,
    epoch: int,
    state: Mapping[str, Any],
    score: float | None,
) -> Saved:
    """Make one commit; raises as `Writer.commit` does."""
    # What readers take a commit to have is there before its record.
    for name, data in beside.items():
        writer.home.store.write(name, data)
    before = writer.home.objects.bytes_written
    record = writer.commit(step=step, epoch=epoch, tensors=tensors, files=files, state=state, score=score, keep=keep)
    return Saved(record.number, record.step, record.epoch, writer.home.objects.bytes_written - before)


class Scribe:
    """Makes commits, one at a time; `start` and `close` are for the main thread.

    Args:
        writer: the attempt's; it is another process's from some commit on until `take_back`.
        files: what inference needs beside weights, kept with every commit.
    """

    def __init__(self, writer: Writer, *, files: Mapping[str, bytes], keep: Keep) -> None:
        self._writer = writer
        self._files = files
        self._keep = keep
        self._desk: _Desk | None = None
        self._arena: Arena | None = None
        self._told = False
        self._wanted = who_writes() == PROCESS and writer.home.store.scheme != "memory"

    @property
    def settled(self) -> bool:
        """Whether the next commits are made by the process that made the last one."""
        return self._told or self._desk is None

    def start(self, arena: Arena) -> None:
        """Start a writing process for this arena, in place of one for another; nothing is on its way.

        From the main thread: the kernel ends the process when the thread that started it does.

        Raises:
            RunAgain: when the one for another was lost.
        """
        if arena is self._arena:
            return
        self.take_back()
        self.close()
        self._arena = arena
        if self._wanted and arena.descriptor is not None:
            try:
                self._desk = _Desk(arena.descriptor)
            except OSError as error:
                warn(f"no process to write checkpoints can be started, this one writes them: {error}")

    def commit(self, request: Request) -> Saved:
        """Make a commit; it exists when this returns.

        Raises:
            FailedThere, OSError, or the store's own kind: when the store failed.
            Superseded: when another attempt owns the run.
            RunAgain: when the writing process was lost.
        """
        plain = {"step": request.step, "epoch": request.epoch, "state": request.state, "score": request.score}
        if desk := self._ready(request):
            return Saved(**_answer(desk, {"do": "commit", **plain}, request.beside)["saved"])
        return commit(
            self._writer,
            {**request.lasting, **request.arena.tensors()},
            beside=request.beside,
            files=self._files,
            keep=self._keep,
            **plain,
        )

    def take_back(self) -> None:
        """Let this process be the writer again, the other one has nothing to do.

        Raises:
            RunAgain: when that was lost.
        """
        if self._told and self._desk:
            take_back(self._writer, _answer(self._desk, {"do": "end"})["writer"])
        self._told = False

    def close(self) -> None:
        """Leave no process behind; one that writes still may end what it is at."""
        if self._desk:
            self._desk.close()
        self._desk = None

    def _ready(self, request: Request) -> "_Desk | None":
        """Return the writing process once it is the writer."""
        desk = self._desk
        if desk is None or self._told:
            return desk
        try:
            # What lasts is not in the arena: this process writes it, where no commit has it yet.
            if not desk.is_up() or not has_all(self._writer, request.lasting.values()):
                return None
            values = {
                "do": "begin",
                "home": self._writer.home.store.uri,
                "writer": told(self._writer),
                "keep": asdict(self._keep),
                "places": [[place.name, place.dtype, place.shape, place.start] for place in request.arena.places],
                "lasting": [[name, raw.dtype, raw.shape, raw.digest] for name, raw in request.lasting.items()],
            }
            _answer(desk, values, self._files)
        except (Closed, RunAgain):
            warn(f"the process that writes checkpoints {desk.ending()} before it began; this one writes them")
            self._desk = None
            return None
        self._told = True
        return desk


class _Desk:
    """The other process, from this one's side."""

    def __init__(self, arena: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", _MODULE, str(os.getpid()), str(theirs.fileno()), str(arena)]
            self._process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(), arena), stdin=subprocess.DEVNULL, close_fds=True
            )
        self.channel = Channel(ours)
        self._up = False

    def is_up(self) -> bool:
        """Tell whether it has said that it is there; raises Closed when it is gone."""
        if not self._up and self.channel.waiting():
            self.channel.receive()
            self._up = True
        return self._up

    def ending(self) -> str:
        """Return in words how it ended."""
        try:
            code = self._process.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            return "does not answer"
        if code == -signal.SIGKILL:
            return "was ended by SIGKILL, as a kernel does for want of memory,"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def close(self) -> None:
        self.channel.close()
        try:
            self._process.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _answer(desk: _Desk, values: Mapping[str, Any], contents: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    try:
        desk.channel.send(values, contents)
        answer, _ = desk.channel.receive()
    except Closed as error:
        words = f"the process that writes checkpoints {desk.ending()}; the same command goes on from the newest commit"
        raise RunAgain(words, trouble="rank-lost") from error
    if "error" in answer:
        raise _error(**answer["error"])
    return answer


def _error(*, said: str, message: str, trouble: str, exit_code: int, store: bool) -> Exception:
    ours = _ERRORS.get(exit_code, CarryoverError)(message, trouble=trouble)
    return FailedThere(said, ours) if store else ours
