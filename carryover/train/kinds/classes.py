"""Owns classified rows: confusion matrix, ROC curve, and a table with the probability of each class."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from carryover.models.columns import as_text
from carryover.report.classes import Classified
from carryover.tasks.curves import confusion, roc
from carryover.tasks.metrics import Scored
from carryover.tasks.task import Task
from carryover.train.kinds.kind import Pass
from carryover.train.validate import Keeps


class Classes:
    """See `kind.Kind`."""

    def keeps(self, task: Task) -> Keeps:
        return task

    def unread(self, task: Task) -> Callable[[pa.Table], np.ndarray]:
        return no_targets

    def shown(self, done: Pass, scored: Scored) -> Classified:
        classes, positive = done.task.classes or (), done.task.positive
        truth, values = scored.targets, scored.predictions
        return Classified(
            [as_text(value) for value in classes],
            confusion(truth, values.argmax(axis=1), len(classes)),
            "" if positive is None else as_text(classes[positive]),
            None if positive is None else roc(truth, values, positive=positive),
        )

    def table(self, done: Pass) -> pa.Table:
        """Return columns row, label, prediction and probability_<class>."""
        own, values = done.task.classes or (), done.values
        classes = pa.array(list(own))
        columns = {
            "row": pa.array(done.predicted.rows),
            "label": classes.take(pa.array(done.truth)),
            "prediction": classes.take(pa.array(values.argmax(axis=1).astype(np.int64))),
        }
        names = [f"probability_{as_text(value)}" for value in own]
        return pa.table({**columns, **{name: pa.array(values[:, index]) for index, name in enumerate(names)}})

    def files(self, done: Pass) -> dict[str, bytes]:
        return {}


def no_targets(rows: pa.Table) -> np.ndarray:
    """Return zeros for labels that are not read."""
    return np.zeros(rows.num_rows, np.int64)
