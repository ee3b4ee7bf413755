"""checkpoint import and export: another trainer's file, made of a run of ours, goes on to the same bits as that run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from carryover.carry.tables import FILE
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.snapshot import restore
from carryover.data.manifest import DatasetCard
from carryover.ground.errors import WrongInput
from carryover.ground.storage import open_store
from carryover.models.card import WEIGHTS
from carryover.models.export import find_model
from carryover.steps.checkpoint_export import export_checkpoint
from carryover.steps.checkpoint_import import import_checkpoint
from carryover.steps.train_ddp import train_ddp
from tests.conftest import CarryoverCli
from tests.train.attempts import SMALL, dataset

# One rate from first to last, and the last weights: how far a run is planned then changes nothing of what it did.
KEYS = {
    **SMALL,
    "optimization.lr_schedule": "constant",
    "optimization.warmup_steps": 0,
    "optimization.top_k_average_method": "best",
    "optimization.top_k": 1,
    "optimization.patience": 1000,
}


def words(**changes: Any) -> list[str]:
    keys = {**KEYS, **{name.replace("__", "."): value for name, value in changes.items()}}
    return [f"{name}={value}" for name, value in keys.items()]


@dataclass(frozen=True)
class Half:
    """A run of one epoch, in a store of its own, as the guide's file."""

    card: DatasetCard
    store: str
    file: str
    result: dict[str, Any]

    def bring(self, file: str, store: Path, **flags: Any) -> dict[str, Any]:
        overrides = words(optimization__max_epochs=2)
        return import_checkpoint(file, dataset=self.card.at, store=str(store), overrides=overrides, **flags)


def as_the_guide(uri: str) -> dict[str, Any]:
    """The newest commit of a run as the resume guide's script would have saved it, with a new torch's optimizer."""
    loaded = RunHome.at(uri).load_newest()
    assert loaded is not None
    weights = {n.removeprefix("model/"): value for n, value in restore(loaded.tensors("model/")).items()}
    kept: dict[str, dict[str, Any]] = {}
    for full, value in restore(loaded.tensors("optim/")).items():
        name, _, what = full.removeprefix("optim/").rpartition("/")
        kept.setdefault(name, {})[what] = value
    names = [name for name in weights if name in kept]
    group = {"lr": 0.1, "params": list(range(len(names))), "param_names": names}
    return {
        "epoch": loaded.record.state["epoch"] - 1,
        "global_step": loaded.record.step,
        "model_state_dict": weights,
        "optimizer_state_dict": {"state": {n: kept[name] for n, name in enumerate(names)}, "param_groups": [group]},
        "best_val": 0.5,
        "val_loss": 0.3,
        "scaler_state_dict": None,
        "config": {},
    }


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Half:
    folder = tmp_path_factory.mktemp("half")
    card, store = dataset(folder), str(folder / "store")
    result = train_ddp(dataset=card.at, store=store, overrides=words(optimization__max_epochs=1))
    torch.save(as_the_guide(result["checkpoint_uri"]), folder / "half.pt")
    return Half(card, store, str(folder / "half.pt"), result)


@pytest.mark.slow
def test_a_run_that_left_and_came_back_ends_with_the_bits_of_one_that_stayed(half: Half, tmp_path: Path) -> None:
    ended = CarryoverCli(tmp_path)(
        "checkpoint", "import", half.file, "--dataset", half.card.at, "--store", tmp_path / "store",
        *[word for text in words(optimization__max_epochs=2) for word in ("--set", text)],
    )  # fmt: skip
    assert ended.rc == 0, ended.stderr
    told = dict(line.split(": ", 1) for line in ended.stdout.splitlines())
    assert (told["epoch"], told["step"]) == ("1", str(half.result["step_count"]))
    came = train_ddp(dataset=half.card.at, store=str(tmp_path / "store"), run_key=told["run_key"])
    stayed = train_ddp(dataset=half.card.at, store=str(tmp_path / "other"), overrides=words(optimization__max_epochs=2))
    assert came["step_count"] == stayed["step_count"] == 2 * half.result["step_count"]
    one, other = (RunHome.at(run["checkpoint_uri"]).load_newest() for run in (came, stayed))
    assert one is not None and other is not None
    mine, theirs = ({name: bytes(raw.data) for name, raw in each.tensors().items()} for each in (one, other))
    assert mine == theirs
    assert find_model(came["uri"]).card.parent is not None


