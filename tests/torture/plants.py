"""Errors that kills of a training must find: each changes the product, in the forked attempt alone."""

import contextlib
import io
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from carryover.checkpoint import store as objects
from carryover.checkpoint.home import Loaded, Report, RunHome
from carryover.checkpoint.log import Head
from carryover.ground import console
from carryover.ground.storage import Store
from carryover.train.engine import Engine
from carryover.train.state import RunState


def plant(name: str) -> None:
    """Plant the error of this name; "" plants none."""
    if name:
        PLANTS[name]()


def _epoch_begins_anew() -> None:
    """The position in the data is not saved."""
    from_json = RunState.from_json

    def without_position(values: dict) -> RunState:
        return from_json({**values, "position": 0})

    RunState.from_json = without_position


def _older_commit() -> None:
    """A start goes on from the commit before the newest one."""
    load_newest = RunHome.load_newest

    def load_older(self: RunHome, on_damage: Report = console.warn, *, head: Head | None = None) -> Loaded | None:
        commits = self.commits()
        return self.load(commits[-2]) if len(commits) > 1 else load_newest(self, on_damage, head=head)

    RunHome.load_newest = load_older


def _no_digest_check() -> None:
    """What is read is believed."""
    objects._check = lambda *_: None


def _in_place() -> None:
    """An object goes into the file of an older one, so that a save has one file and many contents."""

    def put(store: Store, name: str, data: bytes) -> bool:
        folder = Path(store.uri) / "objects"
        older = [path for path in folder.glob("*") if path.stat().st_size == len(data)]
        if not older:
            return False
        with open(older[0], "r+b") as file:
            file.write(data)
        os.link(older[0], folder / name.removeprefix("objects/"))
        return True

    _divert_objects(put)


def _record_before_data() -> None:
    """The objects of a commit are written when its record is there already."""
    later: list[tuple[Store, str, bytes]] = []
    create, write = Store.create, Store.write

    def put(store: Store, name: str, data: bytes) -> bool:
        later.append((store, name, data))
        return True

    def create_first(self: Store, name: str, data: bytes) -> bool:
        done = create(self, name, data)
        while later and name.startswith("log/"):
            write(*later.pop(0))
        return done

    _divert_objects(put)
    Store.create = create_first


def _divert_objects(put: Callable[[Store, str, bytes], bool]) -> None:
    """Let `put` write objects; those that it does not (False) are written as ever."""
    write = Store.write

    def diverted(self: Store, name: str, data: bytes | bytearray | memoryview) -> None:
        if not name.startswith("objects/") or not put(self, name, bytes(data)):
            write(self, name, data)

    @contextlib.contextmanager
    def opened(self: Store, name: str, *, size: int = 0) -> Iterator[BinaryIO]:
        buffer = io.BytesIO()
        yield buffer
        diverted(self, name, buffer.getvalue())

    Store.write, Store.open_write = diverted, opened


def _memory_ends(allocate: Callable[[int], object]) -> None:
    """The last rank may have no more memory than it has, and asks for more: a real limit, a real allocator."""
    step = Engine.step

    def hungry(self: Engine, *arguments: Any, **rest: Any) -> Any:
        if rest["step"] == 9 and int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
            limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            allocate(1 << 30)
        return step(self, *arguments, **rest)

    Engine.step = hungry


PLANTS: dict[str, Callable[[], None]] = {
    "data position not saved": _epoch_begins_anew,
    "a start from an older commit": _older_commit,
    "no digest check": _no_digest_check,
    "saves in place": _in_place,
    "record before data": _record_before_data,
    "no memory for Python": lambda: _memory_ends(bytearray),
    "no memory for torch": lambda: _memory_ends(lambda size: torch.empty(size, dtype=torch.uint8)),
}
