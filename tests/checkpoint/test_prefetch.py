"""The newest commit read ahead: the same bits as read by itself, once a node, and never believed more than that."""

import json
import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from carryover.checkpoint import prefetch
from carryover.checkpoint.home import Loaded, RunHome
from carryover.checkpoint.prefetch import FILE, hold, let_go, prefetched
from carryover.checkpoint.snapshot import restore, to_raw, viewed
from carryover.ground.storage import open_store
from tests.checkpoint.support import save, start
from tests.support.counting import Counted


@contextmanager
def ahead(home: RunHome, scratch: Path, *, ranks: int = 1) -> Iterator[None]:
    """The step's side, with all read."""
    with prefetched(home, scratch, number=home.log.head().newest.commit, ranks=ranks):
        while not json.loads((scratch / FILE).read_text())["done"]:
            time.sleep(0.01)
        yield


def content(loaded: Loaded | None) -> dict[str, object]:
    assert loaded is not None
    tensors = {name: (raw.dtype, raw.shape, bytes(raw.data)) for name, raw in loaded.tensors().items()}
    return {"number": loaded.record.number, "files": dict(loaded.files), **tensors}


def test_what_was_read_ahead_is_the_same_and_no_object_is_read_again(home: RunHome, tmp_path: Path) -> None:
    save(start(home), 7)
    alone = content(home.load_newest())
    with ahead(home, tmp_path, ranks=2):
        for _ in range(2):
            store = Counted(home.store)
            mine = RunHome(store)  # type: ignore[arg-type]
            hold(mine, str(tmp_path))
            assert content(mine.load_newest()) == alone
            by_itself = Counted(home.store)
            RunHome(by_itself).load_newest()  # type: ignore[arg-type]
            objects = len(home.log.read(alone["number"]).objects)  # type: ignore[arg-type]
            assert by_itself.tally.all_down - store.tally.all_down > 0
            reads = by_itself.tally.calls.total() - store.tally.calls.total()
            assert reads >= objects


def test_a_view_is_of_private_memory(local: RunHome, tmp_path: Path) -> None:
    save(start(local), 7)
    with ahead(local, tmp_path):
        hold(local, str(tmp_path))
        view = next(iter(local.objects.held.values()))
        view[0:1] = bytes([view[0] ^ 255])
        again = RunHome(local.store)
        hold(again, str(tmp_path))
        assert content(again.load_newest())["number"] == local.log.head().newest.commit


def test_damage_is_left_to_the_rank_which_reports_it_once_and_takes_the_older(local: RunHome, tmp_path: Path) -> None:
    writer = start(local)
    older, newest = save(writer, 7), save(writer, 8)
    pack, *_ = set(newest.objects) - set(older.objects) - {newest.table, *newest.files.values()}
    path = Path(local.store.uri) / "objects" / pack.digest
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with ahead(local, tmp_path):
        hold(local, str(tmp_path))
        assert not local.objects.held
        said: list[str] = []
        assert content(local.load_newest(said.append))["number"] == older.number
    assert len(said) == 1
    assert "blake3" in said[0]


def test_what_there_is_no_memory_for_is_read_by_each_rank(
    local: RunHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(start(local), 7)
    monkeypatch.setattr(prefetch, "free_memory", lambda: 1000)
    with ahead(local, tmp_path):
        hold(local, str(tmp_path))
        assert not local.objects.held
        assert local.load_newest() is not None


def test_memory_is_given_back_when_all_ranks_have_let_go(local: RunHome, tmp_path: Path) -> None:
    save(start(local), 7)
    with ahead(local, tmp_path):
        file = Path(json.loads((tmp_path / FILE).read_text())["file"])
        with file.open("r+b") as opened, pytest.raises(PermissionError):
            mmap.mmap(opened.fileno(), 0)  # Sealed: nobody can change it.
        let_go(local, str(tmp_path))
        deadline = time.monotonic() + 20
        while file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not file.exists()


def test_a_first_start_has_nothing_to_read(tmp_path: Path) -> None:
    home = RunHome.open(open_store(str(tmp_path / "store")), "key")
    with prefetched(home, tmp_path, number=None, ranks=1):
        hold(home, str(tmp_path))
        let_go(home, str(tmp_path))
    assert not list(tmp_path.glob(f"{FILE}*"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_tensors_seen_in_place_are_those_that_were_copied_out(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.rand(shape) * 4).to(dtype)
    raw = replace(to_raw(tensor), data=bytearray(to_raw(tensor).data))
    seen, copied = viewed({"a": raw})["a"], restore({"a": raw})["a"]
    assert seen.dtype == copied.dtype == dtype
    assert seen.shape == copied.shape
    assert bytes(to_raw(seen).data) == bytes(to_raw(copied).data)
    assert not seen.numel() or seen.untyped_storage().nbytes() == raw.size
