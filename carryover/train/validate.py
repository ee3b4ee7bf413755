"""Owns prediction over a stream of batches and its scores; the loop, evaluate and later soups all come here."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from carryover.data.loader import Batch
from carryover.ground import dist
from carryover.models.family import Outputs
from carryover.tasks.metrics import Metric, score_all
from carryover.tasks.task import Task

Autocast = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True)
class Predicted:
    """What a network said of some rows, in the order they came.

    Attributes:
        logits: float32[N, C], or float64 where the network computes in it.
        targets: as the task's `targets` gives them, [N].
        rows: which rows of the split they are, int64[N].
    """

    logits: np.ndarray
    targets: np.ndarray
    rows: np.ndarray

    def in_row_order(self) -> "Predicted":
        """Return the same, sorted by row."""
        order = np.argsort(self.rows, kind="stable")
        return Predicted(self.logits[order], self.targets[order], self.rows[order])


def predict(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    num_outputs: int,
    device: torch.device,
    dtype: torch.dtype | None = None,
    autocast: Autocast = contextlib.nullcontext,
) -> Predicted:
    """Run a network over batches without gradients and without dropout; its training mode is put back after.

    Not collective: give the bare network, and the batches of this rank.

    Args:
        num_outputs: C, for the shape of an empty result.
        dtype: of real-valued inputs, as `Batch.to` takes it.
        autocast: gives the context that the network computes in.
    """
    training = network.training
    network.eval()
    logits: list[Tensor] = []
    targets: list[Tensor] = []
    rows: list[np.ndarray] = []
    try:
        with torch.no_grad():
            for batch in batches:
                with autocast():
                    output = network(batch.to(device, dtype).features).logits
                # Kept on the device: a copy for each batch would make it wait.
                logits.append(output if output.element_size() >= 4 else output.float())
                targets.append(batch.targets)
                rows.append(batch.rows)
    finally:
        network.train(training)
    if not logits:
        return Predicted(np.empty((0, num_outputs), np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
    return Predicted(torch.cat(logits).cpu().numpy(), torch.cat(targets).numpy(), np.concatenate(rows))


def gathered(mine: Predicted, device: torch.device) -> Predicted:
    """Return all ranks' predictions in row order, the same on every rank, whatever their number. Collective.

    A rank without a row takes part with an empty result, so dtypes are made equal first.
    """
    if dist.world() == 1:
        return mine.in_row_order()

    def together(part: np.ndarray) -> np.ndarray:
        # Numbers below 2^53, class indices and float32 all survive float64 unchanged.
        tensor = torch.from_numpy(part.astype(np.float64)).to(device)
        return torch.cat(dist.gather_rows(tensor)).cpu().numpy()

    logits, targets, rows = together(mine.logits), together(mine.targets), together(mine.rows)
    return Predicted(logits, targets, rows.astype(np.int64)).in_row_order()


def scores(task: Task, metrics: Iterable[Metric], predicted: Predicted) -> Mapping[str, float]:
    """Return metric name -> value, NaN where it has none on these rows."""
    targets = predicted.targets.astype(np.int64) if task.classes is not None else predicted.targets
    return score_all(
        metrics,
        targets=task.truth(targets),
        predictions=task.predictions(predicted.logits),
        classes=task.classes,
        positive=task.positive,
    )


def mean_loss(task: Task, predicted: Predicted) -> float:
    """Return the mean over rows of the task's loss without auxiliary parts, NaN without rows."""
    if not len(predicted.rows):
        return float("nan")
    targets = torch.from_numpy(predicted.targets.astype(np.int64) if task.classes else predicted.targets)
    return float(task.loss(Outputs(torch.from_numpy(predicted.logits).double()), targets).mean())
