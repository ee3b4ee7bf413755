"""Owns the task matrix of continual learning: what each stage of a model knew of every task, and what became of it.

                 task 0   task 1   task 2
    stage 0      R[0,0]   R[0,1]   R[0,2]      R[i,j]: score on task j after stage i
    stage 1      R[1,0]   R[1,1]   R[1,2]      l_j: the stage that learned task j; here 0, 1, 2
    stage 2      R[2,0]   R[2,1]   R[2,2]      b_j: score on task j of who says the same of every row

    average            mean of the last row
    backward transfer  mean of R[last,j] - R[l_j,j]     over tasks learned before the last stage; below 0: forgotten
    forward transfer   mean of R[l_j - 1,j] - b_j       over tasks learned after the first stage
    forgetting of j    best of the earlier R[l_j.., j] less R[last,j]

The first three as in Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory", where l_j = j and b_j is the score of a
random network; forgetting as in Chaudhry et al. 2018, "Riemannian Walk". Differences are turned so that more is better.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carryover.carry.answers import Answers
from carryover.carry.class_scores import NAMES, RECALL, constant, of_classes, repeated
from carryover.data.schema import Schema
from carryover.tasks.metrics import Metric, value

BY_DATASET, BY_ORDER, NOT_KNOWN = "the Dataset that each stage was trained on", "their order", "not known"


@dataclass(frozen=True)
class Learned:
    """Which stage learned each task, None where that is not known, and how that was found."""

    stages: tuple[int | None, ...]
    by: str


@dataclass(frozen=True)
class TaskMatrix:
    """Scores of stages on tasks.

    Attributes:
        scores: R, float64[stages, tasks], NaN where there is none.
        constant: b, float64[tasks].
        learned: l, by task.
    """

    scores: np.ndarray
    constant: np.ndarray
    learned: tuple[int | None, ...]
    greater_is_better: bool = True

    @property
    def average(self) -> float:
        """Return the mean score of the last stage, in the metric's own sense."""
        return float(self.scores[-1].mean())

    @property
    def changes(self) -> np.ndarray:
        """Return how much better each task is after the last stage than when it was learned, float64[tasks]."""
        last = len(self.scores) - 1
        return self._turned([self.scores[last, j] - self._at(j, 0) for j in range(len(self.learned))])

    @property
    def head_start(self) -> np.ndarray:
        """Return how much better than a constant each task was just before it was learned, float64[tasks]."""
        return self._turned([self._at(j, -1) - self.constant[j] for j in range(len(self.learned))])

    @property
    def forgetting(self) -> np.ndarray:
        """Return the best score that each task had since it was learned, less the last one, float64[tasks].

        NaN for a task that the last stage learned; below 0 where the last stage is the best.
        """
        return np.array([self._forgotten(j) for j in range(len(self.learned))])

    @property
    def backward_transfer(self) -> float:
        """Return the mean change of tasks learned before the last stage, NaN where there is none."""
        return self._mean(self.changes, range(len(self.scores) - 1))

    @property
    def forward_transfer(self) -> float:
        """Return the mean head start of tasks learned after the first stage, NaN where there is none."""
        return self._mean(self.head_start, range(1, len(self.scores)))

    def of_tasks(self, kept: Sequence[int]) -> "TaskMatrix":
        """Return the matrix of some of the tasks."""
        learned = tuple(self.learned[j] for j in kept)
        return TaskMatrix(self.scores[:, kept], self.constant[list(kept)], learned, self.greater_is_better)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, NaN where there is none."""
        return {
            "scores": self.scores.tolist(),
            "constant": self.constant.tolist(),
            "average": self.average,
            "backward_transfer": self.backward_transfer,
            "forward_transfer": self.forward_transfer,
            "forgetting": self.forgetting.tolist(),
        }

    def _at(self, task: int, offset: int) -> float:
        stage = self.learned[task]
        return math.nan if stage is None or stage + offset < 0 else float(self.scores[stage + offset, task])

    def _turned(self, values: Sequence[float]) -> np.ndarray:
        return np.array(values, dtype=np.float64) * (1 if self.greater_is_better else -1)

    def _forgotten(self, task: int) -> float:
        stage = self.learned[task]
        if stage is None or stage >= len(self.scores) - 1:
            return math.nan
        column = self._turned(self.scores[stage:, task].tolist())
        return float(column[:-1].max() - column[-1])

    def _mean(self, values: np.ndarray, stages: range) -> float:
        counted = [one for one, stage in zip(values.tolist(), self.learned, strict=True) if stage in stages]
        return float(np.mean(counted)) if counted else math.nan


def learned(stages: Sequence[str], tasks: Sequence[str]) -> Learned:
    """Return which stage learned each task.

    Where a stage's card names a task's Dataset, that decides. Where none does, stages and tasks belong together in
    their order, if there are as many of both.

    Args:
        stages: digest of the Dataset that each stage was trained on, "" where not known.
        tasks: digest of each task's Dataset.
    """
    found = tuple(stages.index(task) if task in stages else None for task in tasks)
    if any(stage is not None for stage in found):
        return Learned(found, BY_DATASET)
    if len(stages) == len(tasks):
        return Learned(tuple(range(len(tasks))), BY_ORDER)
    return Learned(found, NOT_KNOWN)


@dataclass(frozen=True)
class Named:
    """A stage or a task: digest and place of a Model or a Dataset, and a task's rows."""

    digest: str
    uri: str
    rows: int = 0


