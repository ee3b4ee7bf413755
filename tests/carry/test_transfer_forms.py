"""checkpoint export and import: a run leaves as another trainer's file, comes back, and ends with the same bits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from carryover.carry.tables import FILE
from carryover.checkpoint.home import RunHome
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


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Half:
    folder = tmp_path_factory.mktemp("half")
    card, store = dataset(folder), str(folder / "store")
    result = train_ddp(dataset=card.at, store=store, overrides=words(optimization__max_epochs=1))
    export_checkpoint(result["checkpoint_uri"], str(folder / "half.pt"), form="guide", store=store)
    return Half(card, store, str(folder / "half.pt"), result)


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


def test_every_form_is_read_back(half: Half, tmp_path: Path) -> None:
    weights = load_file(Path(find_model(half.result["uri"]).folder.uri) / WEIGHTS)
    for form in ("pt", "safetensors"):
        file = str(tmp_path / f"model.{form}")
        export_checkpoint(half.result["uri"], file, form=form, store=half.store)
        there = load_file(file) if form == "safetensors" else torch.load(file, weights_only=True)
        assert set(there) == set(weights)
        assert all(torch.equal(value, weights[name]) for name, value in there.items())
        told = half.bring(file, tmp_path / form)
        assert (told["step"], told["optimizer_tensors"], told["new"], told["ignored"]) == (0, 0, 0, 0)
        home = RunHome.open(open_store(str(tmp_path / form)), told["run_key"])
        assert [record.step for record in home.commits()] == [0]
        assert home.store.exists(FILE)
        with pytest.raises(WrongInput, match="was imported for this data and recipe already"):
            half.bring(file, tmp_path / form)


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
    (tmp_path / "there.pt").touch()
    for source, file, form, message in (
        (half.result["uri"], "there.pt", "pt", "is there already"),
        (half.result["uri"], "no/where.pt", "pt", "there is no folder"),
        (half.result["uri"], "a.pt", "guide", "has no optimizer; give a commit of its run"),
    ):
        with pytest.raises(WrongInput, match=message):
            export_checkpoint(source, str(tmp_path / file), form=form, store=half.store)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.pt"]