def test_weights_that_left_are_read_back(half: Half, tmp_path: Path) -> None:
    weights, file = load_file(Path(find_model(half.result["uri"]).folder.uri) / WEIGHTS), tmp_path / "model.safetensors"
    ended = CarryoverCli(tmp_path)("checkpoint", "export", half.result["uri"], "-o", file)
    assert ended.rc == 0, ended.stderr
    there = load_file(file)
    assert set(there) == set(weights)
    assert all(torch.equal(value, weights[name]) for name, value in there.items())
    export_checkpoint(half.result["checkpoint_uri"], str(tmp_path / "commit.safetensors"), store="")
    told = half.bring(str(file), tmp_path / "store")
    assert (told["step"], told["optimizer_tensors"], told["new"], told["ignored"]) == (0, 0, 0, 0)
    home = RunHome.open(open_store(str(tmp_path / "store")), told["run_key"])
    assert [record.step for record in home.commits()] == [0]
    assert home.store.exists(FILE)
    with pytest.raises(WrongInput, match="was imported for this data and recipe already"):
        half.bring(str(file), tmp_path / "store")


def guide(half: Half, **changes: Any) -> dict[str, Any]:
    whole = {**torch.load(half.file, weights_only=True), **changes}
    return {name: value for name, value in whole.items() if value is not None}


def without_names(half: Half, groups: int) -> dict[str, Any]:
    """The optimizer as older versions of torch write it."""
    saved = torch.load(half.file, weights_only=True)["optimizer_state_dict"]
    (group,) = saved["param_groups"]
    places, bare = group["params"], {k: v for k, v in group.items() if k not in ("param_names", "params")}
    cut = len(places) // groups
    parts = [places[i * cut : (i + 1) * cut if i < groups - 1 else None] for i in range(groups)]
    return {"state": saved["state"], "param_groups": [{**bare, "params": part} for part in parts]}


def test_one_group_without_names_is_in_the_order_of_the_state_dict(half: Half, tmp_path: Path) -> None:
    torch.save(guide(half, optimizer_state_dict=without_names(half, 1)), tmp_path / "old.pt")
    one, other = half.bring(str(tmp_path / "old.pt"), tmp_path / "a"), half.bring(half.file, tmp_path / "b")
    loaded = [RunHome.at(told["checkpoint_uri"]).load_newest() for told in (one, other)]
    mine, theirs = ({n: bytes(raw.data) for n, raw in each.tensors("optim/").items()} for each in loaded if each)
    assert mine == theirs
    assert mine


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "groups": (
        lambda half: {"optimizer_state_dict": without_names(half, 2)},
        {},
        "2 groups without names.*--weights-only",
    ),
    "no step": (lambda half: {"global_step": None}, {}, "no step .global_step or step."),
    "no best": (lambda half: {"best_val": None}, {"keep_best": True}, "--keep-best: the file has no best value"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_told_is_refused(what: str, half: Half, tmp_path: Path) -> None:
    changes, flags, message = REFUSED[what]
    torch.save(guide(half, **changes(half)), tmp_path / "other.pt")
    with pytest.raises(WrongInput, match=message):
        half.bring(str(tmp_path / "other.pt"), tmp_path / "store", **flags)
    told = half.bring(str(tmp_path / "other.pt"), tmp_path / "store", weights_only=True)
    assert told["step"] == 0


def test_export_says_what_it_cannot(half: Half, tmp_path: Path) -> None:
    (tmp_path / "there.safetensors").touch()
    for file, message in (
        ("there.safetensors", "is there already"),
        ("no/where.safetensors", "there is no folder"),
        ("a.pt", "only safetensors are written, never a pickle; call it a.safetensors"),
    ):
        with pytest.raises(WrongInput, match=message):
            export_checkpoint(half.result["uri"], str(tmp_path / file), store=half.store)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.safetensors"]
