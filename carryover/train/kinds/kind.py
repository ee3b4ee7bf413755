"""Owns what a kind of answers is, and which one a problem type has.

Model, split --one pass--> Pass --Kind--> scores and what a report shows, predictions.parquet, files of its own
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from carryover.data.manifest import DatasetCard
from carryover.data.rows import Rows
from carryover.ground.registry import Registry
from carryover.report.evaluation import Shown
from carryover.tasks.metrics import Scored
from carryover.tasks.task import Task
from carryover.train.validate import Keeps, Predicted

KINDS = Registry(
    "problem type",
    {
        "binary": "carryover.train.kinds.classes:Classes",
        "multiclass": "carryover.train.kinds.classes:Classes",
        "object_detection": "carryover.train.kinds.boxes:Boxes",
        "regression": "carryover.train.kinds.numbers:Numbers",
        "semantic_segmentation": "carryover.train.kinds.masks:Masks",
    },
    group="carryover.kinds",
)


@dataclass(frozen=True)
class Pass:
    """One pass of a Model over a split.

    Attributes:
        rows: the split, where a kind needs more of a row than was predicted.
        kept: what the pass kept; a kind's own, where it keeps more than scores need.
        assembly: the Model's, as its card has it.
    """

    card: DatasetCard
    task: Task
    rows: Rows
    predicted: Predicted
    kept: Keeps
    assembly: Mapping[str, Any]

    @property
    def truth(self) -> np.ndarray:
        """Return what is true, as metrics compare it."""
        return self.task.truth(self.predicted.targets)

    @property
    def values(self) -> np.ndarray:
        """Return what was told, as metrics compare it."""
        return self.task.predictions(self.predicted.logits)

    def stored(self, name: str) -> pa.Array:
        """Return a stored column of the rows that were predicted."""
        return self.rows.take(self.predicted.rows, [name]).column(name).combine_chunks()


class Kind(Protocol):
    """What becomes of a pass."""

    def keeps(self, task: Task) -> Keeps:
        """Return what keeps a pass's outputs: the task itself, or what keeps more."""
        ...

    def unread(self, task: Task) -> Callable[[pa.Table], np.ndarray]:
        """Return what stands for the targets of a Model that is not asked for scores, and may not know all labels."""
        ...

    def shown(self, done: Pass, scored: Scored) -> Shown:
        """Return what people want to know beside scores."""
        ...

    def table(self, done: Pass) -> pa.Table:
        """Return the predictions: columns row, label, prediction and more, one row a row."""
        ...

    def files(self, done: Pass) -> dict[str, bytes]:
        """Return files of this kind's own, by name."""
        ...
