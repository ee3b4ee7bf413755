"""Losses of pixels: numbers worked out by hand, ignored pixels, no nan, and words for what does not suit."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models.family import Outputs
from carryover.tasks.losses import FocalLossConfig, make_loss
from carryover.tasks.segmentation import SegmentationTask
from carryover.tasks.segmentation_losses import NAMES

TWO = ("auto", "structure_loss", "balanced_bce", "dice_loss", "focal_loss")
MORE = ("auto", "dice_loss", "focal_loss")


def task(classes: int) -> SegmentationTask:
    ids = tuple(range(classes))
    schema = Schema("mask", "semantic_segmentation", ids, (Column("mask", "mask", "binary", {}),))
    return SegmentationTask.of(schema, DataConfig())


def loss(name: str, logits: torch.Tensor, targets: torch.Tensor, *, smoothing: float = 0.0, **focal: Any):
    config = FocalLossConfig(**focal)
    made = make_loss(task(logits.shape[1]), loss_func=name, label_smoothing=smoothing, focal=config)
    return made(Outputs(logits), targets)


def drawn(classes: int, *, side: int = 40, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(classes)
    targets = torch.randint(-1, classes, (batch, side, side), generator=chance).to(torch.int16)
    return torch.randn(batch, classes, side // 2, side // 2, generator=chance, requires_grad=True), targets


@pytest.mark.parametrize(("name", "classes"), [*((name, 2) for name in TWO), *((name, 4) for name in MORE)])
def test_every_loss_is_of_each_picture_falls_towards_the_truth_and_minds_no_ignored_pixel(name, classes):
    logits, targets = drawn(classes)
    found = loss(name, logits, targets)
    assert found.shape == (3,)
    alone = torch.stack([loss(name, logits[i : i + 1], targets[i : i + 1])[0] for i in range(3)])
    assert torch.allclose(found, alone, atol=1e-6)
    found.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    told = functional.one_hot(targets.long().clamp(min=0), classes).movedim(-1, 1).float()
    assert (loss(name, 20 * told, targets) < 0.01).all()
    wrong = 20 * told.roll(1, dims=1)
    assert (loss(name, wrong, targets) > loss(name, told, targets)).all()
    elsewhere = 20 * told + 7 * torch.randn(told.shape) * (targets < 0).unsqueeze(1)
    assert torch.allclose(loss(name, elsewhere, targets), loss(name, 20 * told, targets), atol=1e-5)


@pytest.mark.parametrize("name", TWO)
def test_a_picture_of_ignored_pixels_alone_has_a_gradient_of_zero(name):
    logits = torch.randn(1, 2, 8, 8, requires_grad=True)
    found = loss(name, logits, torch.full((1, 8, 8), -1))
    assert found.tolist() == [0.0]
    found.sum().backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_structure_loss_is_what_its_papers_say():
    """Against the formula written out for one picture, nothing ignored."""
    logits, targets = drawn(2, batch=1)
    targets = targets.clamp(min=0)
    sized = functional.interpolate(logits, size=targets.shape[1:], mode="bilinear", align_corners=False)
    margin, truth = sized[:, 1] - sized[:, 0], targets.float()
    window = torch.ones(1, 1, 31, 31) / 31**2
    edges = 1 + 5 * (functional.conv2d(truth[None], window, padding=15)[0] - truth).abs()
    told = margin.sigmoid()
    entropy = -(truth * told.log() + (1 - truth) * (1 - told).log())
    inter, union = (told * truth * edges).sum(), ((told + truth) * edges).sum()
    want = (edges * entropy).sum() / edges.sum() + 1 - (inter + 1) / (union - inter + 1)
    assert loss("structure_loss", logits, targets).item() == pytest.approx(want.item(), abs=1e-5)
    assert torch.equal(loss("auto", logits, targets), loss("structure_loss", logits, targets))


def test_numbers_by_hand():
    # Two pixels of class 0, one of class 1, one ignored; p of the truth is 1/2 everywhere.
    targets, even = torch.tensor([[[0, 0], [1, -1]]]), torch.zeros(1, 2, 2, 2)
    half = torch.log(torch.tensor(2.0)).item()
    assert loss("balanced_bce", even, targets).item() == pytest.approx(half)
    assert loss("focal_loss", even, targets).item() == pytest.approx(half / 4)
    assert loss("focal_loss", even, targets, alpha=(3.0, 0.0), gamma=0.0).item() == pytest.approx(2 * half)
    # Dice: (2 * 1 + 1) / (2 + 1.5 + 1) of class 0, (2 * 0.5 + 1) / (1 + 1.5 + 1) of class 1.
    assert loss("dice_loss", even, targets).item() == pytest.approx(1 - (3 / 4.5 + 2 / 3.5) / 2)
    three = torch.zeros(1, 3, 2, 2)
    dice = 1 - ((4 / 3 + 1) / (2 + 1 + 1) + (2 / 3 + 1) / (1 + 1 + 1)) / 2
    assert loss("auto", three, targets).item() == pytest.approx(torch.log(torch.tensor(3.0)).item() + dice)
    told = torch.tensor([4.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    smooth = loss("auto", told, targets, smoothing=0.3) - loss("auto", told, targets)
    entropy = functional.cross_entropy(told[..., 0, 0].expand(3, 3), torch.tensor([0, 0, 1]), label_smoothing=0.3)
    plain = functional.cross_entropy(told[..., 0, 0].expand(3, 3), torch.tensor([0, 0, 1]))
    assert smooth.item() == pytest.approx((entropy - plain).item(), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "classes", "more", "words"),
    [
        ("structure_loss", 3, {}, "structure_loss is for two classes; 3 classes have auto, dice_loss, focal_loss"),
        ("bcewithlogitsloss", 2, {}, f"bcewithlogitsloss is not for semantic_segmentation; it has {', '.join(NAMES)}"),
        ("auto", 2, {"smoothing": 0.1}, "label_smoothing: auto of 2 classes has none; it is of cross-entropy"),
        ("focal_loss", 3, {"alpha": (1.0, 2.0)}, "focal_loss.alpha: 2 weights for 3 classes"),
    ],
)
def test_what_does_not_suit(name, classes, more, words):
    with pytest.raises(WrongInput, match=words):
        loss(name, *drawn(classes), **more)
