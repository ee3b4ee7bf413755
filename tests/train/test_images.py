"""Trainings on images: BatchNorm through kills and over ranks, loader processes, rows that give way to others."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carryover.data.loader import MicroBatches, load, training_micros
from carryover.data.manifest import DatasetCard
from carryover.data.rows import Rows, materialise
from carryover.models.assembly import build_preprocessing, choose
from carryover.train import recipe as recipes
from tests.train.attempts import Killed, Run
from tests.train.test_families import CASES, SMALL, check_model, prepared, tiny_image

NORMED = {"optimization.top_k_average_method": "best"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    return prepared(CASES["timm_image"], tmp_path_factory.mktemp("photos"))


def runs(card: DatasetCard, folder: Path, **more: Any) -> list[Run]:
    values = {**SMALL, **NORMED, **tiny_image(folder / "checkpoints", "test_resnet"), **more}
    return [Run(card, str(folder / name / "store"), values, folder / name) for name in ("straight", "broken")]


@pytest.mark.parametrize("soup", ["best", "greedy_soup"])
def test_batch_norm_goes_on_where_it_stood(photos: DatasetCard, tmp_path: Path, soup: str) -> None:
    straight, broken = runs(photos, tmp_path, **{"optimization.top_k_average_method": soup})
    straight.go()
    for _ in range(2):
        with pytest.raises(Killed):
            broken.go(kill_after=3)
    broken.go()
    seen = broken.tensors()
    assert seen == straight.tensors()
    assert any(name.endswith("running_var") for name in seen)
    assert broken.finish().body["model"] == straight.finish().body["model"]


def test_a_model_with_batch_norm_is_whole(photos: DatasetCard, tmp_path: Path) -> None:
    straight, _ = runs(photos, tmp_path)
    straight.go()
    check_model(straight, tmp_path / "model")


def batches(card: DatasetCard, scratch: Path, *, workers: int, position: int = 0) -> list[dict[str, Any]]:
    """Return the rows and pixels of 8 micro-batches, over the end of an epoch."""
    recipe = recipes.make({**SMALL, **tiny_image(scratch / "checkpoints"), "model.timm_image.pretrained": False})
    preprocessing = build_preprocessing(choose(recipe.model, card.schema), card.schema, recipe.data)
    split = Rows.open(materialise(card, "train", scratch))
    source = MicroBatches(split, preprocessing, lambda rows: np.zeros(len(rows)), training=True, seed=5)
    micros = training_micros(rows=len(split), epoch=0, position=position, batch_size=16, micro_size=8, rank=0, world=1)
    first = [micro for micro, _ in zip(micros, range(10), strict=False)][-8:]
    return [{"rows": torch.from_numpy(batch.rows), **batch.features} for batch in load(first, source, workers=workers)]


def test_loader_processes_change_no_pixel(photos: DatasetCard, tmp_path: Path) -> None:
    alone = batches(photos, tmp_path, workers=0)
    # Other random numbers were drawn in this process meanwhile.
    torch.rand(100)
    for workers in (0, 1, 4):
        again = batches(photos, tmp_path, workers=workers)
        assert all(torch.equal(one[name], two[name]) for one, two in zip(alone, again, strict=True) for name in one)
    later = batches(photos, tmp_path, workers=0, position=16)
    assert all(torch.equal(alone[2 + place][name], later[place][name]) for place in range(6) for name in alone[0])
    names = sorted(alone[0])
    assert names == ["rows", "timm_image/count", "timm_image/pixels"]


def test_rows_without_their_image_give_way_in_training(photos: DatasetCard, tmp_path: Path) -> None:
    seen = {}
    for strategy in ("zero", "skip"):
        more = {"data.image.missing_value_strategy": strategy, "data.record_samples": True}
        run, _ = runs(photos, tmp_path / strategy, **more, **{"optimization.max_epochs": 1})
        run.go()
        seen[strategy] = [row for _, _, rows in run.global_batches() for row in rows]
    split = Rows.open(materialise(photos, "train", tmp_path))
    table = split.take(np.arange(len(split))).to_pylist()
    whole = {row for row, value in enumerate(table) if all(all(value[name] or [None]) for name in ("front", "back"))}
    assert sorted(seen["zero"]) == list(range(len(split)))
    assert len(seen["skip"]) == len(split)
    assert set(seen["skip"]) == whole
    assert whole < set(seen["zero"])


@pytest.mark.slow
def test_ranks_agree_on_batch_norm_when_they_validate(photos: DatasetCard, tmp_path: Path) -> None:
    straight, together = runs(photos, tmp_path)
    plan = {"spec": together.claim({}).as_json(), "stop_after": -1, "kill_after": -1}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [*torchrun, "-m", "tests.support.attempt_rank", str(tmp_path / "plan.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    # What the ranks found together is what one process finds with the weights that rank 0 stored.
    check_model(together, tmp_path / "model")
    straight.go()
    assert together.finish().body["metrics"]["steps"] == straight.finish().body["metrics"]["steps"]
