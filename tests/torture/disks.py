"""One play of a run on a small disk that is full at one of its writes, and the judge of what it left.

run.json, claim, commit 1, 2, 3, finish, Model       any of them may be the one that finds too little room;
tried again while there is no room                   fails again, and takes no more room than before
nothing acknowledged is lost meanwhile
room is made, and it is tried again                  by the same attempt or by the next one; all goes on to the end
"""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import OBJECTS
from carryover.checkpoint.pack import RawTensor
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.store import Objects
from carryover.checkpoint.writer import Writer
from carryover.ground import failures, local_folder
from carryover.ground.storage import TEMPORARY, Store, open_store
from carryover.models.export import write_model
from tests.checkpoint.support import content, end, plain, start, tensors_of
from tests.torture.stores import judge

_PAGE = 4096
_BIGGEST = 60 * _PAGE
# Pages that each step takes, the big tensor of a save not counted; more than these are never left.
_NEEDS = (1, 2, 10, 8, 8, 6, 6)


class Disk:
    """A disk of its own, in memory, small enough to be full at any byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def leave(self, room: int) -> None:
        """Fill it, so that this many bytes stay free."""
        free = self.free()
        with open(self._ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - room))

    def free(self) -> int:
        """Return the bytes that are free."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def make_room(self) -> None:
        """Remove what fills it."""
        self._ballast.unlink(missing_ok=True)

    def mode(self, mode: str) -> None:
        """Make it read-only ("ro") or writable again ("rw")."""
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True)


@contextlib.contextmanager
def disk(folder: Path, *, size: int = 4 << 20) -> Iterator[Disk]:
    """Mount such a disk; skips the test where mounting is refused."""
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "carryover-test", str(folder)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a disk of its own can't be mounted here: {getattr(error, 'stderr', '') or error}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass
class Played:
    """How a play went.

    Attributes:
        where: what could not be written, "" when there was room enough for it (last.ckpt may have been left out).
        found: what must not happen and did, one line each.
    """

    where: str = ""
    found: list[str] = field(default_factory=list)


@dataclass
class _Run:
    """The run that is played."""

    home: RunHome
    size: int
    model: tuple[Any, Mapping[str, bytes], Mapping[str, RawTensor]]
    writer: Writer | None = None
    acknowledged: list[int] = field(default_factory=list)

    def steps(self) -> list[Callable[[], object]]:
        """Return all that is done, in its order."""
        commits = [lambda step=step: self.commit(step) for step in (1, 2, 3)]
        return [lambda: self.home.start({"recipe": {"seed": 1}}), self.claim, *commits, self.finish, self.deliver]

    def claim(self) -> None:
        self.writer = start(self.home, "job")

    def tensors(self, step: int) -> dict[str, RawTensor]:
        return {**tensors_of(step), "optim/big": RawTensor("U8", (self.size,), bytes([step]) * self.size)}

    def commit(self, step: int) -> None:
        assert self.writer
        self.writer.commit(
            step=step,
            epoch=0,
            tensors=self.tensors(step),
            state={"step": step},
            files={"preprocessors/words.json": b'["a"]', f"notes/{step}": b"n"},
            keep=Keep(last=2, best=0),
        )
        self.acknowledged.append(step)

    def finish(self) -> None:
        assert self.writer
        end(self.writer, 3)

    def deliver(self) -> None:
        write_model(open_store(str(Path(self.home.store.uri).parent / "model")), *self.model)

    def newest(self) -> list[str]:
        """Load it as another process would; returns what is wrong."""
        reports: list[str] = []
        loaded = RunHome(Store(self.home.store.uri)).load_newest(reports.append) if self.acknowledged else None
        step = loaded.record.step if loaded else 0
        # A commit may have come to be although something after its record failed: then it is as whole as any.
        if step < max(self.acknowledged, default=0):
            reports.append(f"step {max(self.acknowledged)} was acknowledged, step {step} is there")
        elif loaded and content(loaded) != plain(self.tensors(step)):
            reports.append(f"other tensors than step {step} had")
        return reports


