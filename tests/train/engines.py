"""A small network, its data and its engine, as engine tests and the ranks that torchrun starts for them use them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from carryover.data.loader import Batch, Micro, micros_of_step
from carryover.data.order import mix
from carryover.train.engine import Engine
from carryover.train.sections import Optimization

ROWS, WIDTH, CLASSES = 96, 6, 3
CPU = torch.device("cpu")


class Net(nn.Module):
    """Two layers, a norm, and dropout where asked."""

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 16)
        self.norm = nn.LayerNorm(16)
        self.drop = nn.Dropout(drop)
        self.middle = nn.Linear(16, 48)
        self.last = nn.Linear(48, CLASSES, bias=False)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        if self.training:
            self.get_buffer("steps").add_(1)
        hidden = torch.tanh(self.norm(self.first(features["x"])))
        return self.last(torch.tanh(self.middle(self.drop(hidden))))


def net(drop: float = 0.0, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net(drop)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(
        outputs if outputs.element_size() >= 4 else outputs.float(), targets, reduction="none"
    )


def rows_of(micro: Micro) -> Batch:
    """Return the batch of a micro-batch; a row's numbers are a function of its index."""
    rows = np.arange(micro.first, micro.last)
    x = (mix(rows[:, None], np.arange(WIDTH)[None, :]) >> np.uint64(11)).astype(np.float64) / 2**53 - 0.5
    return Batch(micro, {"x": torch.from_numpy(x.astype(np.float32))}, torch.from_numpy(rows % CLASSES), rows)


def global_batch(position: int, *, size: int, micro: int, rank: int = 0, world: int = 1) -> list[Batch]:
    cut = micros_of_step(
        rows=ROWS, epoch=0, position=position, batch_size=size, micro_size=micro, rank=rank, world=world
    )
    return [rows_of(piece) for piece in cut]


def engine(network: nn.Module | None = None, *, precision: str = "32", **config: Any) -> Engine:
    return Engine(
        network if network is not None else net(),
        loss,
        Optimization(**{"learning_rate": 0.01, **config}),
        precision=precision,
        device=CPU,
        seed=3,
    )


def gradients(made: Engine) -> dict[str, Tensor]:
    """Return the gradients of the step that was done last, as the optimizer saw them."""
    return {name: value.grad.clone() for name, value in made.network.named_parameters() if value.grad is not None}


def copies(made: Engine) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in made.tensors().items()}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )
