"""Owns a teacher at work: its features beside the batch's own, its answers, and the loss against them.

    rows --own preprocessing--> features         --> network that learns --> logits   --\\
         --the teacher's-----> "teacher:<name>"  --> teacher, no gradient --> answers --> weighted sum of two losses
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from carryover.data.loader import Batch, Features
from carryover.ground.errors import WrongInput
from carryover.models.columns import as_text
from carryover.models.export import load_model
from carryover.models.family import Outputs
from carryover.tasks.losses import Loss
from carryover.tasks.regression import RegressionTask
from carryover.tasks.task import Task, restore_task
from carryover.train.distiller import CROSS_ENTROPY, TEACHER, DistillerConfig, open_teacher
from carryover.train.engine import Given, Prepare

# No branch's name holds a colon.
MARK = "teacher:"


class Lesson(NamedTuple):
    """What the loss compares with: the labels, and the teacher's answers.

    Attributes:
        targets: as the usual loss takes them.
        answers: logits [b, C], or of pixels [b, C, h, w], of the classes that the teacher knows, in the order of this
            task's, or numbers [b] in
            its unit.
    """

    targets: Tensor
    answers: Tensor


@dataclass(frozen=True)
class Beside:
    """Two preprocessings of the same rows with the same keys: where both augment alike, both see the same."""

    own: Features
    teachers: Features

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Return both's arrays; the teacher's have `MARK` before their names."""
        its = self.teachers(rows, training=training, keys=keys)
        return {**self.own(rows, training=training, keys=keys), **{MARK + name: array for name, array in its.items()}}


class Teacher:
    """A Model on this rank's device, which never changes.

    Args:
        partly: whether `task` may have classes that the teacher does not know; it then says nothing of those.

    Attributes:
        knows: where in `task` the classes are that it answers for; None where the label is a number.

    Raises:
        WrongInput: when it is not there, or does not know a class that `task` has.
    """

    def __init__(
        self, config: DistillerConfig, task: Task, *, device: torch.device, wide: bool, partly: bool = False
    ) -> None:
        found = open_teacher(config.teacher)
        self._own, self._task = task, restore_task(found.files())
        self.knows, self._places = _places(self._own, self._task, partly=partly)
        loaded = load_model(found, num_outputs=self._task.num_outputs, device=device)
        network: nn.Module = loaded.network
        self._network = (network.double() if wide else network.float()).requires_grad_(False)
        self.preprocessing: Features = loaded.preprocessing

    @torch.no_grad()
    def answers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return `Lesson.answers` to features by the teacher's own names, of the classes that it knows."""
        logits = _wide(self._network(features).logits)
        if self._places is not None:
            return logits[:, self._places]
        assert isinstance(self._own, RegressionTask) and isinstance(self._task, RegressionTask)
        values = _numbers(self._task, logits) * self._task.scale + self._task.shift
        return (values - self._own.shift) / self._own.scale


@dataclass(frozen=True)
class Taught:
    """Gives a network its own features, and a `Lesson` as targets; `before` is what happens to a batch otherwise."""

    before: Prepare
    teacher: Teacher

    def __call__(self, batch: Batch, step: int) -> Given:
        """See `Given`."""
        features, targets = self.before(batch, step)
        its = {name.removeprefix(MARK): value for name, value in features.items() if name.startswith(MARK)}
        own = {name: value for name, value in features.items() if not name.startswith(MARK)}
        return Given(own, Lesson(targets, self.teacher.answers(its)))


@dataclass(frozen=True)
class DistilledLoss:
    """hard_label_weight times the usual loss, and soft_label_weight times that against the teacher's answers.

    As in AutoMM, auxiliary heads learn from the labels alone. `knows` is where the classes are that the answers are
    of; None where they are of all, and of numbers.
    """

    hard: Loss
    config: DistillerConfig
    task: Task
    knows: list[int] | None = None

    def __call__(self, outputs: Outputs, lesson: Lesson) -> Tensor:
        """Return each sample's loss [b]."""
        hard = self.hard(outputs, lesson.targets)
        return self.config.hard_label_weight * hard + self.config.soft_label_weight * self._soft(outputs, lesson)

    def _soft(self, outputs: Outputs, lesson: Lesson) -> Tensor:
        logits, answers = _wide(outputs.logits), lesson.answers
        if isinstance(self.task, RegressionTask):
            return (_numbers(self.task, logits) - answers.to(logits.dtype)).square()
        heat = self.config.temperature
        if self.knows is not None:
            logits = logits[:, self.knows]
        if logits.dim() > 2 and answers.shape != logits.shape:
            # Pixels of a teacher that reads pictures of another size.
            answers = nn.functional.interpolate(answers, logits.shape[2:], mode="bilinear", align_corners=False)
        logits, answers = logits / heat, answers.to(logits.dtype) / heat
        if self.config.soft_loss(classes=True) == CROSS_ENTROPY:
            found = nn.functional.cross_entropy(logits, answers.softmax(dim=1), reduction="none")
        else:
            found = (logits - answers).square().mean(dim=1)
        return found.flatten(1).mean(dim=1) if found.dim() > 1 else found


def _places(own: Task, teachers: Task, *, partly: bool) -> tuple[list[int] | None, list[int] | None]:
    """Return which of our classes the teacher knows, and where it has each; None where the label is a number."""
    if (own.classes is None) != (teachers.classes is None):
        raise WrongInput(
            f"{TEACHER}: it answers {teachers.problem_type}, and the data is {own.problem_type}; name another"
        )
    if own.classes is None or teachers.classes is None:
        return None, None
    known = {as_text(value): place for place, value in enumerate(teachers.classes)}
    missing = [repr(value) for value in own.classes if as_text(value) not in known]
    if missing and not partly:
        raise WrongInput(f"{TEACHER}: it does not know {', '.join(missing[:20])}; it knows {', '.join(known)[:300]}")
    knows = [place for place, value in enumerate(own.classes) if as_text(value) in known]
    return knows, [known[as_text(own.classes[place])] for place in knows]


def _numbers(task: RegressionTask, logits: Tensor) -> Tensor:
    """Return [b] numbers in the unit that the task's loss compares in."""
    return logits[:, 0].sigmoid() if task.link == "sigmoid" else logits[:, 0]


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.element_size() >= 4 else logits.float()
