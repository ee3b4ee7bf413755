"""Owns how rows become batches on a rank: which micro-batches it takes, and the processes that prepare them.

    epoch's order   | global batch 0            | global batch 1            | ...   (order.rows_at)
    grouped         | longest ......... shortest | longest ......... shortest |     (by_length, else as they come)
    micro-batches   | m0    m1    m2    m3      | m0    m1    m2    m3      |
    ranks (2)       | r0    r1    r0    r1      | r0    r1    r0    r1      |

A micro-batch is named by a `Micro`, a few whole numbers; its rows, their augmentation and its dropout are functions of
those alone. So a loader opens at any position at once, and the number of worker processes changes nothing.

Where rows of similar length share a micro-batch, a text model pads a third to a half less. Each global batch has the
rows that it has without that. A pass over a split for evaluation is grouped in windows of 16 micro-batches.
"""

import ctypes
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from carryover.data.images import TRUTH, NotUsable
from carryover.data.order import mix, rows_at
from carryover.data.rows import Rows
from carryover.ground.errors import WrongInput

Features = Callable[..., dict[str, np.ndarray]]
Targets = Callable[[pa.Table], np.ndarray]
_PR_SET_PDEATHSIG = 1
# So many rows in a row may be unusable before it is said that the data are.
TRIES = 50
# Bytes of an array up to which a pipe is cheaper than shared memory.
SMALL = 1 << 18
# Micro-batches of an evaluation that are grouped by length together: more would hardly pad less.
WINDOW = 16


class Micro(NamedTuple):
    """One micro-batch of one optimizer step.

    Attributes:
        epoch: the epoch it belongs to.
        first, last: its positions [first, last) in the epoch's order, grouped.
        place: where it stands in the global batch, the same for every number of ranks.
        size: samples of the whole global batch; in an evaluation, of the window.
        counts: False for a stand-in, computed only so that this rank takes part in the step's collectives.
        ends_step: whether it is this rank's last one of the step.
        start: the position that the global batch, or the window, begins at.
    """

    epoch: int
    first: int
    last: int
    place: int
    size: int
    counts: bool
    ends_step: bool
    start: int


class Batch(NamedTuple):
    """A prepared micro-batch: features [b, ...], targets [b, ...] and the rows of the split they are."""

    micro: Micro
    features: dict[str, Tensor]
    targets: Tensor
    rows: np.ndarray

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Batch":
        """Return the batch on a device; real-valued features and targets in `dtype` when one is given."""

        def move(tensor: Tensor) -> Tensor:
            real = dtype if dtype and tensor.is_floating_point() else None
            return tensor.to(device=device, dtype=real, non_blocking=True)

        features = {name: move(value) for name, value in self.features.items()}
        return self._replace(features=features, targets=move(self.targets))


def micros_of_step(
    *, rows: int, epoch: int, position: int, batch_size: int, micro_size: int, rank: int, world: int
) -> list[Micro]:
    """Return the micro-batches of one optimizer step that a rank computes.

    Args:
        position: samples of the epoch already seen; the step takes the next `batch_size`, fewer at the epoch's end.
        micro_size: samples a micro-batch; the last one may have fewer.
    """
    size = min(batch_size, rows - position)
    starts = range(0, size, micro_size)
    mine = [
        Micro(epoch, position + start, position + min(start + micro_size, size), index, size, True, False, position)
        for index, start in enumerate(starts)
        if index % world == rank
    ]
    if not mine:
        # Every rank must meet the others in the step's reduction: this one computes a sample that counts for nothing.
        mine = [Micro(epoch, position, position + 1, 0, size, False, False, position)]
    return [*mine[:-1], mine[-1]._replace(ends_step=True)]


def training_micros(
    *, rows: int, epoch: int, position: int, batch_size: int, micro_size: int, rank: int, world: int
) -> Iterator[Micro]:
    """Yield a rank's micro-batches from a position on, epoch after epoch without end."""
    while True:
        step = micros_of_step(
            rows=rows,
            epoch=epoch,
            position=position,
            batch_size=batch_size,
            micro_size=micro_size,
            rank=rank,
            world=world,
        )
        yield from step
        position += step[0].size
        if position >= rows:
            epoch, position = epoch + 1, 0


def evaluation_micros(*, rows: int, micro_size: int, rank: int, world: int) -> Iterator[Micro]:
    """Yield a rank's micro-batches of one pass over a split, in the split's own order but for the grouping."""
    for index, first in enumerate(range(0, rows, micro_size)):
        if index % world == rank:
            start = first - index % WINDOW * micro_size
            size = min(WINDOW * micro_size, rows - start)
            yield Micro(0, first, min(first + micro_size, rows), index, size, True, True, start)


