"""Owns the losses of semantic segmentation: per picture, over the pixels that are not ignored.

auto             two classes: structure_loss; more: cross-entropy and Dice, added
structure_loss   two classes: cross-entropy and intersection over union, edges weigh up to six times (Wei et al.,
                 "F3Net", AAAI 2020; Fan et al., "PraNet", MICCAI 2020)
balanced_bce     two classes: cross-entropy, object and background weigh the same whatever their sizes
dice_loss        1 - Dice's coefficient, the mean over the classes that a picture has (Milletari et al., 2016)
focal_loss       (1 - p)^gamma times cross-entropy, each class weighted by alpha (Lin et al., 2017)

    logits [B, C, h, w], targets [B, S, S] (class index, below 0: ignored)  ->  [B]

Logits are brought to the size of the targets first. A picture of ignored pixels alone has loss 0. A picture's loss
is a mean over its pixels, so each picture counts the same. AutoMM's structure_loss weighs the edges in its second half
only, by an oversight in PraNet's code; here as in the papers.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from carryover.ground.errors import WrongInput
from carryover.models.family import Outputs

if TYPE_CHECKING:
    from torch import Tensor

    from carryover.tasks.losses import FocalLossConfig, Loss
    from carryover.tasks.task import Task

AUTO, FOCAL = "auto", "focal_loss"
STRUCTURE, BALANCED, DICE = "structure_loss", "balanced_bce", "dice_loss"
NAMES = (AUTO, BALANCED, DICE, FOCAL, STRUCTURE)
# (margin of the object [B, S, S], whether it is one [B, S, S], whether a pixel counts [B, S, S]) -> [B]
_TwoClasses = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
# How far an edge reaches: PraNet's window, in pixels.
_WINDOW = 31


def make(task: "Task", *, name: str, label_smoothing: float, focal: "FocalLossConfig", mixed: bool) -> "Loss":
    """Return the loss that a network learns by; see `losses.make_loss`.

    Raises:
        WrongInput: when the task has no use for what is asked.
    """
    assert task.classes is not None
    count = len(task.classes)
    if mixed:
        raise WrongInput(f"data.mixup.turn_on: pictures of {task.problem_type} can't be mixed; set it to false")
    if name not in NAMES:
        raise WrongInput(f"optimization.loss_func: {name} is not for {task.problem_type}; it has {', '.join(NAMES)}")
    if name in _OF_TWO and count > 2:
        others = ", ".join(one for one in NAMES if one not in _OF_TWO)
        raise WrongInput(f"optimization.loss_func: {name} is for two classes; {count} classes have {others}")
    if label_smoothing and not (name == AUTO and count > 2):
        raise WrongInput(f"optimization.label_smoothing: {name} of {count} classes has none; it is of cross-entropy")
    if name == FOCAL and focal.alpha is not None and len(focal.alpha) != count:
        raise WrongInput(f"optimization.focal_loss.alpha: {len(focal.alpha)} weights for {count} classes")
    if name == FOCAL:
        return _of_outputs(partial(focal_loss, alpha=focal.alpha, gamma=focal.gamma))
    return _of_outputs(_chosen(name, count, label_smoothing))


def default(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """Return each picture's loss [B] by `auto`."""
    return _chosen(AUTO, logits.shape[1], 0.0)(*_sized(logits, targets))


def _chosen(name: str, count: int, smoothing: float) -> "Callable[[Tensor, Tensor], Tensor]":
    if name == AUTO and count > 2:
        return partial(_entropy_and_dice, smoothing=smoothing)
    return dice_loss if name == DICE else partial(_of_object, _OF_TWO[STRUCTURE if name == AUTO else name])


def _of_outputs(loss: "Callable[[Tensor, Tensor], Tensor]") -> "Loss":
    return partial(_sized_loss, loss)


def _sized_loss(loss: "Callable[[Tensor, Tensor], Tensor]", outputs: Outputs, targets: "Tensor") -> "Tensor":
    return loss(*_sized(outputs.logits, targets))


def _sized(logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return logits in at least float32, in the size of the targets, and these as whole numbers of 64 bits."""
    from torch.nn.functional import interpolate

    wide = logits if logits.element_size() >= 4 else logits.float()
    size = tuple(targets.shape[-2:])
    same = tuple(wide.shape[-2:]) == size
    return wide if same else interpolate(wide, size=size, mode="bilinear", align_corners=False), targets.long()


def focal_loss(logits: "Tensor", targets: "Tensor", *, alpha: tuple[float, ...] | None, gamma: float) -> "Tensor":
    """Return [B]; see the module."""
    counts = targets >= 0
    index = targets.clamp(min=0)
    known = logits.log_softmax(dim=1).gather(1, index.unsqueeze(1)).squeeze(1)
    loss = -((1 - known.exp()) ** gamma) * known
    return _mean(loss if alpha is None else loss * logits.new_tensor(alpha)[index], counts)


def dice_loss(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """Return [B]; see the module."""
    from torch.nn.functional import one_hot

    counts = (targets >= 0).unsqueeze(1)
    truth = one_hot(targets.clamp(min=0), logits.shape[1]).movedim(-1, 1).to(logits.dtype) * counts
    told = logits.softmax(dim=1) * counts
    sizes = truth.sum(dim=(2, 3))
    share = (2 * (truth * told).sum(dim=(2, 3)) + 1) / (sizes + told.sum(dim=(2, 3)) + 1)
    present = (sizes > 0).to(logits.dtype)
    return ((1 - share) * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)


def _entropy_and_dice(logits: "Tensor", targets: "Tensor", *, smoothing: float) -> "Tensor":
    from torch.nn.functional import cross_entropy

    counts = targets >= 0
    entropy = cross_entropy(logits, targets.clamp(min=0), reduction="none", label_smoothing=smoothing)
    return _mean(entropy, counts) + dice_loss(logits, targets)


def _of_object(loss: _TwoClasses, logits: "Tensor", targets: "Tensor") -> "Tensor":
    counts = targets >= 0
    return loss(logits[:, 1] - logits[:, 0], (targets == 1).to(logits.dtype), counts.to(logits.dtype))


def _structure(margin: "Tensor", truth: "Tensor", counts: "Tensor") -> "Tensor":
    from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

    around = avg_pool2d(truth.unsqueeze(1), _WINDOW, stride=1, padding=_WINDOW // 2).squeeze(1)
    weight = (1 + 5 * (around - truth).abs()) * counts
    entropy = binary_cross_entropy_with_logits(margin, truth, reduction="none")
    told = margin.sigmoid()
    both, either = (told * truth * weight).sum(dim=(1, 2)), ((told + truth) * weight).sum(dim=(1, 2))
    return _mean(entropy, weight) + 1 - (both + 1) / (either - both + 1)


def _balanced(margin: "Tensor", truth: "Tensor", counts: "Tensor") -> "Tensor":
    from torch.nn.functional import binary_cross_entropy_with_logits

    entropy = binary_cross_entropy_with_logits(margin, truth, reduction="none")
    return (_mean(entropy, truth * counts) + _mean(entropy, (1 - truth) * counts)) / 2


def _mean(values: "Tensor", weight: "Tensor") -> "Tensor":
    """Return each picture's weighted mean [B], 0 where nothing weighs anything."""
    weight = weight.to(values.dtype)
    total = weight.sum(dim=(1, 2))
    return (values * weight).sum(dim=(1, 2)) / total.where(total > 0, 1)


_OF_TWO: Mapping[str, _TwoClasses] = {BALANCED: _balanced, STRUCTURE: _structure}
