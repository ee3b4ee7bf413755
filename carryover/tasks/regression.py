"""Owns regression: the label scaled for training and back again, squared error or a sigmoid between two bounds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Schema
from carryover.ground.errors import WrongInput
from carryover.models import columns
from carryover.models.family import Outputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RegressionTask:
    """See `task.Task`; scaled = (label - shift) / scale.

    Attributes:
        link: "identity", or "sigmoid" where a logit stands for a number between 0 and 1.
    """

    label: str
    shift: float
    scale: float
    problem_type: str = "regression"
    classes: None = None
    positive: None = None
    num_outputs: int = 1
    link: str = "identity"

    @classmethod
    def of(cls, schema: Schema, data: DataConfig) -> "RegressionTask":
        if data.pos_label is not None:
            raise WrongInput(f"data.pos_label: {data.pos_label!r} is not possible; regression has no classes")
        shift, scale = data.label.shift_and_scale(schema.label_column.statistics)
        return cls(schema.label, shift, scale)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RegressionTask":
        return cls(**value)

    def to_json(self) -> dict[str, object]:
        plain = asdict(self)
        # Models from before there was a choice keep their digest.
        return {name: value for name, value in plain.items() if (name, value) != ("link", "identity")}

    def bounded(self, schema: Schema) -> "RegressionTask":
        """Return the same for a label between its least and greatest value in the train split, through a sigmoid."""
        known = schema.label_column.statistics
        least, most = float(known["min"]), float(known["max"])
        return replace(self, shift=least, scale=most - least or 1.0, link="sigmoid")

    def grown(self, schema: Schema) -> "RegressionTask":
        """Return itself: a number has no classes that could be new."""
        return self

    def targets(self, rows: pa.Table) -> np.ndarray:
        columns.require(rows, [self.label])
        values = columns.numbers(rows, self.label)
        if np.isnan(values).any():
            raise WrongInput(f"label '{self.label}': a row has no finite number", trouble="wrong-label")
        return ((values - self.shift) / self.scale).astype(np.float32)

    def loss(self, outputs: Outputs, targets: "Tensor") -> "Tensor":
        loss = _crossed if self.link == "sigmoid" else _squared
        total = loss(outputs.logits, targets)
        for weight, logits in outputs.auxiliary:
            total = total + weight * loss(logits, targets)
        return total

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        values = np.asarray(logits, dtype=np.float64)[:, 0]
        if self.link == "sigmoid":
            # Written with tanh, it overflows nowhere.
            values = 0.5 * (1.0 + np.tanh(0.5 * values))
        return values * self.scale + self.shift

    def kept(self, logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        return logits, targets

    def truth(self, targets: np.ndarray) -> np.ndarray:
        return np.asarray(targets, dtype=np.float64) * self.scale + self.shift


def _squared(logits: "Tensor", targets: "Tensor") -> "Tensor":
    values = logits[:, 0] if logits.element_size() >= 4 else logits[:, 0].float()
    return (values - targets.to(values.dtype)).square()


def _crossed(logits: "Tensor", targets: "Tensor") -> "Tensor":
    from torch.nn.functional import binary_cross_entropy_with_logits

    values = logits[:, 0] if logits.element_size() >= 4 else logits[:, 0].float()
    return binary_cross_entropy_with_logits(values, targets.to(values.dtype), reduction="none")
