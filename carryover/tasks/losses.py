"""Owns the losses that a recipe may choose, and which of them suit a task. Importable without torch.

auto                 classes: cross-entropy (with label smoothing); numbers: squared error
focal_loss           classes: (1 - p)^gamma times cross-entropy, each class weighted by alpha (Lin et al., 2017)
bcewithlogitsloss    numbers: scaled to 0..1 by the least and the greatest, through a sigmoid

Pixels have losses of their own (segmentation_losses.py); where a network computes its own loss (objects), it is auto.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from carryover.ground.config import check, key
from carryover.ground.errors import WrongInput
from carryover.models.family import Outputs
from carryover.tasks import segmentation_losses as pixels

if TYPE_CHECKING:
    from torch import Tensor

    from carryover.tasks.task import Task

AUTO, FOCAL, BCE = "auto", "focal_loss", "bcewithlogitsloss"
NAMES = (AUTO, FOCAL, BCE, *(name for name in pixels.NAMES if name not in (AUTO, FOCAL)))
PIXELS, OBJECTS = "semantic_segmentation", "object_detection"
REDUCTIONS = ("mean", "sum")
# Per-sample losses [B] from a network's outputs and targets [B], or targets [B, C] where images are mixed.
Loss = Callable[[Outputs, "Tensor"], "Tensor"]


@dataclass(frozen=True)
class FocalLossConfig:
    """`optimization.focal_loss.*`."""

    alpha: tuple[float, ...] | None = key(
        None,
        help="Weight of each class, in the order of the sorted classes; null: all alike.",
        allowed=">= 0 each",
        mutable=False,
    )
    gamma: float = key(
        2.0, help="How much less a sample counts that is right already; 0: not at all.", allowed=">= 0", mutable=False
    )
    reduction: str = key(
        "mean", help="Mean or sum over the samples of a global batch.", allowed=", ".join(REDUCTIONS), mutable=False
    )

    def __post_init__(self) -> None:
        check(
            self.alpha is None or min(self.alpha, default=-1) >= 0, "alpha", self.alpha, "a list of weights from 0 on"
        )
        check(self.gamma >= 0, "gamma", self.gamma, "0 or above")
        check(self.reduction in REDUCTIONS, "reduction", self.reduction, "mean or sum: a step needs one number")


def loss_name(given: str) -> str:
    """Return the name of a loss as we have it; torch.nn's spelling (nn.BCEWithLogitsLoss) is known too."""
    return given.lower().removeprefix("torch.").removeprefix("nn.")


def make_loss(
    task: "Task", *, loss_func: str, label_smoothing: float, focal: FocalLossConfig, mixed: bool = False
) -> Loss:
    """Return the loss that a network learns by.

    Args:
        mixed: whether targets are shares of all classes [B, C], as `data.mixup` makes them.

    Raises:
        WrongInput: when the task has no use for what is asked.
    """
    name, kind = loss_name(loss_func), task.problem_type
    if kind == PIXELS:
        return pixels.make(task, name=name, label_smoothing=label_smoothing, focal=focal, mixed=mixed)
    if name in pixels.NAMES and name not in (AUTO, FOCAL):
        raise WrongInput(f"optimization.loss_func: {loss_func} is for {PIXELS}; {kind} has other losses, such as auto")
    if kind == OBJECTS:
        return _own_loss(task, name, label_smoothing=label_smoothing, mixed=mixed)
    if mixed:
        return _mixed_loss(task, name, label_smoothing)
    if task.classes is None:
        if name == FOCAL:
            raise WrongInput(f"optimization.loss_func: {loss_func} is for classes; {kind} has auto and {BCE}")
        if label_smoothing:
            raise WrongInput(f"optimization.label_smoothing: {label_smoothing} is not possible; {kind} has no classes")
        return task.loss
    if name == BCE:
        raise WrongInput(f"optimization.loss_func: {loss_func} is for numbers; {kind} has auto and {FOCAL}")
    if name == FOCAL:
        if label_smoothing:
            raise WrongInput("optimization.label_smoothing: focal_loss has none; leave it out, or use loss_func auto")
        count = len(task.classes)
        if focal.alpha is not None and len(focal.alpha) != count:
            raise WrongInput(
                f"optimization.focal_loss.alpha: {len(focal.alpha)} weights for {count} classes "
                f"({', '.join(map(str, task.classes[:20]))})"
            )
        return partial(_summed, partial(_focal, alpha=focal.alpha, gamma=focal.gamma))
    return partial(_summed, partial(_cross_entropy, smoothing=label_smoothing)) if label_smoothing else task.loss


def check_loss(task: "Task", loss: Loss) -> Loss | None:
    """Return the loss that a validation measures beside its score, of the one that training has; None for pictures.

    A detector gives boxes in evaluation and no losses, and masks there have each picture's own size instead of the one
    that the network learns at: what came out would be another loss.
    """
    return None if task.problem_type in (PIXELS, OBJECTS) else loss


def _own_loss(task: "Task", name: str, *, label_smoothing: float, mixed: bool) -> Loss:
    """Return the loss that a detector computes by itself."""
    for key_, asked, off in (
        ("optimization.loss_func", name != AUTO, AUTO),
        ("optimization.label_smoothing", bool(label_smoothing), "0"),
        ("data.mixup.turn_on", mixed, "false"),
    ):
        if asked:
            raise WrongInput(f"{key_}: a detector has a loss of its own, which this does not change; set it to {off}")
    return task.loss


def _mixed_loss(task: "Task", name: str, label_smoothing: float) -> Loss:
    if task.classes is None:
        raise WrongInput(f"data.mixup.turn_on: labels of {task.problem_type} can't be mixed; set it to false")
    if name != AUTO:
        raise WrongInput(f"data.mixup.turn_on: {name} has no place for mixed labels; use optimization.loss_func auto")
    if label_smoothing:
        raise WrongInput(
            f"optimization.label_smoothing: {label_smoothing} is not possible with data.mixup.turn_on; give "
            "data.mixup.label_smoothing"
        )
    return partial(_summed, _soft_cross_entropy)


def _summed(loss: Callable[["Tensor", "Tensor"], "Tensor"], outputs: Outputs, targets: "Tensor") -> "Tensor":
    """Return each sample's loss with those of the auxiliary heads."""
    total = loss(_wide(outputs.logits), targets)
    for weight, logits in outputs.auxiliary:
        total = total + weight * loss(_wide(logits), targets)
    return total


def _cross_entropy(logits: "Tensor", targets: "Tensor", *, smoothing: float) -> "Tensor":
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)


def _soft_cross_entropy(logits: "Tensor", targets: "Tensor") -> "Tensor":
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, targets.to(logits.dtype), reduction="none")


def _focal(logits: "Tensor", targets: "Tensor", *, alpha: tuple[float, ...] | None, gamma: float) -> "Tensor":
    known = logits.log_softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
    loss = -((1 - known.exp()) ** gamma) * known
    return loss if alpha is None else loss * logits.new_tensor(alpha)[targets]


def _wide(logits: "Tensor") -> "Tensor":
    return logits if logits.element_size() >= 4 else logits.float()
