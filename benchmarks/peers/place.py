# pyright: reportMissingImports=false, reportArgumentType=false
"""How soon another program's first batch comes from a place in the data: `place.py PROGRAM ROWS [FOLDER]`, a JSON line.

    sampler       torch's DataLoader over a RandomSampler; to get to a place, batches of row numbers are passed over
    torchdata     StatefulDataLoader, with the state that another one had at that place
    accelerate    skip_first_batches over a DataLoader
    streaming     StreamingDataset and its StreamingDataLoader, with that place's state; FOLDER: where its files lie

Rows cost nothing (a number is its own row; streaming reads them from its files), so that what is measured is how the
place is found. Each program reshuffles every epoch; how it would know the order of epoch 3 again is left to it.
"""

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH = 8
PARTS = {"at 0 %": 0.0, "at 50 %": 0.5}
EPOCHS = {"epoch 1": 0, "epoch 3": 2}
First = Callable[[int, int], Iterator[Any]]


def measure(first: First, rows: int, *, rounds: int = 1, step: int = BATCH) -> dict[str, float]:
    """Time the first batch at both places of both epochs; `first(epoch, position)` gives an iterator of batches.

    Args:
        rounds: how often, at places one `step` further each; medians are given.
    """
    # What a process does once (imports inside of functions, the first tensor) takes time that is not the place's.
    with Highest() as memory:
        next(iter(first(0, 0)))
    found: dict[str, list[float]] = {"first start_bytes": [memory.grown]}
    for turn in range(rounds):
        for epoch, number in EPOCHS.items():
            for part, share in PARTS.items():
                position = (int(rows * share) // step + turn) * step
                for unit, value in _clocked(first, number, position).items():
                    found.setdefault(f"{part}, {epoch}{unit}", []).append(value)
    return {figure: statistics.median(values) for figure, values in found.items()}


def _clocked(first: First, epoch: int, position: int) -> dict[str, float]:
    with Highest() as memory:
        wall, cpu = time.perf_counter(), time.thread_time()
        batches = iter(first(epoch, position))
        next(batches)
        wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
    return {"_s": wall, "_cpu_s": cpu, "_bytes": memory.grown}


class Highest:
    """The most that this process's own memory (pages of mapped files left out) grows by inside the block."""

    def __enter__(self) -> "Highest":
        self._before, self.grown, self._over = _own_memory(), 0, threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._sampler.join()
        self._look()

    def _sample(self) -> None:
        while not self._over.wait(0.05):
            self._look()

    def _look(self) -> None:
        self.grown = max(self.grown, _own_memory() - self._before)


def _own_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


class Numbers:
    """A dataset whose rows are their numbers."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> int:
        return row


def sampler(rows: int, folder: str) -> First:
    """Row numbers are passed over."""
    import torch
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    def first(epoch: int, position: int) -> Iterator[Any]:
        order = RandomSampler(Numbers(rows), generator=torch.Generator().manual_seed(epoch))
        numbers = iter(BatchSampler(order, BATCH, drop_last=False))
        for _ in range(position // BATCH):
            next(numbers)
        return iter(DataLoader(Numbers(rows), batch_sampler=numbers))

    return first


def torchdata(rows: int, folder: str) -> First:
    """A state is loaded."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    def made() -> Any:
        return StatefulDataLoader(Numbers(rows), batch_size=BATCH, shuffle=True)

    # The state of a loader that has given so many batches is that of one batch with other counters.
    one = made()
    next(iter(one))
    state = one.state_dict()

    def first(epoch: int, position: int) -> Iterator[Any]:
        loader = made()
        if position:
            loader.load_state_dict(_counted(state, position // BATCH))
        return iter(loader)

    return first


def _counted(state: Any, batch: int) -> Any:
    if not isinstance(state, dict):
        return state
    rows = batch * BATCH
    named = {"_num_yielded": batch, "_sampler_iter_yielded": batch, "samples_yielded": rows, "yielded": rows}
    return {name: named.get(name, _counted(value, batch)) for name, value in state.items()}


def accelerate(rows: int, folder: str) -> First:
    """Batches are skipped."""
    from accelerate import skip_first_batches
    from torch.utils.data import DataLoader

    def first(epoch: int, position: int) -> Iterator[Any]:
        loader = DataLoader(Numbers(rows), batch_size=BATCH, shuffle=True)
        return iter(skip_first_batches(loader, position // BATCH) if position else loader)

    return first


def streaming(rows: int, folder: str) -> First:
    """A state is loaded; files are written first where there are none."""
    from streaming import MDSWriter, StreamingDataLoader, StreamingDataset

    if not Path(folder, "index.json").exists():
        with MDSWriter(out=folder, columns={"x": "int"}, size_limit=1 << 24) as writer:
            for row in range(rows):
                writer.write({"x": row})

    def first(epoch: int, position: int) -> Iterator[Any]:
        dataset = StreamingDataset(local=folder, shuffle=True, batch_size=BATCH, shuffle_seed=0)
        loader = StreamingDataLoader(dataset, batch_size=BATCH)
        if position or epoch:
            state = {"epoch": epoch, "sample_in_epoch": position, "num_canonical_nodes": 64, "shuffle_seed": 0}
            loader.load_state_dict(state | {"initial_physical_nodes": 1})
        return iter(loader)

    return first


if __name__ == "__main__":
    name, count, *rest = sys.argv[1:]
    programs = {each.__name__: each for each in (sampler, torchdata, accelerate, streaming)}
    print(json.dumps(measure(programs[name](int(count), *rest or [""]), int(count))))
