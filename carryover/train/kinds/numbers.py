"""Owns predicted numbers: their errors, the largest of them with their rows, and a table of two columns."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from carryover.report.examples import SHOWN
from carryover.report.numbers import Measured
from carryover.tasks.metrics import Scored
from carryover.tasks.task import Task
from carryover.train.kinds.classes import no_targets
from carryover.train.kinds.kind import Pass
from carryover.train.kinds.stored import examples_of
from carryover.train.validate import Keeps


class Numbers:
    """See `kind.Kind`."""

    def keeps(self, task: Task) -> Keeps:
        return task

    def unread(self, task: Task) -> Callable[[pa.Table], np.ndarray]:
        return no_targets

    def shown(self, done: Pass, scored: Scored) -> Measured:
        errors = np.abs(scored.predictions - scored.targets)
        finite = np.flatnonzero(np.isfinite(errors))
        worst = finite[np.argsort(-errors[finite], kind="stable")][:SHOWN].tolist()
        told = [(place, *_words(float(scored.targets[place]), float(scored.predictions[place]))) for place in worst]
        return Measured(scored.targets, scored.predictions, examples_of(done, told))

    def table(self, done: Pass) -> pa.Table:
        """Return columns row, label and prediction, numbers in the label's own unit."""
        return pa.table({"row": done.predicted.rows, "label": done.truth, "prediction": done.values})

    def files(self, done: Pass) -> dict[str, bytes]:
        return {}


def _words(true: float, told: float) -> tuple[str, str, str]:
    return f"{true:.6g}", f"{told:.6g}", f"off by {told - true:+.4g}"
