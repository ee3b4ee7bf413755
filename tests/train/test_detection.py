"""Detectors of mmdet in whole runs: killed they end with the same bits, and mmdet alone opens what they became."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from carryover.carry.backbone import find_backbone
from carryover.data.manifest import DatasetCard, load_card
from carryover.models.export import find_model, load_model
from carryover.steps.dump_backbone import dump_backbone
from carryover.steps.prepare_data import prepare_data
from tests.conftest import CarryoverCli
from tests.support import processes
from tests.support.tiny_mmdet import write_config, write_drawings
from tests.train.attempts import SMALL, Killed, Run
from tests.train.test_families import check_model, check_two_ranks

QUICK: dict[str, Any] = {
    "model.mmdet_image.pretrained": False,
    "model.mmdet_image.train_transforms": ["random_zoom_out(1.5)", "random_crop(0.7)", "random_horizontal_flip"],
    "optimization.learning_rate": 1e-3,
    "optimization.lr_choice": "two_stages",
    "optimization.lr_mult": 10,
    "optimization.log_every_n_steps": 1,
    "optimization.max_epochs": 2,
    "optimization.top_k_average_method": "best",
    "optimization.val_check_interval": 1.0,
    "checkpoint.every_steps": 2,
    "env.batch_size": 4,
    "env.per_gpu_batch_size": 2,
}


def prepared(folder: Path, **drawn: Any) -> DatasetCard:
    boxes = write_drawings(folder / "drawn", **drawn)
    made = prepare_data(source=[str(boxes)], store=str(folder / "store"), train_fraction=0.7, validation_fraction=0.2)
    return load_card(made["uri"])


def settings(folder: Path, name: str = "yolox", **more: Any) -> dict[str, Any]:
    config = write_config(folder / name / "config.py", name)
    return {**QUICK, "model.mmdet_image.checkpoint_name": str(config.parent), **more}


def png(picture: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "PNG")
    return sink.getvalue()


@pytest.mark.parametrize("name", ["yolox", pytest.param("retina", marks=pytest.mark.slow)])
def test_killed_in_the_middle_of_an_epoch_it_ends_with_the_same_bits_and_mmdet_opens_it(name: str, tmp_path: Path):
    card = prepared(tmp_path, count=16)
    values = settings(tmp_path / "configs", name)
    straight = Run(card, str(tmp_path / "straight"), values, tmp_path / "one")
    broken = Run(card, str(tmp_path / "broken"), values, tmp_path / "two")
    straight.go()
    with pytest.raises(Killed):
        broken.go(kill_after=3)
    # From here on no config is needed: not to resume, not for the Model.
    shutil.rmtree(tmp_path / "configs")
    broken.go()
    assert broken.tensors() == straight.tensors()
    assert broken.finish().body["model"] == straight.finish().body["model"]
    check_model(broken, tmp_path / "model")
    check_mmdet_finds_the_same(broken, tmp_path)


def check_mmdet_finds_the_same(run: Run, folder: Path) -> None:
    """From files of pictures on, mmdet alone finds the boxes of the Model."""
    from mmdet.apis import inference_detector, init_detector

    made = dump_backbone(model="run:run", store=run.store, output=str(folder / "out"))
    again = dump_backbone(model="run:run", store=run.store, output=str(folder / "again"))
    assert again["digest"] == made["digest"]
    place = find_backbone(made["uri"]).fetch("mmdet_image", folder / "moved")
    # Tensors and text, and nothing that runs when it is read.
    assert torch.load(place / "model.pth", weights_only=True)["meta"]["CLASSES"] == ("red", "blue")
    detector: Any = init_detector(str(place / "config.py"), str(place / "model.pth"), device="cpu")
    assert detector.dataset_meta["classes"] == ("red", "blue")
    model = load_model(find_model("run:run", store=run.store), num_outputs=2)
    branch, preprocess = model.network.get_submodule("mmdet_image"), model.preprocessing.branches["mmdet_image"]
    for seed, size in enumerate([(64, 64), (90, 50), (31, 77)]):
        picture = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        rows = pa.table({"image": pa.array([[png(picture)]], pa.list_(pa.binary()))})
        arrays = preprocess(rows, training=False, keys=np.zeros(1, np.uint64))
        with torch.no_grad():
            found = branch({key: torch.from_numpy(value) for key, value in arrays.items()}).logits[0]
        told: Any = inference_detector(detector, np.ascontiguousarray(picture[:, :, ::-1]))
        said = told.pred_instances
        count = min(len(said), len(found))
        assert count >= 10
        order = torch.argsort(said.scores, descending=True, stable=True)[:count]
        want = torch.cat([said.bboxes[order], said.scores[order, None], said.labels[order, None].float()], dim=1)
        assert torch.allclose(found[:count], want, atol=1e-4)


@pytest.mark.slow
def test_two_ranks_learn_from_all_pictures_without_asking_each_other(tmp_path: Path):
    """(BatchNorm in evaluation mode, so that the curve is that of one rank.)"""
    check_two_ranks(prepared(tmp_path, count=40), settings(tmp_path, "retina"), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_ranks_killed_outright_end_with_the_same_bits(tmp_path: Path, carryover_cli: CarryoverCli) -> None:
    """With BatchNorm in training mode: its statistics are part of the bits."""
    data = prepared(tmp_path, count=16).at
    keys = {**SMALL, **settings(tmp_path / "configs"), "checkpoint.every_steps": 1}
    sets = [word for name, value in keys.items() for word in ("--set", f"{name}={json.dumps(value)}")]

    def command(store: Path) -> list[str]:
        where = ["--dataset", data, "--store", store, "--output", store / "out"]
        return carryover_cli.command("train-ddp", *where, "--nproc-per-node", 2, *sets)

    def finished(store: Path) -> str:
        ended = processes.start(command(store), said=tmp_path / f"{store.name}.txt", cwd=tmp_path)
        assert ended.process.wait(timeout=400) == 0, ended.text()[-3000:]
        return json.loads((store / "out" / "result.json").read_text())["digest"]

    killed = processes.start(command(tmp_path / "killed"), said=tmp_path / "first.txt", cwd=tmp_path)
    # Not every step is committed: one that comes while a save is on its way is not.
    assert killed.wait_until(lambda: bool(re.search(r"committed step [2-9] ", killed.text())), timeout=400)
    killed.kill()
    assert finished(tmp_path / "killed") == finished(tmp_path / "straight")


@pytest.mark.slow
def test_it_finds_drawn_squares(tmp_path: Path) -> None:
    run = Run(prepared(tmp_path, count=80), str(tmp_path / "run"), settings(tmp_path), tmp_path / "scratch")
    run.go(optimization__max_epochs=12, optimization__lr_mult=1, optimization__learning_rate=3e-3)
    scores = [line["val_map"] for line in run.curve() if "val_map" in line]
    assert scores[0] < 0.1
    assert max(scores) > 0.3
