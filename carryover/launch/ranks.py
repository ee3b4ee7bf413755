"""Owns one attempt's processes: torchrun and the ranks below it, signals on the way down, exit codes on the way up.

    step (this process, no torch)
      agent = torchrun                 dies with the step
        rank 0 .. N-1                  die with torchrun; SIGTERM reaches them from the step directly
    scratch/
      spec.json                        what the ranks are to do
      rank-0.json ..                   each rank's pid at its start, its exit code and words at its end
      lost.json, lost-0.json ..        ranks that were seen to fail, first of all, and their exit codes
      progress                         the newest optimizer step, rewritten in place

torchrun exits with 1 whatever its workers return, so the ranks' own files decide. A rank that ends for a reason it can
name exits with 0 and says its code in its file: for torchrun a non-zero exit would be a failure, which it reports at
length, and it would kill the others while they save. Ranks that outlive such an ending are ended by the step.

With several nodes each step has this for its own ranks; torchrun starts none before all nodes have met. Nothing waits
for another node's torchrun at the end: it may be gone.
"""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.ground.config import check
from carryover.ground.console import say
from carryover.ground.errors import RunAgain, WrongInput
from carryover.launch import output
from carryover.launch.hardware import thread_variables
from carryover.launch.nodes import ALONE, Nodes

PROGRESS_VARIABLE = "CARRYOVER_PROGRESS_FILE"
START_VARIABLE, STARTS = "CARRYOVER_START", ("fork", "exec")
_LOOK_EVERY_SECONDS = 0.1
# Ranks end within moments of each other; one that waits for a rank that is gone would wait for minutes.
_LINGER_SECONDS = 15.0
_RUN_AGAIN = RunAgain.exit_code
# What a rank says that only saw another one going.
LOST_PEER = "another rank was lost"


@dataclass(frozen=True)
class Ending:
    """How an attempt's processes ended: one of the design's exit codes, words for people, the last optimizer step.

    `trouble` names the entry that explains it, as an error's does.
    """

    exit_code: int
    message: str
    step: int
    trouble: str = ""


def check_torchrun() -> None:
    """Raise WrongInput unless torchrun can be started here, in the way asked for; torch itself is not imported."""
    way = os.environ.get(START_VARIABLE, "")
    check(way in ("", *STARTS), START_VARIABLE, way, f"{' or '.join(STARTS)}, or not set")
    found = importlib.util.find_spec("torch")
    folders = list(found.submodule_search_locations or []) if found else []
    if not any((Path(folder) / "distributed" / "run.py").exists() for folder in folders):
        raise WrongInput(
            f"torchrun is missing: {sys.executable} has no torch.distributed.run; install the package with its "
            "dependencies (torch 2.12)",
            trouble="missing-package",
        )


def progress_file(scratch: Path) -> Path:
    """Return the file in which rank 0 keeps the number of the newest optimizer step."""
    return Path(os.environ.get(PROGRESS_VARIABLE) or scratch / "progress")


def read_progress(scratch: Path) -> int:
    """Return the newest optimizer step of the attempt, -1 before the first."""
    try:
        return int(progress_file(scratch).read_text() or -1)
    except (FileNotFoundError, ValueError):
        return -1


def _never() -> Ending | None:
    """Wait for the other nodes as long as torchrun does."""
    return None


def run_ranks(
    module: str,
    spec: Mapping[str, Any],
    *,
    ranks: int,
    scratch: Path,
    grace_seconds: float,
    nodes: Nodes = ALONE,
    joining: Callable[[], Ending | None] = _never,
) -> Ending:
    """Start torchrun with `ranks` processes of `module`, pass SIGTERM and SIGINT on, and wait for the end.

    Args:
        module: each rank runs `python -m module SPEC_FILE`, as a new process or as a fork of torchrun's.
        spec: plain values for the ranks; "imports" are what they import anyway, see `launch.imports`.
        scratch: an empty local folder for this attempt.
        grace_seconds: how long ranks may take to save after SIGTERM.
        nodes: which node's ranks these are.
        joining: asked again and again while the nodes have not met; its ending, if any, ends the wait.
    """
    spec_file = scratch / "spec.json"
    spec_file.write_text(json.dumps(spec))
    progress_file(scratch).unlink(missing_ok=True)
    flags = nodes.torchrun(ranks)
    asked: list[float] = []
    early = None
    with output.shown(scratch, leads=nodes.leads) as printed:
        agent = subprocess.Popen(
            [sys.executable, "-m", "carryover.launch.agent", str(os.getpid()), module, str(spec_file), *flags],
            env=_environment(ranks, scratch),
            start_new_session=True,
            stdout=printed,
            stderr=printed,
        )
        with on_stop_signal(lambda: asked.append(time.monotonic())):
            try:
                early = _met(agent, scratch, asked, joining) if nodes.several else None
                if early is None:
                    _watch(agent, scratch, asked, grace_seconds, ranks, several=nodes.several)
            finally:
                _end(agent, scratch)
    return early or _ending(agent.returncode, scratch, ranks, first=nodes.rank * ranks, stopped=bool(asked))


