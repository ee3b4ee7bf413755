"""Owns a Model at work on whole datasets: one pass over a split, its scores, and what comes of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from carryover.carry.answers import Said
from carryover.data.loader import Batch, MicroBatches, evaluation_micros, load
from carryover.data.manifest import DatasetCard
from carryover.data.rows import Rows, materialise
from carryover.ground import bars
from carryover.models.export import Found, LoadedModel, load_model
from carryover.report.evaluation import Evaluation
from carryover.tasks.metrics import Metric, scored_of, value
from carryover.tasks.task import Task, restore_task
from carryover.train.kinds.kind import KINDS, Kind, Pass
from carryover.train.validate import predict


@dataclass(frozen=True)
class Scorer:
    """A loaded Model on its device, in the precision that its weights have."""

    found: Found
    model: LoadedModel
    task: Task
    kind: Kind
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
        model = load_model(found, num_outputs=task.num_outputs, device=device)
        return cls(found, model, task, KINDS.load(task.problem_type)(), device, batch_size)

    def predict(self, card: DatasetCard, split: str, *, scratch: Path, labels: bool = True) -> Pass:
        """Return what the Model says of every row of a split, in the rows' order.

        Args:
            scratch: the rows lie there as long as the pass is of use.
            labels: False to leave the labels unread, some of which this Model may not know.
        """
        rows = Rows.open(materialise(card, split, scratch))
        targets = self.task.targets if labels else self.kind.unread(self.task)
        features = self.model.preprocessing
        batches = MicroBatches(rows, features, targets, training=False, by_length=features.padded)
        micros = evaluation_micros(rows=len(rows), micro_size=self.batch_size, rank=0, world=1)
        kept = self.kind.keeps(self.task)
        with bars.bar(f"scoring {split}", total=len(rows)) as shown:
            predicted = predict(
                self.model.network,
                _counted(load(micros, batches, workers=0), shown),
                kept,
                device=self.device,
                dtype=next(self.model.network.parameters()).dtype,
            )
        return Pass(card, self.task, rows, predicted.in_row_order(), kept, self.found.card.assembly)

    def describe(self, done: Pass, metrics: Sequence[Metric]) -> Evaluation:
        """Return what people want to know of a split."""
        scored = scored_of(done.truth, done.values, classes=self.task.classes, positive=self.task.positive)
        known = {metric.name: value(metric, scored) for metric in metrics}
        return Evaluation(done.card.at, len(scored.targets), known, self.kind.shown(done, scored))

    def said(self, done: Pass, *, labels: bool = True) -> Said:
        """Return the same in the label's own terms, to compare with what other Models say."""
        task, truth = self.task, done.truth if labels else None
        return Said(done.predicted.rows, done.values, task.classes, truth, task.positive, task.problem_type)

    def table(self, done: Pass) -> pa.Table:
        """Return the predictions, one row a row."""
        return self.kind.table(done)

    def files(self, done: Pass) -> dict[str, bytes]:
        """Return the files that this kind of answers has beside."""
        return self.kind.files(done)


def _counted(batches: Iterable[Batch], shown: bars.Bar) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        shown.add(len(batch.rows))
