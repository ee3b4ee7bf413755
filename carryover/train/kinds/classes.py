"""Owns classified rows: confusion matrix, curves, the worst mistakes, and a table of the probability of each class."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from carryover.models.columns import as_text
from carryover.report.classes import Classified
from carryover.report.examples import SHOWN, Example
from carryover.report.probabilities import Told
from carryover.tasks.curves import confusion, roc
from carryover.tasks.metrics import Scored
from carryover.tasks.task import Task
from carryover.train.kinds.kind import Pass
from carryover.train.kinds.stored import examples_of
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
        names = [as_text(value) for value in classes]
        return Classified(
            names,
            confusion(truth, values.argmax(axis=1), len(classes)),
            "" if positive is None else as_text(classes[positive]),
            None if positive is None else roc(truth, values, positive=positive),
            Told(truth, values, names, positive),
            _mistakes(done, truth, values, names),
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


def _mistakes(done: Pass, truth: np.ndarray, values: np.ndarray, names: Sequence[str]) -> list[Example]:
    """Return the rows that were told wrong, those first whose wrong class was told most surely."""
    chosen = values.argmax(axis=1)
    wrong = np.flatnonzero((chosen != truth) & np.isfinite(values).all(axis=1))
    gap = values[wrong, chosen[wrong]] - values[wrong, truth[wrong]]
    worst = wrong[np.argsort(-gap, kind="stable")][:SHOWN].tolist()
    told = []
    for place in worst:
        true, other = int(truth[place]), int(chosen[place])
        how = f"{values[place, other]:.1%} sure; the true one {values[place, true]:.1%}"
        told.append((place, names[true], names[other], how))
    return examples_of(done, told)


def no_targets(rows: pa.Table) -> np.ndarray:
    """Return zeros for labels that are not read."""
    return np.zeros(rows.num_rows, np.int64)