def _met(
    agent: subprocess.Popen[bytes], scratch: Path, asked: list[float], joining: Callable[[], Ending | None]
) -> Ending | None:
    """Wait until ranks begin, which is when all nodes have met; returns an ending where there is no use in waiting."""
    while agent.poll() is None and not asked and not _rank_words(scratch):
        if early := joining():
            return early
        time.sleep(_LOOK_EVERY_SECONDS)
    return None


def _watch(
    agent: subprocess.Popen[bytes],
    scratch: Path,
    asked: list[float],
    grace_seconds: float,
    ranks: int,
    *,
    several: bool,
) -> None:
    """Wait until torchrun ends, or until what is left of it has had its time."""
    passed_on: set[int] = set()
    failed_at = 0.0
    while agent.poll() is None:
        now = time.monotonic()
        failed_at = failed_at or (now if _has_failed(scratch) else 0.0)
        if asked:
            # One rank may be done long before the one that saves: only the grace counts.
            _pass_on(agent, scratch, passed_on)
            if _all_said(scratch, ranks):
                # All is saved, and torchrun would take a second for its own end: a short grace has none to spare.
                return
            if len(asked) > 1:
                say("asked to stop again: ending at once; the newest commit stands")
                return
            if now - asked[0] > grace_seconds:
                say(f"not saved within {grace_seconds:g} s of SIGTERM; the newest commit stands")
                return
        elif failed_at and now - failed_at > _LINGER_SECONDS:
            return
        elif several and _all_said(scratch, ranks):
            # torchrun would wait minutes for another node's, which may be gone.
            return
        time.sleep(_LOOK_EVERY_SECONDS)


def report_start(scratch: Path, rank: int) -> None:
    """Say that a rank has begun; called by the rank."""
    _write(scratch, rank, {"pid": os.getpid()})


def report_end(scratch: Path, rank: int, exit_code: int, message: str, trouble: str = "") -> None:
    """Say how a rank ended; called by the rank as its last word."""
    words = {"pid": os.getpid(), "exit_code": exit_code, "message": message, "trouble": trouble}
    _write(scratch, rank, words)


def report_lost(scratch: Path, codes: Mapping[int, int], *, name: str = "lost") -> None:
    """Say which ranks were seen to fail, with their exit codes (minus the signal); called in torchrun's process, or in
    the one between it and a forked rank, which knows before torchrun has written at length about it.
    """
    temporary = scratch / f".{name}.json"
    temporary.write_text(json.dumps(codes))
    temporary.replace(scratch / f"{name}.json")


def _has_failed(scratch: Path) -> bool:
    return any(words.get("exit_code") for words in _rank_words(scratch).values())


def _all_said(scratch: Path, ranks: int) -> bool:
    words = _rank_words(scratch)
    return len(words) == ranks and all("exit_code" in word for word in words.values())


def _write(scratch: Path, rank: int, values: Mapping[str, Any]) -> None:
    temporary = scratch / f".rank-{rank}.json"
    temporary.write_text(json.dumps(values))
    temporary.replace(scratch / f"rank-{rank}.json")


def _rank_words(scratch: Path) -> dict[int, dict[str, Any]]:
    return {
        int(path.stem.removeprefix("rank-")): json.loads(path.read_text())
        for path in sorted(scratch.glob("rank-*.json"))
    }


