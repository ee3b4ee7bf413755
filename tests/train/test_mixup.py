"""Mixed images: shares and targets agree, a gap is never mixed in, and a resumed run mixes as it would have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carryover.data.loader import Batch, Micro
from carryover.data.mixup import MixupConfig
from carryover.ground.errors import WrongInput
from carryover.models.family import Outputs
from carryover.tasks.classification import ClassificationTask
from carryover.tasks.regression import RegressionTask
from carryover.train.mixup import Mixing
from carryover.train.sections import Optimization
from tests.train.attempts import Killed, Run
from tests.train.test_families import CASES, SMALL, prepared

CLASSES = 3


def batch(counts: list[int], *, epoch: int = 0, place: int = 0, side: int = 32) -> Batch:
    """Return rows whose images are all of one grey, 10 times the row's number and 10, in two branches."""
    rows = len(counts)
    grey = torch.arange(1, rows + 1, dtype=torch.uint8).view(-1, 1, 1, 1, 1) * 10
    there = (torch.arange(2) < torch.tensor(counts).unsqueeze(1)).view(rows, 2, 1, 1, 1)
    features = {
        f"{name}/{what}": value
        for name, size in (("big", side), ("small", side // 2))
        for what, value in (
            ("pixels", (grey * there).expand(rows, 2, 3, size, size)),
            ("count", torch.tensor(counts)),
        )
    }
    targets = torch.arange(rows) % CLASSES
    return Batch(Micro(epoch, 0, rows, place, rows, True, True, 0), features, targets, np.arange(rows))


def mixing(**config: Any) -> Mixing:
    return Mixing(MixupConfig(turn_on=True, **{"label_smoothing": 0.0, **config}), classes=CLASSES, seed=5)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("alphas", [(0.8, 0.0, None), (0.0, 1.0, None), (0.8, 1.0, None), (0.0, 0.0, (0.3, 0.8))])
@pytest.mark.parametrize("rows", [6, 7])
def test_label_share_is_the_share_of_the_pixels(mode: str, alphas: Any, rows: int) -> None:
    mixup, cutmix, sides = alphas
    made = mixing(mode=mode, mixup_alpha=mixup, cutmix_alpha=cutmix, cutmix_minmax=sides)
    moved = 0
    for step in range(20):
        plain = batch([1] * rows)
        features, targets = made(plain, step)
        for row in range(rows):
            pair = rows - 1 - row
            mean = features["big/pixels"][row, 0].mean().item()
            own, other = 10.0 * (row + 1), 10.0 * (pair + 1)
            share = 1.0 if row == pair else (mean - other) / (own - other)
            expected = torch.zeros(CLASSES)
            expected[plain.targets[row]] += share
            expected[plain.targets[pair]] += 1 - share
            torch.testing.assert_close(targets[row], expected, atol=1e-4, rtol=0)
            small = features["small/pixels"][row, 0].mean().item()
            assert small == pytest.approx(mean, abs=abs(own - other) * 0.1)
            moved += 0.01 < share < 0.99
    assert moved > 20


def test_shares_follow_beta_of_alpha() -> None:
    made = mixing(mixup_alpha=0.4, cutmix_alpha=0.0)
    shares = np.array([made(batch([1, 1], side=2), step)[1][0, 0].item() for step in range(1500)])
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert shares.mean() == pytest.approx(0.5, abs=0.04)
    assert shares.var() == pytest.approx(1 / (4 * 1.8), abs=0.01)


def test_an_image_is_never_mixed_with_a_gap() -> None:
    counts = [1, 2, 0, 0, 1, 1]
    plain = batch(counts)
    features, targets = mixing(mixup_alpha=5.0, cutmix_alpha=0.0)(plain, 0)
    changed = [not torch.equal(features["big/pixels"][row], plain.features["big/pixels"][row]) for row in range(6)]
    # Pairs are (0, 5), (1, 4) and (2, 3): one image each, two and one, none.
    assert changed == [True, False, False, False, False, True]
    assert ((targets.max(dim=1).values < 1) == torch.tensor(changed)).all()


def test_draws_are_of_seed_step_and_place_and_end_with_their_epochs() -> None:
    made = mixing(turn_off_epoch=2, label_smoothing=0.3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # pyright: ignore[reportArgumentType,reportCallIssue,reportIndexIssue]
    first = made(batch([1] * 4), 3)[1]
    assert torch.equal(first, made(batch([1] * 4), 3)[1])
    assert not torch.equal(first, made(batch([1] * 4), 4)[1])
    assert not torch.equal(first, made(batch([1] * 4, place=1), 3)[1])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # pyright: ignore[reportArgumentType,reportCallIssue,reportIndexIssue]
    later = batch([1] * 4, epoch=2)
    features, targets = made(later, 3)
    assert torch.equal(features["big/pixels"], later.features["big/pixels"])
    assert targets[0].tolist() == pytest.approx([0.8, 0.1, 0.1])


def test_killed_run_goes_on_with_the_same_mixes(tmp_path: Path) -> None:
    case = CASES["timm_image"]
    card = prepared(case, tmp_path)
    settings = {**case.recipe(tmp_path), **SMALL, "data.mixup.turn_on": True, "data.mixup.turn_off_epoch": 1}
    whole = Run(card, str(tmp_path / "whole"), settings, tmp_path / "scratch")
    whole.go()
    cut = Run(card, str(tmp_path / "cut"), settings, tmp_path / "scratch")
    with pytest.raises(Killed):
        cut.go(kill_after=4)
    cut.go()
    assert cut.tensors() == whole.tensors()
    assert [line["loss"] for line in cut.curve() if "loss" in line][-3:] == [
        line["loss"] for line in whole.curve() if "loss" in line
    ][-3:]


def test_what_has_no_place_for_mixed_labels_says_so() -> None:
    with pytest.raises(WrongInput, match=r"turn_on: True is not possible.*mixup_alpha or cutmix_alpha"):
        MixupConfig(turn_on=True, mixup_alpha=0.0, cutmix_alpha=0.0)
    with pytest.raises(WrongInput, match=r"data\.mixup\.turn_on: the model reads no image"):
        MixupConfig(turn_on=True).check_columns([])
    task = ClassificationTask("binary", "y", ("a", "b"), 1)
    with pytest.raises(WrongInput, match=r"data\.mixup\.turn_on: labels of regression can't be mixed"):
        Optimization().loss(RegressionTask("y", 0.0, 1.0), mixed=True)
    with pytest.raises(WrongInput, match=r"data\.mixup\.turn_on: focal_loss has no place for mixed labels"):
        Optimization(loss_func="focal_loss").loss(task, mixed=True)
    with pytest.raises(WrongInput, match=r"label_smoothing: 0\.1 is not possible.*give data\.mixup\.label_smoothing"):
        Optimization(label_smoothing=0.1).loss(task, mixed=True)


def test_loss_of_mixed_labels_is_the_mix_of_two_losses() -> None:
    task = ClassificationTask("multiclass", "y", ("a", "b", "c"), None)
    logits, auxiliary = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.ones(4, 3)
    outputs = Outputs(logits, ((0.5, auxiliary),))
    plain, share = batch([1] * 4), 0.3
    one, other = (task.loss(outputs, targets) for targets in (plain.targets, plain.targets.flip(0)))
    mixed = torch.nn.functional.one_hot(plain.targets, CLASSES) * share
    mixed = mixed + torch.nn.functional.one_hot(plain.targets.flip(0), CLASSES) * (1 - share)
    loss = Optimization().loss(task, mixed=True)(outputs, mixed)
    torch.testing.assert_close(loss, share * one + (1 - share) * other)
