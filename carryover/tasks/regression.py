"""Owns regression: the label scaled for training and back again, squared error."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
    """See `task.Task`; scaled = (label - shift) / scale."""

    label: str
    shift: float
    scale: float
    problem_type: str = "regression"
    classes: None = None
    positive: None = None
    num_outputs: int = 1

    @classmethod
    def of(cls, schema: Schema, data: DataConfig) -> "RegressionTask":
        if data.pos_label is not None:
            raise WrongInput(f"data.pos_label: {data.pos_label!r} is not possible; regression has no classes")
        known = schema.label_column.statistics
        # A label that never changes is left in its own unit.
        if data.label.numerical_preprocessing == "standardscaler":
            return cls(schema.label, float(known["mean"]), float(known["std"]) or 1.0)
        if data.label.numerical_preprocessing == "minmaxscaler":
            return cls(schema.label, float(known["min"]), float(known["max"]) - float(known["min"]) or 1.0)
        return cls(schema.label, 0.0, 1.0)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RegressionTask":
        return cls(**value)

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def targets(self, rows: pa.Table) -> np.ndarray:
        columns.require(rows, [self.label])
        values = columns.numbers(rows, self.label)
        if np.isnan(values).any():
            raise WrongInput(f"label '{self.label}': a row has no finite number")
        return ((values - self.shift) / self.scale).astype(np.float32)

    def loss(self, outputs: Outputs, targets: "Tensor") -> "Tensor":
        total = _squared(outputs.logits, targets)
        for weight, logits in outputs.auxiliary:
            total = total + weight * _squared(logits, targets)
        return total

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(logits, dtype=np.float64)[:, 0] * self.scale + self.shift

    def truth(self, targets: np.ndarray) -> np.ndarray:
        return np.asarray(targets, dtype=np.float64) * self.scale + self.shift


def _squared(logits: "Tensor", targets: "Tensor") -> "Tensor":
    values = logits[:, 0] if logits.element_size() >= 4 else logits[:, 0].float()
    return (values - targets.to(values.dtype)).square()
