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
from carryover.models.family import Outputs
from carryover.tasks.classification import ClassificationTask
from carryover.tasks.task import task_files
from carryover.train.pull import Anchor, Pull, fisher_information
from carryover.train.remedy import RemedyConfig
from carryover.train.wise import blend


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
    Pull((Anchor(layer.weight, old, strength), Anchor(number, torch.tensor(0.5), torch.tensor(2.0))))()
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
