"""What is collected, and by whom: what nobody refers to and what was never ended goes, a successor's work does not."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carryover.checkpoint import retention, writer
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import LOG, OBJECTS, object_name, record_name
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.verify import verify
from carryover.checkpoint.writer import Writer
from carryover.ground.errors import Superseded
from carryover.ground.storage import TEMPORARY, Store
from carryover.ground.unfinished import abandon, unfinished
from tests.checkpoint.log_model import Fault, Run
from tests.checkpoint.support import content, plain, save, start, tensors_of

ROOT = Path(__file__).parents[2]


def referred(home: RunHome) -> set[str]:
    return {ref.digest for record in home.commits() for ref in record.objects}


class Full(Store):
    """A store with room for so many writes."""

    room = 10_000

    def write(self, name: str, data: bytes | bytearray | memoryview) -> None:
        if name.startswith(OBJECTS):
            self.room -= 1
            if self.room < 0:
                raise OSError(28, "No space left on device")
        super().write(name, data)


def test_a_failed_save_gives_its_room_back_on_a_local_disk(local: RunHome) -> None:
    store = Full(local.store.uri)
    attempt = start(RunHome(store))
    save(attempt, 1)
    there = set(local.objects.names())
    for _ in range(3):
        store.room = 0  # packs go out in pieces; the table, written whole, has no room any more
        with pytest.raises(OSError, match="No space left"):
            save(attempt, 2)
        assert set(local.objects.names()) == there, "each try would take more of a full disk"
    store.room = 10
    save(attempt, 2)
    assert verify(local).problems == ()


def test_a_failed_save_is_swept_after_the_next_one(home: RunHome, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = start(home)
    save(attempt, 1)

    def fails(*_: object, **__: object) -> None:
        raise ConnectionError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(home.log, "append", fails)
        with pytest.raises(ConnectionError):
            save(attempt, 2)
    assert set(home.objects.names()) > referred(home), "its record may yet have arrived: nothing is taken back"
    save(attempt, 3)
    assert set(home.objects.names()) == referred(home)


def test_temporary_files_of_objects_are_collected_and_no_others(local: RunHome) -> None:
    save(start(local), 1)
    assert local.store.local
    stray = [local.store.local / folder / f"{TEMPORARY}{uuid.uuid4().hex}" for folder in (OBJECTS, LOG)]
    for path in stray:
        path.write_bytes(b"cut short")
    attempt = start(local)
    assert stray[0].exists(), "nothing goes before the first own commit"
    save(attempt, 2)
    # A successor that is about to claim has its record in such a file before anybody can know of it.
    assert [path.exists() for path in stray] == [False, True]


def test_a_zombie_whose_file_is_swept_under_its_hands_is_superseded(
    local: RunHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    zombie, replace = start(local, "job"), os.replace
    save(zombie, 1)

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.undo()
        save(start(RunHome(Store(local.store.uri)), "job"), 2)
        replace(source, target)

    monkeypatch.setattr(os, "replace", overtaken)
    with pytest.raises(Superseded, match="removed what this one"):
        save(zombie, 3)
    assert content(local.load_newest(pytest.fail)) == plain(tensors_of(2))


# An attempt stands still at each of its calls while it sweeps, and its successor saves.


def _sweep_overtaken(how: Any) -> None:
    for at in range(40):
        run = Run(f"memory://{uuid.uuid4().hex}/run")

        def successor(run: Run = run) -> None:
            process = run.start("a", takeover=True)
            assert process
            for value in (2, 3):
                run.commit(process, value, keep=Keep(last=2), score=None, fault=None)

        dead = run.start("a", takeover=True)
        assert dead
        run.commit(dead, 0, keep=Keep(last=2), score=None, fault=None)
        run.reader.objects.put(f"left by a save that was cut short {at}".encode())
        process = run.start("a", takeover=True)
        assert process
        fault = Fault(at, how, successor)
        run.commit(process, 1, keep=Keep(last=1, best=0), score=None, fault=fault)
        run.check()
        if not fault.struck:
            return
    raise AssertionError("a commit has fewer calls than this")


@pytest.mark.parametrize("how", ["read", "pause"])
def test_a_sweep_that_is_overtaken_leaves_the_successor_its_objects(how: str) -> None:
    _sweep_overtaken(how)


def _looks_first(self: Writer, dropped: object) -> None:
    """The control: the log is looked at, and then the objects are listed."""
    if self.home.store.exists(record_name(self._head.number + 1)):
        return
    needed = frozenset().union(*(point.objects for point in self._points))
    retention.remove(self.home.objects, self.home.objects.names(), needed=needed)


def _does_not_look(self: Writer, dropped: object) -> None:
    needed = frozenset().union(*(point.objects for point in self._points))
    retention.remove(self.home.objects, self.home.objects.names(), needed=needed)


@pytest.mark.parametrize("wrong", [_looks_first, _does_not_look])
def test_a_sweep_in_another_order_is_found(wrong: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writer, "_prune", wrong)
    with pytest.raises(AssertionError, match="not there"):
        _sweep_overtaken("read")


# Uploads on a real S3 server. 120 MB go out in parts of 50.

PROGRAM = """
import sys
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.pack import RawTensor
from tests.checkpoint.support import start
home = RunHome.at(sys.argv[1])
attempt = start(home, "killed")
big = RawTensor("U8", (120_000_000,), bytes(120_000_000))
attempt.commit(step=1, epoch=0, tensors={"model/big": big}, state={})
"""


def _killed_in_an_upload(home: RunHome) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, home.store.uri], cwd=ROOT, env=dict(os.environ))
    try:
        deadline = time.monotonic() + 60
        while not unfinished(home.store, OBJECTS):
            assert process.poll() is None, "it ended before an upload was seen"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_an_upload_that_was_killed_is_aborted_by_the_next_attempt(s3_home: RunHome) -> None:
    _killed_in_an_upload(s3_home)
    assert len(unfinished(s3_home.store, OBJECTS)) == 1
    assert s3_home.commits() == [] and s3_home.objects.names() == []
    other = s3_home.store.sub("elsewhere").open_write(f"{OBJECTS}/big")
    with other as file:
        file.write(bytes(60_000_000))
        attempt = start(s3_home, "killed")
        assert len(unfinished(s3_home.store, OBJECTS)) == 1, "nothing goes before the first own commit"
        save(attempt, 1)
        assert unfinished(s3_home.store, OBJECTS) == []
        assert len(unfinished(s3_home.store.sub("elsewhere"), OBJECTS)) == 1, "not an upload of this run"
    assert content(s3_home.load_newest(pytest.fail)) == plain(tensors_of(1))


@pytest.mark.slow
def test_an_upload_of_a_successor_is_left_alone(s3_home: RunHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zombie stands still before or after it has listed; meanwhile its successor begins to upload."""
    for before in (True, False):
        zombie = start(s3_home, "job")
        opened: list[Any] = []

        def overtake(opened: list[Any] = opened) -> None:
            start(s3_home, "job")
            opened.append(s3_home.store.open_write(object_name(uuid.uuid4().hex * 2)))
            opened.append(opened[0].__enter__())
            opened[1].write(bytes(60_000_000))

        def listing(store: Store, folder: str, before: bool = before, overtake: Any = overtake) -> Any:
            if before:
                overtake()
            found = unfinished(store, folder)
            if not before:
                overtake()
            return found

        with monkeypatch.context() as patch:
            patch.setattr(writer, "unfinished", listing)
            save(zombie, 1)
        assert len(unfinished(s3_home.store, OBJECTS)) == 1
        opened[0].__exit__(None, None, None)
        with pytest.raises(Superseded):
            save(zombie, 2)


def test_an_upload_that_has_ended_meanwhile_is_no_error(s3_home: RunHome) -> None:
    with s3_home.store.open_write(f"{OBJECTS}/big") as file:
        file.write(bytes(60_000_000))
        (found,) = unfinished(s3_home.store, OBJECTS)
    abandon(s3_home.store, found)
    assert s3_home.store.size(f"{OBJECTS}/big") == 60_000_000