def _environment(ranks: int, scratch: Path) -> dict[str, str]:
    """Return the ranks' environment; thread pools are sized so that ranks don't fight for cores."""
    defaults = {**thread_variables(ranks), "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    # torchrun takes PET_* for flags; what Trainer said is in the flags already, as we understood it.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PET_")}
    return {**defaults, **kept, **output.environment(), PROGRESS_VARIABLE: str(progress_file(scratch))}


def _pass_on(agent: subprocess.Popen[bytes], scratch: Path, passed_on: set[int]) -> None:
    """Send SIGTERM once to each rank that has begun; before the first has, there is nothing to save: end torchrun."""
    ranks = {words["pid"] for words in _rank_words(scratch).values() if "exit_code" not in words}
    for pid in ranks - passed_on:
        _signal(pid, signal.SIGTERM)
    if not ranks and not passed_on:
        agent.terminate()
        passed_on.add(agent.pid)
    passed_on |= ranks


def _end(agent: subprocess.Popen[bytes], scratch: Path) -> None:
    """Leave no process behind, whatever ended the wait."""
    if agent.poll() is None:
        for words in _rank_words(scratch).values():
            if "exit_code" not in words:
                _signal(words["pid"], signal.SIGKILL)
        agent.kill()
    agent.wait()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _ending(code: int, scratch: Path, ranks: int, *, stopped: bool, first: int = 0) -> Ending:
    """Turn what the ranks said, and who said nothing, into one exit code; `first` is the number of our first rank."""
    step = read_progress(scratch)
    words = _rank_words(scratch)
    said = {rank: word for rank, word in words.items() if "exit_code" in word}
    if len(said) == ranks and not any(word["exit_code"] for word in said.values()):
        return Ending(0, "", step)
    # What one rank knows for sure counts for all. A plain error comes before "run me again": the other ranks only saw
    # that one going, and would have the same error repeated without end.
    for wanted in (76, 2, 1, _RUN_AGAIN):
        for rank, word in said.items():
            if word["exit_code"] == wanted and word["message"] != LOST_PEER:
                where = "" if ranks == 1 or wanted != 1 else f"rank {rank}: "
                return Ending(wanted, f"{where}{word['message']}", step, word.get("trouble", ""))
    if stopped:
        return Ending(_RUN_AGAIN, "stopped before the ranks could save", step, "preempted")
    silent = sorted(set(range(first, first + ranks)) - set(said))
    if silent and words:
        return Ending(_RUN_AGAIN, _lost(silent, scratch), step, "rank-lost")
    if said:
        return Ending(_RUN_AGAIN, LOST_PEER, step, "rank-lost")
    if first:
        # It had met node 0, or was about to: what ended that one ended ours.
        words = f"torchrun ended with exit code {code} before any rank began; node 0 was lost"
        return Ending(_RUN_AGAIN, words, step, "nodes-apart")
    return Ending(1, f"torchrun ended with exit code {code} before any rank began", step, "step-failed")


def _lost(silent: list[int], scratch: Path) -> str:
    """Return words for ranks that ended without any; those that torchrun saw first are what ended the others."""
    seen = [json.loads(path.read_text()) for path in scratch.glob("lost*.json")]
    codes = {int(rank): code for found in seen for rank, code in found.items()}
    first = [rank for rank in silent if codes.get(rank)] or silent
    code = codes.get(first[0], 0)
    them = "them" if len(first) > 1 else "it"
    who = f"ranks {', '.join(map(str, first))} were" if len(first) > 1 else f"rank {first[0]} was"
    how = " (killed from outside, or for memory)"
    if code == -signal.SIGKILL:
        how = (
            f": SIGKILL ended {them}, as a kernel does for want of memory; unless somebody killed it, give more "
            "memory or lower env.per_gpu_batch_size or env.num_workers"
        )
    elif code:
        how = f": {signal.Signals(-code).name} ended {them}" if code < 0 else f", with exit code {code}"
    return f"{who} lost{how}; the same command goes on from the newest commit"


@contextmanager
def on_stop_signal(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` on SIGTERM or SIGINT while the block runs; outside the main thread signals stay as they are."""
    try:
        old = {number: signal.signal(number, lambda *_: act()) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
