"""Owns a Model at work on whole datasets: one pass over a split, scores, curves and a table of predictions."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from carryover.carry.answers import Said
from carryover.data.loader import MicroBatches, evaluation_micros, load
from carryover.data.manifest import DatasetCard
from carryover.data.rows import Rows, materialise
from carryover.models.columns import as_text
from carryover.models.export import Found, LoadedModel, load_model
from carryover.report.evaluation import Evaluation
from carryover.tasks.curves import confusion, roc
from carryover.tasks.metrics import Metric
from carryover.tasks.task import Task, restore_task
from carryover.train.validate import Predicted, predict, scores


@dataclass(frozen=True)
class Scorer:
    """A loaded Model on its device, in the precision that its weights have."""

    model: LoadedModel
    task: Task
    device: torch.device
    batch_size: int

    @classmethod
    def of(cls, found: Found, *, batch_size: int) -> "Scorer":
        """Load a Model onto the GPU where there is one.

        Raises:
            Damaged: when its bytes are not those that were written.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        task = restore_task(found.files())
        return cls(load_model(found, num_outputs=task.num_outputs, device=device), task, device, batch_size)

    def predict(self, card: DatasetCard, split: str, *, scratch: Path, labels: bool = True) -> Predicted:
        """Return what the Model says of every row of a split, in the rows' order.

        Args:
            labels: False to leave the labels unread, some of which this Model may not know; targets are then zeros.
        """
        rows = Rows.open(materialise(card, split, scratch))
        targets = self.task.targets if labels else _no_targets
        batches = MicroBatches(rows, self.model.preprocessing, targets, training=False)
        micros = evaluation_micros(rows=len(rows), micro_size=self.batch_size, rank=0, world=1)
        return predict(
            self.model.network,
            load(micros, batches, workers=0),
            self.task,
            device=self.device,
            dtype=next(self.model.network.parameters()).dtype,
        )

    def describe(self, card: DatasetCard, predicted: Predicted, metrics: Iterable[Metric]) -> Evaluation:
        """Return what people want to know of a split."""
        return _evaluation(card, self.task, metrics, predicted)

    def said(self, predicted: Predicted, *, labels: bool = True) -> Said:
        """Return the same in the label's own terms, to compare with what other Models say."""
        truth = self.task.truth(predicted.targets) if labels else None
        values = self.task.predictions(predicted.logits)
        return Said(predicted.rows, values, self.task.classes, truth, self.task.positive)

    def table(self, predicted: Predicted) -> pa.Table:
        """Return the predictions, one row a row."""
        return _table(self.task, predicted)


def _no_targets(rows: pa.Table) -> np.ndarray:
    return np.zeros(rows.num_rows, np.int64)


def _evaluation(card: DatasetCard, task: Task, metrics: Iterable[Metric], predicted: Predicted) -> Evaluation:
    known = scores(task, metrics, predicted)
    truth, values = task.truth(predicted.targets), task.predictions(predicted.logits)
    if task.classes is None:
        return Evaluation(card.at, len(truth), known, truth=truth, predictions=values)
    positive = task.positive
    return Evaluation(
        card.at,
        len(truth),
        known,
        classes=[as_text(value) for value in task.classes],
        positive="" if positive is None else as_text(task.classes[positive]),
        matrix=confusion(truth, values.argmax(axis=1), len(task.classes)),
        roc=None if positive is None else roc(truth, values, positive=positive),
    )


def _table(task: Task, predicted: Predicted) -> pa.Table:
    """Return columns row, label, prediction and, for classes, probability_<class>."""
    truth, values = task.truth(predicted.targets), task.predictions(predicted.logits)
    if task.classes is None:
        return pa.table({"row": predicted.rows, "label": truth, "prediction": values})
    classes = pa.array(list(task.classes))
    columns = {
        "row": pa.array(predicted.rows),
        "label": classes.take(pa.array(truth)),
        "prediction": classes.take(pa.array(values.argmax(axis=1).astype(np.int64))),
    }
    names = [f"probability_{as_text(value)}" for value in task.classes]
    return pa.table({**columns, **{name: pa.array(values[:, index]) for index, name in enumerate(names)}})
