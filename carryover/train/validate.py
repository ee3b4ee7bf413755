"""Owns prediction over a stream of batches and its scores; the loop, evaluate and later soups all come here."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from carryover.data.loader import Batch
from carryover.ground import dist
from carryover.tasks.losses import Loss
from carryover.tasks.metrics import Metric, score_all
from carryover.tasks.task import Task

Autocast = Callable[[], contextlib.AbstractContextManager[Any]]
# What stands behind the end of a row that is shorter than others: no class, no score.
_NOTHING = -1


@dataclass(frozen=True)
class Predicted:
    """What a network said of some rows, in the order they came.

    Attributes:
        logits: float32[N, W], or float64 where the network computes in it; as the task's `kept` gives them.
        targets: as the task's `kept` gives them, [N] or [N, W].
        rows: which rows of the split they are, int64[N].
        losses: of each row by the loss that was asked for, float64[N]; None where none was.
    """

    logits: np.ndarray
    targets: np.ndarray
    rows: np.ndarray
    losses: np.ndarray | None = None

    def in_row_order(self) -> "Predicted":
        """Return the same, sorted by row; nothing is copied where it is."""
        if (np.diff(self.rows) > 0).all():
            return self
        order = np.argsort(self.rows, kind="stable")
        losses = None if self.losses is None else self.losses[order]
        return Predicted(self.logits[order], self.targets[order], self.rows[order], losses)

    @property
    def mean_loss(self) -> float | None:
        """The mean over rows, the same whichever ranks had them once they are in order; None where it is not known."""
        return None if self.losses is None or not len(self.losses) else float(self.losses.mean())


class Keeps(Protocol):
    """What a pass needs of a task: see `Task.kept`."""

    @property
    def num_outputs(self) -> int: ...

    def kept(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]: ...


def predict(
    network: nn.Module,
    batches: Iterable[Batch],
    task: Keeps,
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    autocast: Autocast = contextlib.nullcontext,
    loss: Loss | None = None,
) -> Predicted:
    """Run a network over batches without gradients and without dropout; its training mode is put back after.

    Not collective: give the bare network, and the batches of this rank.

    Args:
        dtype: of real-valued inputs, as `Batch.to` takes it.
        autocast: gives the context that the network computes in.
        loss: (outputs, targets) -> per-row losses [b], taken in the same pass; None for none.
    """
    training = network.training
    network.eval()
    logits: list[Tensor] = []
    targets: list[Tensor] = []
    losses: list[Tensor] = []
    rows: list[np.ndarray] = []
    try:
        with torch.no_grad():
            for batch in batches:
                moved = batch.to(device, dtype)
                with autocast():
                    outputs = network(moved.features)
                    if loss:
                        losses.append(loss(outputs, moved.targets).double())
                # Kept on the device: a copy for each batch would make it wait.
                output = outputs.logits
                said, truth = task.kept(output if output.element_size() >= 4 else output.float(), batch.targets)
                logits.append(said)
                targets.append(truth)
                rows.append(batch.rows)
    finally:
        network.train(training)
    if not logits:
        empty, none = np.empty((0, task.num_outputs), np.float32), np.empty(0, np.int64)
        return Predicted(empty, none, none, np.empty(0) if loss else None)
    lost = torch.cat(losses).cpu().numpy() if loss else None
    return Predicted(_joined(logits).cpu().numpy(), _joined(targets).numpy(), np.concatenate(rows), lost)


def gathered(mine: Predicted, device: torch.device) -> Predicted:
    """Return all ranks' predictions in row order, the same on every rank, whatever their number. Collective.

    A rank without a row takes part with an empty result, so dtypes and widths are made equal first.
    """
    if dist.world() == 1:
        return mine.in_row_order()

    def together(part: np.ndarray) -> np.ndarray:
        # Numbers below 2^53, class indices and float32 all survive float64 unchanged.
        tensor = torch.from_numpy(part.astype(np.float64)).to(device)
        mine = torch.tensor([[tensor.dim(), tensor.shape[-1] if tensor.dim() > 1 else 0]], device=device)
        dims, width = torch.cat(dist.gather_rows(mine)).amax(dim=0).tolist()
        if dims > 1:
            tensor = _widened(tensor.reshape(len(tensor), -1) if len(tensor) else tensor.new_empty(0, width), width)
        return torch.cat(dist.gather_rows(tensor)).cpu().numpy()

    logits, targets, rows = together(mine.logits), together(mine.targets), together(mine.rows)
    losses = None if mine.losses is None else together(mine.losses)
    return Predicted(logits, targets, rows.astype(np.int64), losses).in_row_order()


def _joined(parts: list[Tensor]) -> Tensor:
    """Return [b, W] tensors, whose widths may differ, or [b] ones, as one."""
    width = max(part.shape[-1] for part in parts) if parts[0].dim() > 1 else 0
    return torch.cat([_widened(part, width) for part in parts] if width else parts)


def _widened(rows: Tensor, width: int) -> Tensor:
    return nn.functional.pad(rows, (0, width - rows.shape[1]), value=_NOTHING)


def scores(task: Task, metrics: Iterable[Metric], predicted: Predicted) -> Mapping[str, float]:
    """Return metric name -> value, NaN where it has none on these rows."""
    return score_all(
        metrics,
        targets=task.truth(predicted.targets),
        predictions=task.predictions(predicted.logits),
        classes=task.classes,
        positive=task.positive,
    )
