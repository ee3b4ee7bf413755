"""Owns what a network is taught by beside the labels of its rows: mixed images, a teacher. The loop knows neither."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from carryover.data.loader import Features
from carryover.data.mixup import MixupConfig
from carryover.models.family import Outputs
from carryover.tasks.task import Task
from carryover.train.distiller import DistillerConfig
from carryover.train.engine import Prepare, as_it_is
from carryover.train.sections import Optimization


@dataclass(frozen=True)
class Lessons:
    """How rows become what a network is given in training.

    Attributes:
        features: rows -> arrays, in loader processes.
        prepare: a batch of them on the device -> what the network reads and its loss compares with.
        loss: reads what `prepare` gives.
    """

    features: Features
    prepare: Prepare
    loss: Callable[[Outputs, Any], Tensor]


def lessons_of(
    features: Features,
    task: Task,
    optimization: Optimization,
    mixup: MixupConfig,
    distiller: DistillerConfig,
    *,
    partly: bool = False,
    seed: int,
    device: torch.device,
    precision: str,
) -> Lessons:
    """Return what a recipe asks for.

    Args:
        features: the network's own.
        partly: whether the teacher may lack classes; see `teacher.Teacher`.

    Raises:
        WrongInput: where the loss, the labels, the teacher and what is asked don't suit each other.
    """
    loss, prepare = optimization.loss(task, mixed=mixup.turn_on), as_it_is
    if mixup.turn_on:
        from carryover.train.mixup import Mixing

        prepare = Mixing(mixup, classes=task.num_outputs, seed=seed)
    if not distiller.teacher:
        return Lessons(features, prepare, loss)
    from carryover.train.teacher import Beside, DistilledLoss, Taught, Teacher

    teacher = Teacher(distiller, task, device=device, wide=precision == "64", partly=partly)
    beside = Beside(features, teacher.preprocessing)
    return Lessons(beside, Taught(prepare, teacher), DistilledLoss(loss, distiller, task, teacher.knows))
