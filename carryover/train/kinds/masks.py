"""Owns told masks: scores of each class, pixels by class, pictures beside their masks, and every told mask as PNG.

predictions.parquet     row, image_id where there is one, prediction: PNG of class ids, uint8, in the picture's own size
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from carryover.data import masks
from carryover.data.thumbnail import thumbnail
from carryover.models.columns import as_text
from carryover.report import pictures
from carryover.report.masks import Segmented, Shot
from carryover.tasks.metrics import Scored
from carryover.tasks.segmentation import SegmentationTask, confusion
from carryover.tasks.segments import iou
from carryover.tasks.task import Task
from carryover.train.kinds.kind import Pass
from carryover.train.kinds.stored import cell_of, first_picture, identifier, named
from carryover.train.validate import Keeps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class _Kept:
    """What a pass keeps: confusion matrices as the task does, and the told masks, PNG in the rows' order."""

    task: SegmentationTask
    told: list[bytes] = field(default_factory=list)

    @property
    def num_outputs(self) -> int:
        return self.task.num_outputs

    def kept(self, logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        """See `Task.kept`."""
        import torch

        ids, counts = np.array([int(value) for value in self.task.classes], np.uint8), []
        for told, truth in self.task.masks(logits, targets):
            counts.append(confusion(told, truth, self.num_outputs))
            self.told.append(masks.stored(ids[told.cpu().numpy()]))
        return torch.stack(counts), torch.zeros(len(targets), dtype=torch.int64)


class Masks:
    """See `kind.Kind`."""

    def keeps(self, task: Task) -> Keeps:
        assert isinstance(task, SegmentationTask)
        return _Kept(task)

    def unread(self, task: Task) -> Callable[[pa.Table], np.ndarray]:
        # The truth is in what is kept; Models that are compared have the same classes, so each can read it.
        return task.targets

    def shown(self, done: Pass, scored: Scored) -> Segmented:
        each = [Scored(scored.targets[:1], one[None], scored.classes, 1) for one in scored.predictions]
        quality = np.nan_to_num([iou(one) for one in each], nan=1.0)
        shots = []
        for place, worst in pictures.chosen(quality):
            pixels = scored.predictions[place]
            wrong = 1 - pixels.diagonal().sum() / max(1.0, pixels.sum())
            words = f"{named(done, place)}: IoU {quality[place]:.2f}, {wrong:.1%} of pixels wrong"
            shots.append(_shot(done, place, words, worst))
        return Segmented([as_text(value) for value in done.task.classes or ()], scored.pixels, shots)

    def table(self, done: Pass) -> pa.Table:
        assert isinstance(done.kept, _Kept)
        columns: dict[str, Any] = {"row": pa.array(done.predicted.rows)}
        if name := identifier(done.card.schema):
            columns[name] = done.stored(name)
        return pa.table({**columns, "prediction": pa.array(done.kept.told, pa.binary())})

    def files(self, done: Pass) -> dict[str, bytes]:
        return {}


def _shot(done: Pass, place: int, words: str, worst: bool) -> Shot:
    task = done.task
    assert isinstance(task, SegmentationTask)
    assert isinstance(done.kept, _Kept)
    truth, told = (task.mask(cell) for cell in (cell_of(done, place, task.label), done.kept.told[place]))
    return Shot(thumbnail(first_picture(done, place)), words, worst, truth, told)
