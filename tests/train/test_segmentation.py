"""SAM in whole runs: it learns drawn shapes, ends with the same bits when killed, and goes on as Model and Backbone."""

import random
from pathlib import Path
from typing import Any

import pytest

from carryover.data.manifest import DatasetCard, load_card
from carryover.steps.prepare_data import prepare_data
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
