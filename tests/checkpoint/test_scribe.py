"""The writing process: what it is, what it knows, and what its loss means."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from carryover.checkpoint import desk, scribe
from carryover.checkpoint.arena import Arena
from carryover.checkpoint.claims import claim
from carryover.checkpoint.handover import become, take_back, told
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.pack import RawTensor
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.scribe import Request, Scribe
from carryover.checkpoint.verify import verify
from carryover.checkpoint.writer import Writer
from carryover.ground.errors import RunAgain, Superseded
from carryover.ground.storage import open_store
from tests.checkpoint.support import content, end, save, start, tensors_of

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs a memfd")
FILES = {"preprocessors/words.json": b'["a"]'}


class Ours:
    """An attempt on a local store, with its arena and its scribe."""

    def __init__(self, folder: Path) -> None:
        self.home = RunHome.open(open_store(str(folder / "store")), "key")
        self.home.start({"recipe": {"seed": 1}})
        self.writer = start(self.home)
        state = tensors_of(0)
        self.lasting = {"model/backbone": RawTensor("F32", (1000,), state["model/backbone"].data, lasting=True)}
        self.arena = Arena.make((name, raw.dtype, raw.shape) for name, raw in state.items() if name not in self.lasting)
        self.scribe = Scribe(self.writer, files=FILES, keep=Keep(last=2))
        self.scribe.start(self.arena)

    @property
    def pid(self) -> int:
        assert self.scribe._desk is not None
        return self.scribe._desk._process.pid

    def save(self, step: int) -> scribe.Saved:
        for place in self.arena.places:
            self.arena.memory[place.start : place.start + place.size] = bytes(tensors_of(step)[place.name].data)
        state = {"step": step, "position": step * 8}
        return self.scribe.commit(
            Request(step, step // 10, state, None, self.arena, self.lasting, {"beside.txt": str(step).encode()})
        )

    def apart(self) -> int:
        """Save until the process is the writer; returns how many saves that took."""
        made, deadline = 0, time.monotonic() + 60
        while not self.scribe._told:
            assert time.monotonic() < deadline
            made += 1
            self.save(made)
            time.sleep(0.05)
        return made


@pytest.fixture
def ours(tmp_path: Path) -> Any:
    made = Ours(tmp_path)
    yield made
    made.scribe.close()


def test_it_goes_on_where_this_process_stopped_and_back_again(ours: Ours) -> None:
    made = ours.apart()
    saved = [ours.save(step) for step in range(made + 1, made + 4)]
    assert [one.step for one in saved] == list(range(made + 1, made + 4))
    assert ours.home.store.read("beside.txt") == str(made + 3).encode()
    # What lasts lies in the first pack alone, and the process never had its bytes.
    assert all(0 < one.size < 2000 for one in saved)
    ours.scribe.take_back()
    record = end(ours.writer, made + 3)
    assert record.number == saved[-1].number + 1
    want = {name: (raw.dtype, raw.shape, bytes(raw.data)) for name, raw in tensors_of(made + 3).items()}
    assert content(ours.home.load_newest()) == want
    assert verify(ours.home).problems == ()
    assert [kept.step for kept in ours.home.commits()] == [made + 2, made + 3]


def test_it_has_no_torch_gives_way_and_hears_no_signal_for_training(ours: Ours) -> None:
    made = ours.apart()
    assert "libtorch" not in Path(f"/proc/{ours.pid}/maps").read_text()
    assert os.getpriority(os.PRIO_PROCESS, ours.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + desk.NICE)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(ours.pid, number)
    assert ours.save(made + 1).step == made + 1


def test_lost_while_it_is_the_writer_it_ends_the_attempt(ours: Ours) -> None:
    made = ours.apart()
    os.kill(ours.pid, signal.SIGKILL)
    with pytest.raises(RunAgain, match=r"the process that writes checkpoints was ended by SIGKILL, .* goes on from"):
        ours.save(made + 1)
    loaded = ours.home.load_newest()
    assert loaded is not None and loaded.record.step == made


def test_lost_before_that_it_costs_nothing(ours: Ours, capfd: pytest.CaptureFixture[str]) -> None:
    os.kill(ours.pid, signal.SIGKILL)
    for step in (1, 2, 3):
        assert ours.save(step).step == step
    assert capfd.readouterr().err.count("before it began; this one writes them") == 1
    ours.scribe.take_back()
    assert end(ours.writer, 3).step == 3


def test_another_attempt_supersedes_it_as_it_would_this_process(ours: Ours) -> None:
    made = ours.apart()
    assert claim(ours.home, owner="another", takeover=True) is not None
    with pytest.raises(Superseded, match=r"this attempt .* must stop"):
        ours.save(made + 1)
    assert verify(ours.home).problems == ()


def test_another_arena_has_a_process_of_its_own(ours: Ours) -> None:
    made, before = ours.apart(), ours.pid
    ours.arena = Arena.make((place.name, place.dtype, place.shape) for place in reversed(ours.arena.places))
    ours.scribe.start(ours.arena)
    assert ours.pid != before and not Path(f"/proc/{before}").exists()
    assert ours.save(made + 1).number == made + 1


def test_it_ends_though_a_forked_process_still_has_the_line(ours: Ours) -> None:
    """As the processes that prepare batches have."""
    ours.apart()
    process = ours.scribe._desk._process  # pyright: ignore[reportOptionalMemberAccess]
    forked = os.fork()
    if not forked:
        time.sleep(60)
        os._exit(0)
    try:
        ours.scribe.take_back()
        ours.scribe.close()
        assert process.returncode == 0
    finally:
        os.kill(forked, signal.SIGKILL)
        os.waitpid(forked, 0)


def test_it_dies_with_who_started_it(tmp_path: Path) -> None:
    program = f"""
        import time
        from pathlib import Path
        from tests.checkpoint.test_scribe import Ours
        ours = Ours(Path({str(tmp_path)!r}))
        ours.apart()
        print(ours.pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True) as rank:
        assert rank.stdout is not None
        pid = int(rank.stdout.readline())
        rank.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_store_in_memory_and_a_wish_keep_it_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = RunHome.open(open_store("memory://scribe"), "key")
    home.start({"recipe": {}})
    inside = Scribe(start(home), files={}, keep=Keep())
    inside.start(Arena.make([]))
    assert inside._desk is None
    monkeypatch.setenv(scribe.VARIABLE, scribe.THREAD)
    assert Ours(tmp_path).scribe._desk is None
    monkeypatch.setenv(scribe.VARIABLE, "fork")
    with pytest.raises(ValueError, match=r"CARRYOVER_WRITER: 'fork'; must be process or thread"):
        Ours(tmp_path / "other")


def _knows(writer: Writer) -> dict[str, Any]:
    return {name: value for name, value in vars(writer).items() if name != "home"}


def test_a_writer_that_was_told_knows_all_that_it_knew(tmp_path: Path) -> None:
    """Field by field, those that are added later too."""
    home = RunHome.open(open_store(str(tmp_path)), "key")
    home.start({"recipe": {}})
    first = start(home)
    save(first, 1, score=0.5)
    end(first, 1)
    writer = start(home)
    for step in (2, 3):
        save(writer, step, score=0.1 * step)
    there = become(RunHome.open(open_store(str(tmp_path)), "key"), told(writer))
    assert _knows(there) == _knows(writer)
    save(there, 4, score=0.9)
    take_back(writer, told(there))
    assert _knows(there) == _knows(writer)
    assert save(writer, 5).number == there._head.number + 1
