"""Detectors start from others: Backbones, Models, AutoMM's and mmdet's files; heads keep what has no classes."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from carryover.data.manifest import DatasetCard, load_card
from carryover.models.export import find_model, load_model
from carryover.steps.dump_backbone import dump_backbone
from carryover.steps.prepare_data import prepare_data
from carryover.steps.train_ddp import train_ddp
from carryover.steps.transfer_train import transfer_train
from tests.support.tiny_mmdet import write_config, write_drawings
from tests.train.attempts import Run
from tests.train.test_detection import QUICK

SHORT = {**QUICK, "optimization.max_epochs": 1, "env.num_workers": 0, "env.num_workers_evaluation": 0}
CLASSES = "detector.bbox_head.multi_level_conv_cls."


def prepared(folder: Path, names: tuple[str, ...], *, store: Path, **more: Any) -> DatasetCard:
    boxes = write_drawings(folder, count=12, names=names, seed=len(names))
    return load_card(prepare_data(source=[str(boxes)], store=str(store), **more)["uri"])


def settings(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in values.items()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A detector of two colours, trained for an epoch."""
    folder = tmp_path_factory.mktemp("detector")
    config = write_config(folder / "config" / "config.py")
    card = prepared(folder / "drawn", ("red", "blue"), store=folder / "store")
    values = {**SHORT, "model.mmdet_image.checkpoint_name": str(config.parent)}
    run = Run(card, str(folder / "store"), values, folder / "scratch")
    run.go()
    return run


def weights(source: str, store: str, *, classes: int) -> dict[str, torch.Tensor]:
    network = load_model(find_model(source, store=store), num_outputs=classes).network
    return {name.removeprefix("mmdet_image."): value for name, value in network.state_dict().items()}


def source_of(form: str, run: Run, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return what --backbone is given, and the keys that it needs beside."""
    if form == "model":
        return "run:run", {}
    place = Path(dump_backbone(model="run:run", store=run.store, output=str(folder / "out"))["uri"])
    if form == "backbone":
        return str(place), {}
    plain = Path(shutil.copytree(place / "mmdet_image", folder / "dumped" / "mmdet_image"))
    if form == "automm":
        return str(plain.parent), {}
    config = {"model.mmdet_image.checkpoint_name": str(write_config(folder / "own" / "config.py").parent)}
    return str(plain / "model.pth"), config


@pytest.mark.slow
@pytest.mark.parametrize("form", ["backbone", "model", "automm", "file"])
def test_a_detector_of_other_classes_starts_from_it(form: str, trained: Run, tmp_path: Path) -> None:
    source, more = source_of(form, trained, tmp_path)
    card = prepared(tmp_path / "drawn", ("blue", "green", "red"), store=Path(trained.store))
    values = {**SHORT, "optimization.learning_rate": 1e-12, **more}
    del values["model.mmdet_image.pretrained"]
    if form == "file":
        values["model.mmdet_image.pretrained"] = False
    made = transfer_train(
        backbone=source,
        dataset=card.at,
        store=trained.store,
        output=str(tmp_path / form),
        strict=True,
        overrides=settings(values),
    )
    old = weights("run:run", trained.store, classes=2)
    new = weights(made["uri"], trained.store, classes=3)
    assert old.keys() == new.keys()
    other = {name for name in old if old[name].shape != new[name].shape}
    assert {name[: len(CLASSES)] for name in other} == {CLASSES}
    learned = [name for name in old if name not in other and "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in learned)


@pytest.mark.slow
def test_it_learns_a_class_more(trained: Run, tmp_path: Path) -> None:
    card = prepared(
        tmp_path / "drawn",
        ("red", "blue", "green"),
        store=Path(trained.store),
        schema_from="run:run",
        grow_classes=True,
    )
    values = {**SHORT, "optimization.learning_rate": 1e-12}
    del values["model.mmdet_image.pretrained"]
    made = train_ddp(
        dataset=card.at, store=trained.store, output=str(tmp_path / "grown"), init_from="run:run", grow_classes=True,
        overrides=settings({name: value for name, value in values.items() if not name.startswith("model.")}),
    )  # fmt: skip
    old = weights("run:run", trained.store, classes=2)
    new = weights(made["uri"], trained.store, classes=3)
    first = f"{CLASSES}0.weight"
    assert torch.allclose(new[first][:2], old[first], atol=1e-6)
    model = load_model(find_model(made["uri"]), num_outputs=3)
    branch: Any = model.preprocessing.branches["mmdet_image"]
    assert branch.classes == ("red", "blue", "green")
