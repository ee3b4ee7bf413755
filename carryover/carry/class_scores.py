"""Owns what each class of a task scored, by kind of answer, and what one who looks at nothing says.

                 score of a class                      the constant
probabilities    recall: its rows told right           classes' shares in the train split
numbers          (no classes)                          their mean in the train split
boxes            AP at IoU 0.5 to 0.95                  no box: 0
masks            IoU                                   every pixel is of the train split's most frequent class
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from carryover.carry.answers import Answers, Frame
from carryover.data.schema import Schema
from carryover.ground.errors import WrongInput
from carryover.tasks.curves import class_scores, confusion
from carryover.tasks.metrics import DETECTION, SEGMENTATION, Scored
from carryover.tasks.segments import iou_of_classes

RECALL = "recall"
NAMES = {DETECTION: "AP", SEGMENTATION: "IoU"}


def of_classes(problem_type: str, scored: Scored) -> list[float]:
    """Return each class's score, NaN for one that the task has nothing of."""
    return _SCORES.get(problem_type, _recalls)(scored)


def _recalls(scored: Scored) -> list[float]:
    scores = class_scores(confusion(scored.targets, scored.chosen, scored.classes))
    return [one.recall if one.support else math.nan for one in scores]


def _precisions(scored: Scored) -> list[float]:
    return scored.coco.classes[:, 0].tolist()


def _overlaps(scored: Scored) -> list[float]:
    there = scored.pixels.sum(axis=1) > 0
    return np.where(there, iou_of_classes(scored.pixels), np.nan).tolist()


_SCORES: dict[str, Callable[[Scored], list[float]]] = {DETECTION: _precisions, SEGMENTATION: _overlaps}


def constant(schema: Schema, frame: Frame) -> np.ndarray:
    """Return what who looks at no feature says of every row; see the table above.

    Raises:
        WrongInput: when the Dataset's card does not say.
    """
    known: Mapping[str, Any] = schema.label_column.statistics
    if frame.problem_type == DETECTION:
        return np.empty((0, 6))
    if not frame.classes:
        if known.get("mean") is None:
            raise WrongInput(f"label '{schema.label}': its Dataset has no train rows, so their mean is not known")
        return np.array(float(known["mean"]))
    counts = known.get("pixels" if frame.problem_type == SEGMENTATION else "counts", {})
    shares = np.array([float(counts.get(name, 0)) for name in frame.classes])
    if not shares.sum():
        raise WrongInput(f"label '{schema.label}': its Dataset has no train rows, so their classes are not known")
    if frame.problem_type == SEGMENTATION:
        return np.eye(len(shares))[shares.argmax()]
    return shares / shares.sum()


def repeated(one: np.ndarray, task: Answers) -> Scored:
    """Return what a metric takes of who says the same of every row of a task."""
    if task.frame.problem_type == SEGMENTATION:
        # Every Model's matrices have the same truth in them.
        pixels = next(iter(task.said.values())).sum(axis=2)
        return task.frame.scored(task.truth, pixels[:, :, None] * one)
    return task.frame.scored(task.truth, np.broadcast_to(one, (len(task.truth), *one.shape)))
