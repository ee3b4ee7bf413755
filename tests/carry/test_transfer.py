"""transfer-train from the command line: a fusion of text and image, dumped, moved, and taken to another task."""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from carryover.ground.errors import WrongInput
from carryover.models.card import WEIGHTS
from carryover.models.export import find_model
from carryover.steps.dump_backbone import dump_backbone
from carryover.steps.prepare_data import prepare_data
from carryover.steps.train_ddp import train_ddp
from carryover.steps.transfer_train import transfer_train
from tests.conftest import CarryoverCli
from tests.support.tiny_bert import save_tiny_bert
from tests.support.tiny_timm import photo, save_tiny_timm
from tests.train.attempts import SMALL

pytestmark = pytest.mark.slow

# Nothing moves: what a run begins with is what it ends with.
STILL = {**SMALL, "optimization.learning_rate": 1e-30, "optimization.max_steps": 1}


def words(keys: dict[str, Any]) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in keys.items()]


def flags(keys: dict[str, Any]) -> list[str]:
    return [word for text in words(keys) for word in ("--set", text)]


def table(path: Path, *, stars: bool, seed: int) -> str:
    """Write texts and images with a class or a number; returns the path."""
    chance = random.Random(seed)
    liked = [chance.random() < 0.5 for _ in range(60)]
    said = [" ".join(chance.choices(["good", "love"] if yes else ["bad", "hate"], k=4)) for yes in liked]
    seen = [photo(chance, yes) for yes in liked]
    label: list[Any] = [1.5 + 2 * yes + chance.random() for yes in liked] if stars else ["ny"[yes] for yes in liked]
    pq.write_table(pa.table({"said": said, "seen": seen, "label": label}), path)
    return str(path)


