"""Masks through every step: prepared, trained, evaluated, dumped, and taken to other classes."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

from carryover.models.card import WEIGHTS
from carryover.models.export import find_model
from carryover.steps.dump_backbone import dump_backbone
from carryover.steps.prepare_data import prepare_data
from carryover.steps.train_ddp import train_ddp
from carryover.steps.transfer_train import transfer_train
from tests.conftest import CarryoverCli
from tests.support import processes
from tests.support.tiny_sam import save_tiny_sam
from tests.train.attempts import SMALL
from tests.train.test_segmentation import LORA, QUICK, drawings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STILL: dict[str, Any] = {**QUICK, "optimization.learning_rate": 1e-30, "optimization.max_steps": 1}


def words(keys: dict[str, Any]) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in {**SMALL, **keys}.items()]


def prepared(folder: Path, store: str, **drawn: Any) -> str:
    source = str(drawings(folder, count=20, **drawn))
    return prepare_data(source=[source], label="mask", store=store, problem_type="semantic_segmentation")["uri"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A Model of circles with adapters, its Backbone, and data of circles and squares."""
    folder = tmp_path_factory.mktemp("sam")
    store = str(folder / "store")
    place = save_tiny_sam(folder / "sam")
    keys = {**QUICK, **LORA, "optimization.max_epochs": 1, "model.sam.checkpoint_name": str(place)}
    circles = prepared(folder / "circles", store)
    model = train_ddp(dataset=circles, store=store, overrides=words(keys))
    backbone = dump_backbone(model=model["uri"], store=store)
    # What it was made of is gone: it is all in the Model and in the Backbone.
    shutil.rmtree(place)
    both = prepared(folder / "both", store, squares=True, seed=1)
    return {"store": store, "model": model, "backbone": backbone, "both": both, "circles": circles}


def weights(uri: str) -> dict[str, torch.Tensor]:
    return load_file(Path(find_model(uri).folder.uri) / WEIGHTS)


def test_two_ranks_killed_outright_end_with_the_same_bits(tmp_path: Path, carryover_cli: CarryoverCli) -> None:
    data, place = prepared(tmp_path / "drawn", str(tmp_path / "data")), save_tiny_sam(tmp_path / "sam")
    keys = {**QUICK, **LORA, "model.sam.checkpoint_name": str(place), "checkpoint.every_steps": 1}
    keys |= {"optimization.max_epochs": 3}
    sets = [word for text in words(keys) for word in ("--set", text)]

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


def begun(source: str, trained: dict[str, Any], *, strict: bool = True, **keys: Any) -> dict[str, torch.Tensor]:
    """Return the weights that a task of circles and squares begins with."""
    settings = {"dataset": trained["both"], "store": trained["store"], "strict": strict}
    result = transfer_train(backbone=source, overrides=words({**STILL, **keys}), **settings)
    return load_file(Path(find_model(result["uri"]).folder.uri) / WEIGHTS)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    # A step of 1e-30 shows in what is 0.
    return torch.allclose(one, other, rtol=0, atol=1e-20)


def test_a_backbone_and_a_model_begin_a_task_of_other_classes(trained: dict[str, Any], tmp_path: Path) -> None:
    """All but the head is what was trained, adapters merged; the head has three masks, and begins as SAM's first."""
    folder = Path(trained["backbone"]["uri"]) / "sam"
    dumped: Any = hf.SamModel.from_pretrained(folder)
    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    for source in (trained["backbone"]["uri"], trained["model"]["uri"], str(plain)):
        found = begun(source, trained)
        for name, value in dumped.state_dict().items():
            assert same(found[f"sam.model.{name}"], value), (source, name)
        decoder, tokens = dumped.mask_decoder, found["sam.head.mask_tokens"]
        assert tokens.shape == (3, 32)
        assert (tokens - decoder.mask_tokens.weight[0]).abs().max() < 0.1
        first = decoder.output_hypernetworks_mlps[0].proj_in.weight
        assert same(found["sam.head.mlps.0.weight"], first.expand(3, -1, -1))
    small = begun(str(plain), trained, strict=False, **{"model.sam.image_size": 32})
    assert small["sam.model.vision_encoder.pos_embed"].shape == (1, 4, 4, 32)
    assert same(small["sam.model.vision_encoder.neck.conv1.weight"], dumped.vision_encoder.neck.conv1.weight)