@dataclass(frozen=True)
class History:
    """All that is known of stages and tasks.

    Attributes:
        metric: name of the metric of `matrix`.
        stages: Models, oldest first.
        tasks: Datasets, in the order in which they were learned as far as that is known.
        classes: class -> the tasks that have rows of it, and its scores there.
        class_score: which scores these are; see class_scores.py.
    """

    metric: str
    stages: tuple[Named, ...]
    tasks: tuple[Named, ...]
    learned: Learned
    matrix: TaskMatrix
    classes: Mapping[str, tuple[list[int], TaskMatrix]]
    class_score: str = RECALL

    def to_json(self) -> dict[str, Any]:
        """Return plain values, NaN where there is none."""
        return {
            "metric": self.metric,
            "greater_is_better": self.matrix.greater_is_better,
            "stages": [{"digest": one.digest, "uri": one.uri} for one in self.stages],
            "tasks": [
                {"digest": one.digest, "uri": one.uri, "rows": one.rows, "learned_after": stage}
                for one, stage in zip(self.tasks, self.learned.stages, strict=True)
            ],
            "paired_by": self.learned.by,
            **self.matrix.to_json(),
            **({} if self.class_score == RECALL else {"class_score": self.class_score}),
            "classes": {name: {"tasks": kept, **one.to_json()} for name, (kept, one) in self.classes.items()},
        }


def history(
    metric: Metric,
    answers: Sequence[Answers],
    schemas: Sequence[Schema],
    *,
    stages: Sequence[Named],
    trained: Sequence[str],
) -> History:
    """Return the task matrix, in a metric and by recall of each class.

    Args:
        answers: of each task, those of all stages; the first is the newest, the others from the oldest on.
        schemas: of each task's Dataset.
        stages: from the oldest on.
        trained: digest of the Dataset that each stage was trained on, "" where not known.
    """
    given = [*range(1, len(answers)), 0]
    paired = learned(trained, [answers[j].digest for j in given])
    # Stable, so what nothing is known of stays as given.
    places = sorted(range(len(given)), key=lambda at: math.inf if paired.stages[at] is None else paired.stages[at])
    order = [given[at] for at in places]
    paired = Learned(tuple(paired.stages[at] for at in places), paired.by)
    tasks = [answers[j] for j in order]
    constants = [constant(schemas[j], answers[j].frame) for j in order]
    names = [stage.digest for stage in stages]
    matrix = task_matrix(metric, tasks, stages=names, learned=paired.stages, constants=constants)
    classes = class_matrices(tasks, stages=names, learned=paired.stages, constants=constants)
    about = tuple(Named(task.digest, task.name, len(task.truth)) for task in tasks)
    name = NAMES.get(tasks[0].frame.problem_type, RECALL)
    return History(metric.name, tuple(stages), about, paired, matrix, classes, name)


def task_matrix(
    metric: Metric,
    answers: Sequence[Answers],
    *,
    stages: Sequence[str],
    learned: Sequence[int | None],
    constants: Sequence[np.ndarray],
) -> TaskMatrix:
    """Return R in one metric.

    Args:
        answers: of each task.
        stages: digests of the Models, oldest first.
        constants: of each task what a constant says, as `constant` gives it.
    """
    scores = [[value(metric, task.scored(stage)) for task in answers] for stage in stages]
    flat = [value(metric, repeated(one, task)) for task, one in zip(answers, constants, strict=True)]
    return TaskMatrix(np.array(scores), np.array(flat), tuple(learned), metric.greater_is_better)


def class_matrices(
    answers: Sequence[Answers],
    *,
    stages: Sequence[str],
    learned: Sequence[int | None],
    constants: Sequence[np.ndarray],
) -> dict[str, tuple[list[int], TaskMatrix]]:
    """Return for each class its own matrix (class_scores.py), and the tasks that have rows of it."""
    if not answers[0].frame.classes:
        return {}
    kind = answers[0].frame.problem_type
    scores = np.array([[of_classes(kind, task.scored(stage)) for task in answers] for stage in stages])
    flat = np.array([of_classes(kind, repeated(one, task)) for task, one in zip(answers, constants, strict=True)])
    found = {}
    for index, name in enumerate(answers[0].frame.classes):
        kept = [j for j in range(len(answers)) if np.isfinite(flat[j, index])]
        if kept:
            whole = TaskMatrix(scores[:, :, index], flat[:, index], tuple(learned))
            found[name] = (kept, whole.of_tasks(kept))
    return found