class MicroBatches(Dataset[Batch]):
    """Prepares micro-batches of one split by name; `__getitem__` takes a `Micro`.

    Args:
        by_length: columns of texts by whose length, in bytes, rows are grouped; () to leave them in their order.
    """

    def __init__(
        self,
        split: Rows,
        features: Features,
        targets: Targets,
        *,
        training: bool,
        seed: int = 0,
        by_length: Sequence[str] = (),
    ) -> None:
        self.split = split
        self.features = features
        self.targets = targets
        self.training = training
        self.seed = seed
        self.by_length = tuple(by_length)
        self._whole: tuple[tuple[int, int, int], np.ndarray] = ((0, 0, 0), np.empty(0, dtype=np.int64))

    def __getitem__(self, micro: Micro) -> Batch:
        table, features, rows = self._usable(self._rows(micro), micro.epoch)
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in features.items()}
        # A label that was turned with its picture stands among the features: "<branch>/truth".
        turned = next((value for name, value in tensors.items() if name.endswith(f"/{TRUTH}")), None)
        if turned is not None:
            return Batch(micro, tensors, turned, rows)
        return Batch(micro, tensors, torch.from_numpy(np.ascontiguousarray(self.targets(table))), rows)

    def _rows(self, micro: Micro) -> np.ndarray:
        """Return the rows of a micro-batch; those of the newest global batch are kept for the next one."""
        name = (micro.epoch, micro.start, micro.size)
        if self._whole[0] != name:
            self._whole = (name, self._rows_of(*name))
        return self._whole[1][micro.first - micro.start : micro.last - micro.start]

    def _rows_of(self, epoch: int, start: int, size: int) -> np.ndarray:
        """Return the rows of a global batch, or of a window, in the order in which they are cut."""
        rows = np.arange(start, start + size)
        if self.training:
            rows = rows_at(rows, rows=len(self.split), seed=self.seed, epoch=epoch)
        if not self.by_length:
            return rows
        # The longest first: whether memory suffices is known at once, and the allocator has room for all that follow.
        return rows[np.argsort(-self.split.sizes(rows, self.by_length), kind="stable")]

    def _usable(self, rows: np.ndarray, epoch: int) -> tuple[pa.Table, dict[str, np.ndarray], np.ndarray]:
        """Return rows with their features; in the place of one that its preprocessor refuses stands the next one."""
        why = ""
        for _ in range(TRIES):
            table = self.split.take(rows)
            keys = mix(self.seed, epoch, rows)
            try:
                return table, self.features(table, training=self.training, keys=keys), rows
            except NotUsable as error:
                why, places = str(error), list(error.places)
            rows = rows.copy()
            rows[places] = (rows[places] + 1) % len(self.split)
        raise WrongInput(f"{TRIES} rows one after the other cannot be used: {why}")


def load(micros: Iterable[Micro], batches: MicroBatches, *, workers: int, pinned: bool = False) -> Iterator[Batch]:
    """Yield the named micro-batches in their order, prepared by `workers` processes or, with 0, right here.

    Args:
        pinned: whether tensors lie in memory that a GPU reads by itself; only then does `Batch.to` not wait.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=micros,
        num_workers=workers,
        collate_fn=_sent,  # pyright: ignore[reportArgumentType]
        worker_init_fn=_die_with_parent if workers else None,
        prefetch_factor=4 if workers else None,
    )
    for micro, features, targets, rows in loader:
        tensors = {name: _received(part, pinned) for name, part in features.items()}
        yield Batch(micro, tensors, _received(targets, pinned), rows)


def steps(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Group a rank's micro-batches by optimizer step."""
    step: list[Batch] = []
    for batch in batches:
        step.append(batch)
        if batch.micro.ends_step:
            yield step
            step = []


def is_lost_worker(error: BaseException) -> bool:
    """Tell whether an error means that a process that prepares batches was killed."""
    return isinstance(error, RuntimeError) and "DataLoader worker" in str(error) and "killed by signal" in str(error)


def _sent(batch: Batch) -> tuple[Micro, dict[str, Tensor | np.ndarray], Tensor | np.ndarray, np.ndarray]:
    """Return a batch as it goes from one process to another: what is small as bytes.

    A tensor goes by shared memory of its own, which costs both sides about a millisecond whatever its size.
    """

    def light(tensor: Tensor) -> Tensor | np.ndarray:
        return tensor.numpy() if tensor.nbytes <= SMALL else tensor

    features = {name: light(tensor) for name, tensor in batch.features.items()}
    return batch.micro, features, light(batch.targets), batch.rows


def _received(part: Tensor | np.ndarray, pinned: bool) -> Tensor:
    tensor = torch.from_numpy(part) if isinstance(part, np.ndarray) else part
    return tensor.pin_memory() if pinned else tensor


def _die_with_parent(worker: int) -> None:
    """Let the kernel end this worker with its rank, also when the rank is killed and can't tell anyone."""
    torch.set_num_threads(1)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