def play(disk: Disk, model: tuple, chance: random.Random) -> Played:
    """Play it on this disk, which is emptied first."""
    disk.make_room()
    for path in disk.folder.iterdir():
        shutil.rmtree(path)
    run = _Run(RunHome(Store(str(disk.folder / "run"))), chance.randrange(1, _BIGGEST), model)
    played, steps = Played(), run.steps()
    struck = chance.choice([0, 1, 2, 3, 3, 4, 4, 5, 6])
    try:
        for number, step in enumerate(steps):
            if number == struck:
                big, beside = run.size if 2 <= number <= 4 else 0, _NEEDS[number] * _PAGE
                disk.leave(chance.choice([chance.randrange(big + beside), big + chance.randrange(beside)]))
                failed = _try(disk, run, step, played)
                disk.make_room()
                if not failed:
                    continue
                if run.writer and 2 <= number <= 5 and chance.random() < 0.5:
                    run.claim()
            step()
        played.found += _judge(run, disk)
    except Exception as error:
        played.found.append(f"with room again, and yet: {error!r}")
    return played


def _try(disk: Disk, run: _Run, step: Callable[[], object], played: Played) -> bool:
    """Do it twice without enough room; tell whether it failed."""
    free = disk.free()
    for _ in range(2):
        try:
            step()
            return False
        except OSError as error:
            played.where = _kind(error.filename or "", disk)
            _look_at_error(error, disk, played)
        played.found += run.newest()
        # What can be seen by nobody must not take room: the next try needs it. (A record that arrived may stay.)
        if disk.free() < free - 3 * _PAGE and played.where not in ("heartbeat", "model"):
            played.found.append(f"a try that failed at {played.where} keeps {free - disk.free()} bytes")
    return True


def _kind(filename: str, disk: Disk) -> str:
    names = Path(filename).relative_to(disk.folder).parts if filename.startswith(str(disk.folder)) else ("?", "?")
    return names[0] if names[0] == "model" else (*names, "")[1]


def _look_at_error(error: OSError, disk: Disk, played: Played) -> None:
    ours = failures.named(error)
    if ours is None or ours.exit_code != 75:
        played.found.append(f"ended with {ours and ours.exit_code}: {error!r}")
    elif str(disk.folder) not in str(ours) or "No space left" not in str(ours) or "make room" not in str(ours):
        played.found.append(f"the error names neither the disk nor the way out: {ours}")


def _judge(run: _Run, disk: Disk) -> list[str]:
    """Return what is wrong at the end, when all has been done."""
    found = judge(run.home, run.acknowledged) + run.newest()
    needed = {ref.digest for record in [*run.home.commits(), *run.home.finish_records()] for ref in record.objects}
    # The last failed save may be the one of the finish, after which nothing is removed any more.
    if left := set(run.home.store.names(OBJECTS)) - needed:
        found.append(f"{len(left)} objects that nobody refers to are left")
    found += [f"{path} is left" for path in disk.folder.rglob(f"{TEMPORARY}*")]
    card, files, _ = run.model
    at = open_store(str(disk.folder / "model"))
    if any(at.read(name) != data for name, data in files.items()) or at.read("model.json") != card.to_bytes():
        found.append("the Model is another")
    return found


@contextlib.contextmanager
def failures_unnoticed() -> Iterator[None]:
    """A control: a write that found no room counts as done."""
    real = local_folder.write_synced

    def write(path: Path, data: bytes) -> None:
        with contextlib.suppress(OSError):
            real(path, data)

    with mock.patch.object(local_folder, "write_synced", write):
        yield


@contextlib.contextmanager
def record_in_place() -> Iterator[None]:
    """A control: a record is written under its own name from the first byte on."""

    def create(self: Store, name: str, data: bytes) -> bool:
        path = Path(self.uri) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(path, "xb", buffering=0) as file:
                file.write(data)
        except FileExistsError:
            return False
        return True

    with mock.patch.object(Store, "create", create):
        yield


@contextlib.contextmanager
def nothing_taken_back() -> Iterator[None]:
    """A control: what a save that failed has written stays."""
    with mock.patch.object(Objects, "taken_back_on_error", contextlib.nullcontext):
        yield


CONTROLS = {
    "failed writes unnoticed": failures_unnoticed,
    "records in place": record_in_place,
    "nothing taken back": nothing_taken_back,
}