@dataclass(frozen=True)
class Trained:
    """A fusion that was trained, its Backbone, and the data of another task."""

    folder: Path
    model: dict[str, Any]
    backbone: dict[str, Any]
    stars: str

    @property
    def store(self) -> str:
        return str(self.folder / "store")

    def begin(self, backbone: str, keys: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        settings = {"dataset": self.stars, "store": self.store, **more}
        return transfer_train(backbone=backbone, overrides=words({**STILL, **(keys or {})}), **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    store = str(folder / "store")
    types = {"said": "text", "seen": "image_bytes"}
    data: list[dict[str, Any]] = []
    for name, stars in (("liked.parquet", False), ("stars.parquet", True)):
        source = table(folder / name, stars=stars, seed=stars)
        data.append(prepare_data(source=[source], label="label", store=store, column_types=types))
    keys = {
        **SMALL,
        "optimization.max_epochs": 1,
        "model.hf_text.checkpoint_name": str(save_tiny_bert(folder / "bert")),
        "model.timm_image.checkpoint_name": str(save_tiny_timm(folder / "vit", weights="model.safetensors")),
        "model.fusion_mlp.hidden_sizes": [8],
    }
    model = train_ddp(dataset=data[0]["uri"], store=store, overrides=words(keys))
    backbone = dump_backbone(model=model["uri"], store=store)
    # What it was made of is gone: it is all in the Model and in the Backbone.
    shutil.rmtree(folder / "bert")
    shutil.rmtree(folder / "vit")
    return Trained(folder, model, backbone, data[1]["uri"])


def encoders(uri: str) -> dict[str, torch.Tensor]:
    """Return the weights of a Model's two encoders."""
    weights = load_file(Path(find_model(uri).folder.uri) / WEIGHTS)
    return {name: value for name, value in weights.items() if name.startswith(("hf_text.enc", "timm_image.enc"))}


def same(one: str, other: str) -> bool:
    mine, theirs = encoders(one), encoders(other)
    return set(mine) == set(theirs) and all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_the_backbone_moved_and_its_makers_deleted(trained: Trained, tmp_path: Path) -> None:
    """One command, by hand: text and image through dump and transfer, from another place than it was dumped to."""
    moved, store = tmp_path / "moved", tmp_path / "store"
    shutil.copytree(trained.backbone["uri"], moved)
    shutil.copytree(trained.stars, store / "datasets" / Path(trained.stars).name)
    shutil.move(trained.store, trained.folder / "away")
    try:
        cli = CarryoverCli(tmp_path)
        data = store / "datasets" / Path(trained.stars).name
        command = ["transfer-train", "--backbone", moved, "--dataset", data, "--store", store, *flags(STILL)]
        ended = cli(*command, "--output", tmp_path / "out")
        assert ended.rc == 0, ended.stderr
        shutil.rmtree(moved)
        gone = cli(*command)
    finally:
        shutil.move(trained.folder / "away", trained.store)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert same(result["uri"], trained.model["uri"])
    assert "hf_text.encoder" in ended.stderr
    told = find_model(result["uri"]).card.parent
    assert told is not None
    assert (told["kind"], told["digest"]) == ("transfer", trained.backbone["digest"])
    assert told["transfer"] == result["transfer"]
    assert result["transfer"]["ignored"]["tensors"] == 0
    # A run that has begun needs the Backbone no more, and the error says which run that is.
    assert gone.rc == 2
    assert f"train-ddp --run-key {result['run_key']} goes on" in gone.stderr
    more = ["--run-key", result["run_key"], *flags({"optimization.max_steps": 2})]
    on = cli("train-ddp", "--dataset", data, "--store", store, *more)
    assert on.rc == 0, on.stderr


def test_a_model_and_its_backbone_give_the_same_start_and_are_two_runs(trained: Trained) -> None:
    shape = {"model.fusion_mlp.hidden_sizes": [8]}
    by_model, by_backbone = trained.begin(trained.model["uri"], shape), trained.begin(trained.backbone["uri"], shape)
    assert same(by_model["uri"], by_backbone["uri"])
    assert same(by_model["uri"], trained.model["uri"])
    assert by_model["run_key"] != by_backbone["run_key"]
    # Its word for it plays no part: run:KEY is the same Model, so it is the same run, finished.
    assert trained.begin(f"run:{trained.model['run_key']}", shape)["run_key"] == by_model["run_key"]
    whys = {fate.get("why") for fate in by_model["transfer"]["ignored"]["names"]}
    assert whys == {"the label or its classes are others"}
    # The new task's own: a number, scaled by its own data.
    assert find_model(by_model["uri"]).card.schema.problem_type == "regression"


def test_lora_of_the_new_task_goes_onto_what_was_taken(trained: Trained) -> None:
    result = trained.begin(trained.backbone["uri"], {"optimization.peft": "lora"})
    mine, theirs = encoders(result["uri"]), encoders(trained.model["uri"])
    base = {name.replace(".base_layer", ""): value for name, value in mine.items() if "lora_" not in name}
    assert len(base) < len(mine)
    assert all(torch.equal(value, theirs[name]) for name, value in base.items())


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a gap": ({"strict": True}, {}, r"--strict: .* leaves gaps: new .*fusion_mlp\.adapter"),
    "random weights": ({}, {"model.hf_text.pretrained": False}, "asks for random weights, and the source has weights"),
    "a run from elsewhere": ({"run_key": "MODEL"}, {}, r"not on .*can't change its data"),
    "no source": ({"backbone": ""}, {}, "--backbone: empty"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_said(what: str, trained: Trained) -> None:
    more, keys, message = WRONG[what]
    more = {name: trained.model["run_key"] if value == "MODEL" else value for name, value in more.items()}
    with pytest.raises(WrongInput, match=message):
        trained.begin(**{"backbone": trained.backbone["uri"], "keys": keys, **more})


def test_a_bare_state_dict_has_to_be_named(trained: Trained, tmp_path: Path) -> None:
    weights = load_file(Path(trained.backbone["uri"]) / "hf_text" / "model.safetensors")
    save_file(weights, tmp_path / "bare.safetensors")
    with pytest.raises(WrongInput, match=r"name the checkpoint .* model\.hf_text\.checkpoint_name"):
        trained.begin(str(tmp_path / "bare.safetensors"))


def test_nothing_loaded_ends_the_run_before_it_begins(trained: Trained, tmp_path: Path) -> None:
    save_file({"other.weight": torch.ones(2, 2)}, tmp_path / "bare.safetensors")
    named = {
        "model.hf_text.checkpoint_name": f"{trained.backbone['uri']}/hf_text",
        "model.names": ["hf_text"],
    }
    with pytest.raises(WrongInput, match="nothing in it fits the new model"):
        trained.begin(str(tmp_path / "bare.safetensors"), named)
