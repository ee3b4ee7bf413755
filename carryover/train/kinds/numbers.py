"""Owns predicted numbers: a scatter plot, and a table of two columns."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from carryover.report.numbers import Measured
from carryover.tasks.metrics import Scored
from carryover.tasks.task import Task
from carryover.train.kinds.classes import no_targets
from carryover.train.kinds.kind import Pass
from carryover.train.validate import Keeps


class Numbers:
    """See `kind.Kind`."""

    def keeps(self, task: Task) -> Keeps:
        return task

    def unread(self, task: Task) -> Callable[[pa.Table], np.ndarray]:
        return no_targets

    def shown(self, done: Pass, scored: Scored) -> Measured:
        return Measured(scored.targets, scored.predictions)

    def table(self, done: Pass) -> pa.Table:
        """Return columns row, label and prediction, numbers in the label's own unit."""
        return pa.table({"row": done.predicted.rows, "label": done.truth, "prediction": done.values})

    def files(self, done: Pass) -> dict[str, bytes]:
        return {}
