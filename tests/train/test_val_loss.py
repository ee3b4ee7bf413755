"""The loss on validation rows: that of training, whole over ranks, and none where a task has none in evaluation."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from carryover.data.loader import Batch, evaluation_micros
from carryover.models.family import Outputs
from carryover.tasks.losses import OBJECTS, PIXELS, check_loss
from carryover.train.validate import Predicted, predict
from tests.train.attempts import Run, dataset

ROWS = 37


class Network(nn.Module):
    """Two logits from three numbers, with dropout that only training has."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.dropout = nn.Linear(3, 2), nn.Dropout(0.5)

    def forward(self, batch: dict[str, Tensor]) -> Outputs:
        return Outputs(self.linear(self.dropout(batch["x"])))


def passes(network: Network, values: Tensor, targets: Tensor, *, micro: int, world: int) -> list[Predicted]:
    """What each of `world` ranks says of its rows."""

    def kept(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        return logits, truth

    def loss(outputs: Outputs, truth: Tensor) -> Tensor:
        return cross_entropy(outputs.logits, truth, reduction="none")

    found = []
    for rank in range(world):
        micros = evaluation_micros(rows=ROWS, micro_size=micro, rank=rank, world=world)
        batches = []
        for one in micros:
            rows = slice(one.first, one.last)
            batches.append(Batch(one, {"x": values[rows]}, targets[rows], np.arange(one.first, one.last)))
        task: Any = SimpleNamespace(num_outputs=2, kept=kept)
        found.append(predict(network, batches, task, device=torch.device("cpu"), loss=loss))
    return found


@pytest.mark.parametrize(("micro", "world"), [(37, 1), (5, 1), (5, 2), (10, 3), (40, 2)])
def test_it_is_the_mean_over_all_rows_however_they_were_dealt(micro: int, world: int) -> None:
    network, draw = Network(), torch.Generator().manual_seed(1)
    values, targets = torch.randn(ROWS, 3, generator=draw), torch.randint(0, 2, (ROWS,), generator=draw)
    parts = passes(network, values, targets, micro=micro, world=world)
    losses = [part.losses for part in parts if part.losses is not None]
    assert len(losses) == world, "a rank without a row takes part too"
    joined = Predicted(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate(losses),
    ).in_row_order()
    with torch.no_grad():
        whole = cross_entropy(network.linear(values), targets, reduction="none").double().numpy()
    assert joined.losses is not None and np.allclose(joined.losses, whole, rtol=1e-6)
    assert joined.mean_loss == pytest.approx(whole.mean(), rel=1e-6)
    assert network.training, "the network is put back"


def test_pictures_have_none() -> None:
    def loss(outputs: Outputs, targets: Tensor) -> Tensor:
        raise AssertionError

    for kind, expected in ((PIXELS, None), (OBJECTS, None), ("binary", loss), ("regression", loss)):
        task: Any = SimpleNamespace(problem_type=kind)
        assert check_loss(task, loss) is expected


def test_a_training_notes_it_with_each_validation_and_smoothing_counts(tmp_path: Path) -> None:
    card, found = dataset(tmp_path), {}
    for smoothing in (0.0, 0.3):
        recipe = {"optimization.max_epochs": 1, "optimization.label_smoothing": smoothing}
        run = Run(card, str(tmp_path / f"store-{smoothing}"), recipe, tmp_path)
        run.go()
        checks = [line for line in run.curve() if "val_roc_auc" in line]
        assert checks and all(math.isfinite(line["val_loss"]) for line in checks)
        found[smoothing] = checks[-1]["val_loss"]
    assert found[0.0] != found[0.3]
