"""Owns what a network is taught by beside the labels of its rows: mixed images. Neither loop nor engine knows it."""

from dataclasses import dataclass

from carryover.data.mixup import MixupConfig
from carryover.tasks.losses import Loss
from carryover.tasks.task import Task
from carryover.train.engine import Prepare, as_it_is
from carryover.train.sections import Optimization


@dataclass(frozen=True)
class Lessons:
    """How a batch becomes what the network is given in training, and the loss that reads it."""

    prepare: Prepare
    loss: Loss


def lessons_of(task: Task, optimization: Optimization, mixup: MixupConfig, *, seed: int) -> Lessons:
    """Return what a recipe asks for.

    Raises:
        WrongInput: where the loss, the labels and what is asked don't suit each other.
    """
    loss, prepare = optimization.loss(task, mixed=mixup.turn_on), as_it_is
    if mixup.turn_on:
        from carryover.train.mixup import Mixing

        prepare = Mixing(mixup, classes=task.num_outputs, seed=seed)
    return Lessons(prepare, loss)
