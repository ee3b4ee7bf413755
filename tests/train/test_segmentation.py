"""SAM in whole runs: it learns drawn shapes, ends with the same bits when killed, and goes on as Model and Backbone."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carryover.data.manifest import DatasetCard, load_card
from carryover.ground.errors import WrongInput
from carryover.models.family import Outputs
from carryover.steps.prepare_data import prepare_data
from carryover.tasks.classification import ClassificationTask
from carryover.tasks.segmentation import SegmentationTask
from carryover.train.distiller import DistillerConfig
from carryover.train.pull import _surprise  # pyright: ignore[reportPrivateUsage]
from carryover.train.remedy import RemedyConfig
from carryover.train.teacher import DistilledLoss, Lesson
from tests.support.tiny_sam import drawing, save_tiny_sam
from tests.train.attempts import Killed, Run
from tests.train.test_families import check_model, check_two_ranks

QUICK: dict[str, Any] = {
    "model.sam.train_transforms": ["random_horizontal_flip", "color_jitter"],
    "optimization.learning_rate": 3e-3,
    "optimization.lr_choice": "",
    "optimization.max_epochs": 2,
    "optimization.log_every_n_steps": 1,
    "optimization.top_k_average_method": "best",
    "optimization.val_check_interval": 1.0,
    "checkpoint.every_steps": 2,
    "checkpoint.keep_last": 100,
    "env.batch_size": 4,
    "env.per_gpu_batch_size": 2,
}
LORA: dict[str, Any] = {
    "optimization.peft": "lora",
    "optimization.lora.r": 3,
    "optimization.lora.alpha": 32,
    "optimization.lora.filter": ["q", "v"],
    "optimization.lora.module_filter": [".*vision_encoder.*attn"],
    "optimization.extra_trainable_params": [".*mask_decoder"],
}


def drawings(folder: Path, *, count: int = 32, squares: bool = False, seed: int = 0) -> Path:
    """Write pictures of some sizes with their masks, and the table that names both."""
    folder.mkdir(parents=True, exist_ok=True)
    chance, lines = random.Random(seed), ["picture,mask"]
    for row in range(count):
        picture, mask = drawing(chance, size=chance.choice([(72, 60), (64, 64), (60, 80)]), squares=squares)
        (folder / f"{row}.png").write_bytes(picture)
        (folder / f"{row}-mask.png").write_bytes(mask)
        lines.append(f"{row}.png,{row}-mask.png")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return folder / "rows.csv"


def prepared(folder: Path, **drawn: Any) -> DatasetCard:
    result = prepare_data(
        source=[str(drawings(folder / "drawn", **drawn))],
        label="mask",
        store=str(folder / "store"),
        problem_type="semantic_segmentation",
        train_fraction=0.7,
        validation_fraction=0.2,
    )
    return load_card(result["uri"])


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    return {**QUICK, "model.sam.checkpoint_name": str(save_tiny_sam(folder / "sam")), **more}


def scores(run: Run) -> list[float]:
    return [line["val_iou"] for line in run.curve() if "val_iou" in line]


@pytest.mark.parametrize("lora", [False, True])
def test_killed_in_the_middle_of_an_epoch_it_ends_with_the_same_bits_and_a_whole_model(tmp_path: Path, lora: bool):
    card = prepared(tmp_path)
    values = settings(tmp_path / "checkpoints", **(LORA if lora else {}))
    straight = Run(card, str(tmp_path / "straight"), values, tmp_path / "one")
    broken = Run(card, str(tmp_path / "broken"), values, tmp_path / "two")
    straight.go()
    for _ in range(2):
        with pytest.raises(Killed):
            broken.go(kill_after=3)
    # From here on no checkpoint's folder is needed: not to resume, not for the Model.
    (tmp_path / "checkpoints").rename(tmp_path / "gone")
    broken.go()
    assert broken.finish().body["metrics"]["steps"] >= 8
    assert broken.tensors() == straight.tensors()
    assert broken.finish().body["model"] == straight.finish().body["model"]
    check_model(broken, tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("squares", [False, True])
def test_it_learns_circles_and_squares(tmp_path: Path, squares: bool):
    card = prepared(tmp_path, squares=squares, count=64)
    assert card.schema.classes == ((0, 1, 2) if squares else (0, 1))
    run = Run(card, str(tmp_path / "run"), settings(tmp_path), tmp_path / "scratch")
    run.go(optimization__max_epochs=12)
    assert scores(run)[0] < 0.5
    assert scores(run)[-1] > 0.75


@pytest.mark.slow
def test_two_ranks_give_the_curve_of_one(tmp_path: Path):
    check_two_ranks(prepared(tmp_path, squares=True), settings(tmp_path), tmp_path)


def test_a_teacher_of_pixels_teaches_each_of_them():
    """Against the loss of each pixel as a row of its own; a teacher of larger squares is brought to ours."""
    task = SegmentationTask("mask", (0, 1, 2))
    chance = torch.Generator().manual_seed(0)
    logits, answers = (torch.randn(2, 3, 4, 5, generator=chance) for _ in range(2))
    targets = torch.zeros(2, 4, 5, dtype=torch.int16)
    for kind in ("cross_entropy", "mse"):
        config = DistillerConfig(teacher="t", hard_label_weight=0.0, soft_label_loss_type=kind, temperature=3.0)
        found = DistilledLoss(task.loss, config, task)(Outputs(logits), Lesson(targets, answers))
        rows = ClassificationTask("multiclass", "y", ("a", "b", "c"), None)
        flat = [part.movedim(1, -1).reshape(-1, 3) for part in (logits, answers)]
        each = DistilledLoss(rows.loss, config, rows)(Outputs(flat[0]), Lesson(torch.zeros(40).long(), flat[1]))
        assert torch.allclose(found, each.view(2, 20).mean(dim=1), atol=1e-6)
        wide = answers.repeat_interleave(2, 2).repeat_interleave(2, 3)
        again = DistilledLoss(task.loss, config, task)(Outputs(logits), Lesson(targets, wide))
        assert torch.allclose(found, again, atol=1e-6)


def test_the_information_of_a_pixel_is_that_of_a_row():
    """A weight that is the margin of each pixel: p (1 - p), however many pixels there are."""
    task, chance = SegmentationTask("mask", (0, 1)), torch.Generator().manual_seed(0)
    for side in (1, 8):
        squares = []
        for _ in range(400):
            weight = torch.tensor(0.7, requires_grad=True)
            logits = torch.stack([torch.zeros(side, side), weight.expand(side, side)])[None]
            _surprise(logits, task, chance).backward()
            assert weight.grad is not None
            squares.append(weight.grad.item() ** 2)
        share = 1 / (1 + np.exp(-0.7))
        assert np.mean(squares) == pytest.approx(share * (1 - share), rel=0.2)


def test_a_detector_is_no_teacher_of_probabilities():
    for name, asked in {"ewc": RemedyConfig(ewc=1.0), "lwf": RemedyConfig(lwf=1.0)}.items():
        with pytest.raises(WrongInput, match=f"remedy.{name}: needs probabilities, and a detector gives boxes"):
            asked.check_problem("object_detection")
        asked.check_problem("semantic_segmentation")
    RemedyConfig(l2_sp=1.0, wise_ft=0.5).check_problem("object_detection")
