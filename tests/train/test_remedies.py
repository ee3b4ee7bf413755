"""Remedies against forgetting, by numbers: the force back to old weights, Fisher information, the blend at the end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from carryover.ground.errors import WrongInput
from carryover.ground.storage import open_store
from carryover.models.card import MODELS
from carryover.models.export import write_model
from carryover.models.family import Outputs
from carryover.tasks.classification import ClassificationTask
from carryover.tasks.task import task_files
from carryover.train.outcome import model_of
from carryover.train.parent import EXTEND, Parent
from carryover.train.pull import Anchor, Pull, fisher_information
from carryover.train.remedy import RemedyConfig
from carryover.train.wise import blend
from tests.train.attempts import Killed, Run, dataset


def test_the_pull_is_the_gradient_of_the_penalty() -> None:
    torch.manual_seed(0)
    layer, old, strength = nn.Linear(3, 4), torch.randn(3, 3), torch.rand(3, 3)
    rows = torch.randn(5, 3)
    loss = layer(rows).square().sum()
    penalty = (strength * (layer.weight[:3] - old).square()).sum() / 2
    (want,) = torch.autograd.grad(loss + penalty, layer.weight)
    layer(rows).square().sum().backward()
    number = nn.Parameter(torch.tensor(2.0))
    number.grad = torch.tensor(1.0)
    # The fourth row is new: nothing pulls it. A single number has no rows.
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    Pull((Anchor(weight, old, strength), Anchor(number, torch.tensor(0.5), torch.tensor(2.0))))()
    torch.testing.assert_close(layer.weight.grad, want)
    assert number.grad == 1.0 + 2.0 * 1.5


class Linear(nn.Module):
    """Two logits of one number: 0 and w x."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.7]))

    def forward(self, features: dict[str, torch.Tensor]) -> Outputs:
        score = features["x"] * self.w
        return Outputs(torch.stack([torch.zeros_like(score), score], dim=1))


@dataclass(frozen=True)
class Small:
    """What `fisher_information` reads of a Model."""

    files: Any

    @staticmethod
    def preprocessing(rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        assert not training
        return {"x": rows["x"].to_numpy().astype(np.float32)}


def test_fisher_information_of_a_logistic_regression_is_the_known_one(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=4000)
    table = pa.table({"x": x})
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    model = Small(task_files(ClassificationTask("binary", "liked", ("no", "yes"), 1)))

    def measured(count: int) -> float:
        found = fisher_information(Linear(), model, tmp_path / "rows.arrow", count=count, seed=0)  # pyright: ignore[reportArgumentType]
        return float(found["w"])

    chance = 1 / (1 + np.exp(-0.7 * x))
    want = float((chance * (1 - chance) * x**2).mean())
    assert measured(4000) == pytest.approx(want, rel=0.1)
    assert measured(300) == measured(300) != measured(301)


@dataclass
class Near:
    """Scores a network by how near its first weight is to a number."""

    best: float
    network: nn.Linear
    greater_is_better: bool = True

    def score(self) -> float:
        away = abs(self.network.weight[0, 0].item() - self.best)
        return -away if self.greater_is_better else away


@pytest.mark.parametrize("greater", [True, False])
def test_the_blend_lies_between_and_is_chosen_on_both(greater: bool) -> None:
    def network() -> nn.Linear:
        made = nn.Linear(1, 2)
        nn.init.constant_(made.weight, 1.0)
        nn.init.constant_(made.bias, 3.0)
        return made

    old = {"weight": torch.zeros(1, 1)}
    half = network()
    assert blend(half, old, 0.5, new_rows=None, old_rows=None).part == 0.5
    # The second row is new, and so is the bias.
    assert half.weight.tolist() == [[0.5], [1.0]]
    assert half.bias.tolist() == [3.0, 3.0]
    chosen = network()
    found = blend(chosen, old, "auto", new_rows=Near(0.9, chosen, greater), old_rows=Near(0.3, chosen, greater))
    # Anything from 0.3 to 0.9 has the same sum; the most of the new is taken.
    assert found.part == 0.9
    assert found.score == pytest.approx(0.0, abs=1e-6)
    assert chosen.weight[0, 0].item() == pytest.approx(0.9)
    assert chosen.weight[1, 0] == 1.0


def test_new_adapters_fade_to_nothing() -> None:
    network = nn.ParameterDict({"lora_A": nn.Parameter(torch.ones(2)), "lora_B": nn.Parameter(torch.ones(2))})
    network["ia3_l"] = nn.Parameter(torch.full((2,), 3.0))
    blend(network, {}, 0.25, new_rows=None, old_rows=None)
    assert [network[name].tolist()[0] for name in ("lora_A", "lora_B", "ia3_l")] == [1.0, 0.25, 1.5]


def test_a_remedy_needs_a_model_to_remember() -> None:
    with pytest.raises(WrongInput, match=r"remedy.ewc: there is no Model to remember; name it by --init-from"):
        RemedyConfig(ewc=1.0).check_parent(extends=False, teacher=False)
    with pytest.raises(WrongInput, match=r"remedy.lwf, distiller.teacher: both name"):
        RemedyConfig(lwf=1.0).check_parent(extends=True, teacher=True)
    RemedyConfig().check_parent(extends=False, teacher=True)
    assert RemedyConfig(wise_ft="auto", ewc=1.0).old_rows == ("train", "validation")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("old")
    run = Run(dataset(folder / "data"), str(folder / "store"), {"optimization.max_epochs": 1}, folder)
    run.go()
    return run


@pytest.mark.parametrize(
    "remedy",
    [{"remedy.ewc": 50.0, "remedy.l2_sp": 0.1}, {"remedy.lwf": 1.0}, {"remedy.wise_ft": "auto"}],
    ids=lambda remedy: " ".join(remedy),
)
def test_killed_in_the_middle_a_run_with_remedies_ends_with_the_same_bits(
    old: Run, tmp_path: Path, remedy: dict[str, Any]
) -> None:
    news = dataset(tmp_path / "news", count=120)
    card, files, weights = model_of(old.home, old.finish())

    def run(name: str) -> Run:
        store = open_store(str(tmp_path / name))
        write_model(store.sub(f"{MODELS}/{card.digest}"), card, files, weights)
        parent = Parent(EXTEND, card.at, card.digest)
        return Run(
            news, store.uri, {**remedy, "checkpoint.every_steps": 2}, tmp_path / name, parent=parent, old=old.card
        )

    straight, broken = run("straight"), run("broken")
    straight.go()
    with pytest.raises(Killed):
        broken.go(kill_after=6)
    assert 0 < broken.state()["step"] < straight.state()["step"]
    broken.go()
    assert broken.tensors() == straight.tensors()
    assert broken.finish().body["model"] == straight.finish().body["model"]
    # Without the remedy it is another Model.
    plain = Run(news, straight.store, {}, tmp_path / "plain", run_key="plain", parent=straight.parent)
    plain.go()
    assert plain.finish().body["model"] != straight.finish().body["model"]
    if "remedy.wise_ft" in remedy:
        assert 0 <= straight.finish().body["metrics"]["wise_ft"] <= 1
        assert straight.finish().body["metrics"]["val_old"] is not None
