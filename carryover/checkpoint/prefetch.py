"""Owns reading the newest commit while the ranks' libraries load: once a node, into memory that its ranks then map.

    step     a thread: record -> its objects, each by size and digest -> an anonymous file --- sealed, it can't change
    scratch  prefetched.json: {"file": /proc/PID/fd/N, "done", "objects": {digest: [start, size]}}
    ranks    map the file, and load the newest commit as ever: what lies there is not read again

Nothing is decided here: which commit is the newest that verifies, and what is said of those that don't, is still
`RunHome.load_newest`'s. What can't be read here, and what there is no memory for, is read by each rank.
"""

import contextlib
import fcntl
import json
import mmap
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.store import Ref
from carryover.ground import console

FILE = "prefetched.json"
# Tensors begin where processors like them to, and so may their packs.
_ALIGNED = 64
_LOOK_EVERY_SECONDS = 0.05
_CLOSE_SECONDS = 2.0
# The ranks need this memory for themselves too, in their networks and optimizers.
_MOST_OF_FREE = 0.25
_ADD_SEALS, _SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x8


@contextmanager
def prefetched(home: RunHome, scratch: Path, *, number: int | None, ranks: int) -> Iterator[None]:
    """Read a commit in a thread while the block runs, and hold it until all ranks of this node have let go of it.

    Args:
        number: of the commit's record; None for nothing to read.
        scratch: a local folder that the ranks know.
    """
    if number is None or not hasattr(os, "memfd_create"):
        yield
        return
    closing = threading.Event()
    _tell(scratch, {"done": False})
    wanted = (home, number, scratch, ranks, closing)
    thread = threading.Thread(target=_work, args=wanted, name="prefetch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join(_CLOSE_SECONDS)


def hold(home: RunHome, scratch: str) -> None:
    """Let a home have what was read for this node's ranks, once all of it is; called by a rank before it loads.

    Args:
        scratch: as `prefetched` had it; "" for nothing.
    """
    home.objects.held = _held(Path(scratch) / FILE) if scratch else {}


def let_go(home: RunHome, scratch: str) -> None:
    """Say that this rank needs it no more; its memory is free when all have said so, and nobody has a view of it."""
    home.objects.held = {}
    if scratch and (Path(scratch) / FILE).exists():
        (Path(scratch) / f"{FILE}.{os.getpid()}").touch()


def _held(path: Path) -> Mapping[str, memoryview]:
    """Return digest -> content, as views of private memory."""
    if not path.exists():
        return {}
    while not (told := json.loads(path.read_text()))["done"]:
        time.sleep(_LOOK_EVERY_SECONDS)
    if not told["objects"]:
        return {}
    with open(told["file"], "rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    return {digest: whole[start : start + size] for digest, (start, size) in told["objects"].items()}


def _tell(scratch: Path, values: Mapping[str, Any]) -> None:
    """Tell the ranks; they are told from the beginning, so that they know to wait."""
    temporary = scratch / f".{FILE}"
    temporary.write_text(json.dumps(values))
    temporary.replace(scratch / FILE)


def _work(home: RunHome, number: int, scratch: Path, ranks: int, closing: threading.Event) -> None:
    file, objects = os.memfd_create("carryover-prefetch", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), {}
    try:
        _fill(home, number, file, objects, closing)
    except Exception as error:
        # The ranks read it themselves, and have words for what is wrong with it.
        _note(f"{type(error).__name__}: {error}")
    finally:
        with contextlib.suppress(FileNotFoundError):
            # The attempt may have ended meanwhile, and its folder with it.
            _tell(scratch, {"done": True, "file": f"/proc/{os.getpid()}/fd/{file}", "objects": objects})
    while objects and not closing.wait(1.0) and len(list(scratch.glob(f"{FILE}.*"))) < ranks:
        pass
    os.close(file)


def _fill(home: RunHome, number: int, file: int, objects: dict[str, tuple[int, int]], closing: threading.Event) -> None:
    """Read a record's objects, one behind the other; `objects` has those that are whole."""
    places, end = _layout(home.log.read(number).objects)
    if end > _MOST_OF_FREE * free_memory():
        return _note(f"{end:,} bytes are too much for the memory that is free")
    if not end:
        return None
    os.ftruncate(file, end)
    with mmap.mmap(file, end) as whole, memoryview(whole) as view:
        found: dict[str, tuple[int, int]] = {}
        for ref, start in places.items():
            if closing.is_set():
                return None
            with view[start : start + ref.size] as place:
                home.objects.get_into(ref, place)
            found[ref.digest] = (start, ref.size)
    fcntl.fcntl(file, _ADD_SEALS, _SEALS)
    objects.update(found)
    return None


def _layout(refs: tuple[Ref, ...]) -> tuple[dict[Ref, int], int]:
    places, end = {}, 0
    for ref in dict.fromkeys(refs):
        places[ref] = end
        end += -(-ref.size // _ALIGNED) * _ALIGNED
    return places, end


def _note(words: str) -> None:
    if console.is_debug():
        console.say(f"the newest commit is not read ahead: {words}")


def free_memory() -> int:
    """Return the bytes that this machine, or the container around this process, still has."""
    words = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(words["MemAvailable"].split()[0]) * 1024
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        words = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Files that were read count as used until somebody needs the room.
        used = int((group / "memory.current").read_text()) - int(words["inactive_file"])
        return min(free, limit - used)
    except (OSError, ValueError, KeyError):
        return free
