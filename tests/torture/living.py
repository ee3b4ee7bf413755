"""A writer that never rests, readers beside it, and copies of its home taken file by file in any order."""

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.prune import prune
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.verify import verify
from carryover.ground.errors import CarryoverError
from carryover.ground.storage import Store
from tests.checkpoint.support import content, plain, save, start, tensors_of


@dataclass(frozen=True)
class Pace:
    """What a writer is told: seconds between commits, and how many stay."""

    uri: str
    pause: float
    keep: Keep
    env: Mapping[str, str]


def write(pace: Pace) -> None:
    """Commit for ever, as a process of its own; the best score comes again and again, so that old ones stay too."""
    os.environ.update(pace.env)
    writer, step = start(RunHome(Store(pace.uri)), "job"), 0
    while True:
        step += 1
        save(writer, step, score=-abs(step % 7 - 3), keep=pace.keep)
        time.sleep(pace.pause)


def prune_at_once(uri: str) -> None:
    """Prune to the newest commit, as a process of its own, without waiting for signs of life."""
    prune(RunHome(Store(uri)), Keep(last=1, best=0), patience=0.1, on_wait=lambda text: None)


def read_beside(home: RunHome, times: int) -> list[str]:
    """Load, list and verify a living run; returns everything that was said to be wrong."""
    found: list[str] = []
    newest = 0
    for _ in range(times):
        try:
            loaded = home.load_newest(found.append)
        except CarryoverError as error:
            found.append(f"refused: {error}")
            continue
        if loaded is None or content(loaded) != plain(tensors_of(loaded.record.step)):
            found.append("other tensors than were saved")
            continue
        if loaded.record.step < newest:
            found.append(f"step {loaded.record.step} after step {newest}")
        newest = loaded.record.step
        found += verify(home).problems
        if not home.commits() or home.commits()[-1].step < newest:
            found.append("the list of commits is older than what was loaded")
    return found


Order = Callable[[list[str], random.Random], list[str]]


def _last(part: str) -> Order:
    return lambda names, chance: sorted(names, key=lambda name: (name.startswith(part), name))


ORDERS: dict[str, Order] = {
    "by name": lambda names, chance: sorted(names),
    "by name, backwards": lambda names, chance: sorted(names, reverse=True),
    "any": lambda names, chance: chance.sample(names, len(names)),
    "log last": _last("log/"),
    "objects last": _last("objects/"),
}


def copy(source: Path, target: Path, order: str, *, chance: random.Random, pause: float = 0.0) -> None:
    """Copy a folder as cp and rsync do: listed once, then file by file; what is gone by then is left out."""
    names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    for name in ORDERS[order](names, chance):
        if Path(name).name.startswith(".tmp-"):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            (target / name).write_bytes((source / name).read_bytes())
        except FileNotFoundError:
            continue
        time.sleep(pause)


def judge_copy(home: RunHome, *, least: int) -> tuple[list[str], int]:
    """Open a copy; `least` is the step that must be in it, 0 for none. Returns what is wrong, and the step found."""
    inspection = verify(home)
    whole = inspection.newest_whole.step if inspection.newest_whole else 0
    reports: list[str] = []
    try:
        loaded = home.load_newest(reports.append)
    except CarryoverError as error:
        said = [] if "none of them verifies" in str(error) and inspection.problems else [f"refused: {error}"]
        return said + ([f"step {least} is not in it"] if least else []), 0
    if loaded is None:
        return [f"nothing in it, step {least} must be"] if least else [], 0
    step, found = loaded.record.step, []
    if content(loaded) != plain(tensors_of(step)):
        found.append(f"other tensors than step {step} had")
    if step < least or step != whole:
        found.append(f"opens at step {step}; step {least} must be in it, and {whole} is whole")
    newest = home.log.head().newest.commit
    if loaded.record.number != newest and not (reports and inspection.problems):
        found.append("an older step is used, and nobody says why")
    return found + _goes_on(home, step), step


def _goes_on(home: RunHome, step: int) -> list[str]:
    """The copy is a run like any other: an attempt goes on from what it was opened at."""
    save(start(home, "job"), step + 1)
    loaded = home.load_newest()
    assert loaded
    return [] if content(loaded) == plain(tensors_of(step + 1)) else ["what the copy went on to is something else"]
