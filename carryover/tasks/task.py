"""Owns what a task is, which one a problem type has, and the one file of a Model that keeps it."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Scalar, Schema
from carryover.ground.digests import canonical
from carryover.ground.registry import Registry
from carryover.models.family import Outputs
from carryover.tasks import losses
from carryover.tasks.regression import RegressionTask

if TYPE_CHECKING:
    from torch import Tensor

TASKS = Registry(
    "problem type",
    {
        "binary": "carryover.tasks.classification:ClassificationTask",
        "multiclass": "carryover.tasks.classification:ClassificationTask",
        "object_detection": "carryover.tasks.detection:DetectionTask",
        "regression": "carryover.tasks.regression:RegressionTask",
        "semantic_segmentation": "carryover.tasks.segmentation:SegmentationTask",
    },
    group="carryover.tasks",
)
FILE = "preprocessors/task.json"


class Task(Protocol):
    """What a network's logits stand for. It goes to loader processes, so it must survive being sent there.

    Attributes:
        classes: the label's values in the order of the logits; None where the label is a number.
        positive: index of the positive class of a binary problem, else None.
        num_outputs: number of logits.
    """

    @property
    def problem_type(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def classes(self) -> tuple[Scalar, ...] | None: ...

    @property
    def positive(self) -> int | None: ...

    @property
    def num_outputs(self) -> int: ...

    def targets(self, rows: pa.Table) -> np.ndarray:
        """Return what the loss compares with, [B]: int64 class indices, or float32 numbers as scaled for training.

        Pictures have more of it: boxes [B, M, 6] (detection.py), masks [B, H, W] (segmentation.py).

        Raises:
            WrongInput: names the value or the gap that the label has and the task has no place for.
        """
        ...

    def loss(self, outputs: Outputs, targets: "Tensor") -> "Tensor":
        """Return each sample's loss [B], auxiliary losses included, in at least float32."""
        ...

    def kept(self, logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return what is kept of a batch to compute scores from, [B, W] and [B] or [B, W]: logits and targets as given.

        Rows may differ in W from batch to batch; the shorter ones are filled up with -1.
        """
        ...

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities float64[N, C], or numbers in the label's own unit float64[N], from what was kept."""
        ...

    def truth(self, targets: np.ndarray) -> np.ndarray:
        """Return kept targets as metrics compare them: class indices, numbers in the label's own unit."""
        ...

    def grown(self, schema: Schema) -> "Task":
        """Return the task with classes that only the schema has behind its own; itself where there are none.

        Raises:
            WrongInput: when the schema poses another problem.
        """
        ...

    def to_json(self) -> dict[str, object]:
        """Return all that makes the task, as plain JSON."""
        ...


def make_task(schema: Schema, data: DataConfig, *, loss_func: str = losses.AUTO) -> Task:
    """Return the task of a dataset.

    Args:
        loss_func: `optimization.loss_func`; one of them decides what a number's logit means.

    Raises:
        WrongInput: for a problem type that no task has, or a `data.pos_label` that is no class.
    """
    task = TASKS.load(schema.problem_type).of(schema, data)
    bounded = losses.loss_name(loss_func) == losses.BCE and isinstance(task, RegressionTask)
    return task.bounded(schema) if bounded else task


def task_files(task: Task) -> dict[str, bytes]:
    """Return the file that a Model keeps of the task."""
    return {FILE: canonical(task.to_json())}


def restore_task(files: Mapping[str, bytes]) -> Task:
    """Return the task that a Model's files describe."""
    stored = json.loads(files[FILE])
    return TASKS.load(stored["problem_type"]).from_json(stored)
