"""Batches: whatever the ranks, the cut and the start, each row once an epoch and the same global batches."""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover.data.loader import (
    Batch,
    MicroBatches,
    evaluation_micros,
    load,
    micros_of_step,
    steps,
    training_micros,
)
from carryover.data.order import rows_at
from carryover.data.rows import Rows

ROWS = 23


def features(table: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
    """Noise from the keys alone stands for augmentation."""
    noise = (keys >> np.uint64(40)).astype(np.float32) if training else np.zeros(len(keys), np.float32)
    return {"x": table["x"].to_numpy().astype(np.float32), "noise": noise}


def targets(table: pa.Table) -> np.ndarray:
    return table["x"].to_numpy().copy()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    path = tmp_path_factory.mktemp("rows") / "train.arrow"
    table = pa.table({"x": np.arange(ROWS) * 10})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return Rows.open(path)


def epoch_of(
    *, rows: int, batch: int, micro: int, world: int, start: int
) -> tuple[list[list[tuple[int, int]]], list[int]]:
    """Return the pieces of every global batch from `start` to the epoch's end, by place, and the batches' sizes."""
    by_rank = []
    for rank in range(world):
        stream = training_micros(
            rows=rows, epoch=4, position=start, batch_size=batch, micro_size=micro, rank=rank, world=world
        )
        by_rank.append(_steps(takewhile(lambda piece: piece.epoch == 4, stream)))
    # All ranks make the same number of steps: each step meets in a collective.
    assert len({len(found) for found in by_rank}) == 1
    pieces, sizes = [], []
    for of_ranks in zip(*by_rank, strict=True):
        assert all(step for step in of_ranks)
        counted = sorted((m for step in of_ranks for m in step if m.counts), key=lambda m: m.place)
        assert [m.place for m in counted] == list(range(len(counted)))
        stand_ins = [m for step in of_ranks for m in step if not m.counts]
        assert all(len(step) == 1 for step in of_ranks if not step[0].counts)
        assert all(m.last - m.first == 1 for m in stand_ins)
        (size,) = {m.size for step in of_ranks for m in step}
        pieces.append([(m.first, m.last) for m in counted])
        sizes.append(size)
    return pieces, sizes


def _steps(micros: Iterator) -> list[list]:
    found, step = [], []
    for micro in micros:
        step.append(micro)
        if micro.ends_step:
            found.append(step)
            step = []
    assert not step
    return found


@settings(max_examples=300, deadline=None)
@given(data=st.data(), rows=st.integers(1, 90), batch=st.integers(1, 100), micro=st.integers(1, 40))
def test_each_row_once_an_epoch_and_the_same_batches_for_all_worlds(
    data: st.DataObject, rows: int, batch: int, micro: int
) -> None:
    start = data.draw(st.integers(0, rows - 1))
    alone, sizes = epoch_of(rows=rows, batch=batch, micro=micro, world=1, start=start)
    assert sum(sizes) == rows - start
    assert all(size == batch for size in sizes[:-1])
    assert 1 <= sizes[-1] <= batch
    # The pieces, laid end to end, are the rest of the epoch without a gap.
    ends = [end for step in alone for piece in step for end in piece]
    assert ends[0] == start
    assert ends[-1] == rows
    assert ends[1:-1:2] == ends[2:-1:2]
    for world in (2, 3, 4):
        assert epoch_of(rows=rows, batch=batch, micro=micro, world=world, start=start) == (alone, sizes)


def test_the_next_epoch_starts_at_its_first_sample() -> None:
    stream = training_micros(rows=5, epoch=0, position=3, batch_size=4, micro_size=4, rank=0, world=1)
    found = [(m.epoch, m.first, m.last, m.size) for m, _ in zip(stream, range(4), strict=False)]
    assert found == [(0, 3, 5, 2), (1, 0, 4, 4), (1, 4, 5, 1), (2, 0, 4, 4)]


def test_a_rank_without_a_piece_computes_a_stand_in() -> None:
    found = micros_of_step(rows=10, epoch=0, position=8, batch_size=4, micro_size=2, rank=1, world=2)
    assert [(m.first, m.last, m.size, m.counts, m.ends_step) for m in found] == [(8, 9, 2, False, True)]


TEXTS = [None if row % 7 == 0 else "word" * (row * 5 % 11) for row in range(ROWS)]
LENGTHS = [len(text or "") for text in TEXTS]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    path = tmp_path_factory.mktemp("texts") / "train.arrow"
    table = pa.table({"x": np.arange(ROWS) * 10, "text": TEXTS})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return Rows.open(path)


def grouped(rows: np.ndarray) -> list[int]:
    """Sort rows as plain Python does: the longest first, of equal length as they came."""
    return sorted(rows.tolist(), key=lambda row: -LENGTHS[row])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_rows_of_similar_length_meet_and_global_batches_stay(texts: Rows, world: int) -> None:
    """From a position in the middle on, whatever the ranks: a batch is cut from its own rows, sorted."""
    batches = MicroBatches(texts, features, targets, training=True, seed=5, by_length=["text"])
    by_rank = []
    for rank in range(world):
        micros = training_micros(rows=ROWS, epoch=1, position=4, batch_size=8, micro_size=3, rank=rank, world=world)
        by_rank.append([step for step, _ in zip(steps(load(micros, batches, workers=0)), range(6), strict=False)])
    order = {epoch: rows_at(np.arange(ROWS), rows=ROWS, seed=5, epoch=epoch) for epoch in (1, 2)}
    starts = [(1, 4), (1, 12), (1, 20), (2, 0), (2, 8), (2, 16)]
    for (epoch, start), of_ranks in zip(starts, zip(*by_rank, strict=True), strict=True):
        found = sorted((b for step in of_ranks for b in step if b.micro.counts), key=lambda b: b.micro.place)
        wanted = grouped(order[epoch][start : start + 8])
        assert [b.rows.tolist() for b in found] == [wanted[at : at + 3] for at in range(0, len(wanted), 3)]
        assert all(b.targets.tolist() == (b.rows * 10).tolist() for b in found)


@pytest.mark.parametrize("world", [1, 2])
def test_an_evaluation_is_grouped_in_windows(texts: Rows, world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carryover.data.loader.WINDOW", 4)
    batches = MicroBatches(texts, features, targets, training=False, by_length=["text"])
    found = {
        m.place: batches[m].rows.tolist()
        for rank in range(world)
        for m in evaluation_micros(rows=ROWS, micro_size=2, rank=rank, world=world)
    }
    wanted = [row for start in range(0, ROWS, 8) for row in grouped(np.arange(start, min(start + 8, ROWS)))]
    assert [found[place] for place in range(12)] == [wanted[at : at + 2] for at in range(0, ROWS, 2)]


@pytest.mark.parametrize(("workers", "small"), [(0, 1 << 18), (1, 1 << 18), (2, 0)])
def test_worker_processes_change_nothing(
    split: Rows, workers: int, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither their number nor the way that a batch takes from them: through a pipe, or by shared memory."""
    monkeypatch.setattr("carryover.data.loader.SMALL", small)
    batches = MicroBatches(split, features, targets, training=True, seed=5)
    micros = training_micros(rows=ROWS, epoch=1, position=4, batch_size=8, micro_size=3, rank=0, world=1)
    found = [step for step, _ in zip(steps(load(micros, batches, workers=workers)), range(6), strict=False)]
    assert [len(step) for step in found] == [3, 3, 1, 3, 3, 3]
    seen = [row for step in found[:3] for batch in step for row in batch.rows.tolist()]
    want = rows_at(np.arange(4, ROWS), rows=ROWS, seed=5, epoch=1)
    assert seen == want.tolist()
    for batch in (batch for step in found for batch in step):
        alone = batches[batch.micro]
        assert batch.features.keys() == alone.features.keys()
        assert all(torch.equal(batch.features[name], alone.features[name]) for name in alone.features)
        assert torch.equal(batch.targets, alone.targets)
        assert batch.targets.tolist() == (batch.rows * 10).tolist()


def test_a_rows_augmentation_is_its_own_in_each_epoch(split: Rows) -> None:
    """Not of its place in a batch, nor of the rank: with other ranks and batch sizes it stays the same."""

    def noise(epoch: int, **cut: int) -> dict[int, float]:
        batches = MicroBatches(split, features, targets, training=True, seed=5)
        micros = training_micros(rows=ROWS, epoch=epoch, position=0, rank=0, world=1, **cut)
        found = [batches[m] for m in takewhile(lambda m: m.epoch == epoch, micros)]
        return {int(row): float(x) for b in found for row, x in zip(b.rows, b.features["noise"], strict=True)}

    one = noise(0, batch_size=8, micro_size=3)
    assert noise(0, batch_size=23, micro_size=10) == one
    assert len(set(one.values())) == ROWS
    assert all(noise(1, batch_size=8, micro_size=3)[row] != value for row, value in one.items())


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 5, 23, 100])
def test_evaluation_sees_each_row_once_in_the_splits_order(split: Rows, world: int, size: int) -> None:
    batches = MicroBatches(split, features, targets, training=False)
    seen = [
        row
        for rank in range(world)
        for m in evaluation_micros(rows=ROWS, micro_size=size, rank=rank, world=world)
        for row in batches[m].rows.tolist()
    ]
    assert sorted(seen) == list(range(ROWS))
    if world == 1:
        assert seen == list(range(ROWS))


def test_a_batch_moves_with_its_real_numbers_in_another_type(split: Rows) -> None:
    micro = micros_of_step(rows=ROWS, epoch=0, position=0, batch_size=4, micro_size=4, rank=0, world=1)[0]
    batch: Batch = MicroBatches(split, features, targets, training=True)[micro]
    moved = batch.to(torch.device("cpu"), torch.float64)
    assert moved.features["x"].dtype == torch.float64
    assert moved.targets.dtype == torch.int64
    assert batch.to(torch.device("cpu")).features["x"].dtype == torch.float32


def test_workers_end_with_the_process_that_made_them(split: Rows, tmp_path: Path) -> None:
    """A loader that is left half way; for killed ranks see tests/launch."""
    import multiprocessing

    batches = MicroBatches(split, features, targets, training=True)
    stream = load(
        training_micros(rows=ROWS, epoch=0, position=0, batch_size=4, micro_size=4, rank=0, world=1), batches, workers=2
    )
    next(iter(stream))
    assert len(multiprocessing.active_children()) == 2
    del stream
    for child in multiprocessing.active_children():
        child.join(timeout=20)
    assert multiprocessing.active_children() == []
