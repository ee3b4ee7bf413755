"""Owns classification: classes to indices, cross-entropy, probabilities. Binary is two classes with two logits."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Scalar, Schema
from carryover.ground.errors import WrongInput
from carryover.models import columns
from carryover.models.family import Outputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClassificationTask:
    """See `task.Task`."""

    problem_type: str
    label: str
    classes: tuple[Scalar, ...]
    positive: int | None

    @classmethod
    def of(cls, schema: Schema, data: DataConfig) -> "ClassificationTask":
        assert schema.classes is not None
        positive = None
        if schema.problem_type == "binary":
            positive = _position(data.pos_label, schema.classes) if data.pos_label is not None else 1
        elif data.pos_label is not None:
            raise WrongInput(f"data.pos_label: {data.pos_label!r} is not possible; {schema.problem_type} has none")
        return cls(schema.problem_type, schema.label, schema.classes, positive)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ClassificationTask":
        return cls(**{**value, "classes": tuple(value["classes"])})

    def to_json(self) -> dict[str, object]:
        return {
            "problem_type": self.problem_type,
            "label": self.label,
            "classes": list(self.classes),
            "positive": self.positive,
        }

    @property
    def num_outputs(self) -> int:
        return len(self.classes)

    def grown(self, schema: Schema) -> "ClassificationTask":
        """Return the same with the schema's other classes behind its own, which keep their order; see `task.Task`.

        Raises:
            WrongInput: for the schema of another problem, or of another label.
        """
        if schema.classes is None or schema.label != self.label:
            raise WrongInput(
                f"--grow-classes: the Model tells classes of '{self.label}' apart, and the data's label is "
                f"'{schema.label}' ({schema.problem_type}); prepare them with --schema-from the Model",
                trouble="does-not-fit-model",
            )
        new = tuple(value for value in schema.classes if columns.as_text(value) not in self._indices)
        if not new:
            return self
        # More than two classes have no positive one.
        return ClassificationTask("multiclass", self.label, (*self.classes, *new), None)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {columns.as_text(value): index for index, value in enumerate(self.classes)}

    def targets(self, rows: pa.Table) -> np.ndarray:
        columns.require(rows, [self.label])
        values = columns.texts(rows, self.label)
        try:
            return np.fromiter((self._indices[value] for value in values), dtype=np.int64, count=len(values))  # pyright: ignore[reportArgumentType]
        except KeyError:
            unknown = next(value for value in values if value not in self._indices)
            what = "a row has no value" if unknown is None else f"{unknown!r} is no class of the model"
            known = ", ".join(map(repr, self.classes[:20]))
            raise WrongInput(f"label '{self.label}': {what}; classes are {known}", trouble="unknown-class") from None

    def loss(self, outputs: Outputs, targets: "Tensor") -> "Tensor":
        from torch.nn.functional import cross_entropy

        total = cross_entropy(_wide(outputs.logits), targets, reduction="none")
        for weight, logits in outputs.auxiliary:
            total = total + weight * cross_entropy(_wide(logits), targets, reduction="none")
        return total

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        shifted = np.asarray(logits, dtype=np.float64)
        shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True, initial=-np.inf))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def kept(self, logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        return logits, targets

    def truth(self, targets: np.ndarray) -> np.ndarray:
        return targets.astype(np.int64)


def _wide(logits: "Tensor") -> "Tensor":
    """Return logits in float32, or float64 where they are: half precision has too few digits for a loss."""
    return logits if logits.element_size() >= 4 else logits.float()


def _position(wanted: Scalar, classes: tuple[Scalar, ...]) -> int:
    texts = [columns.as_text(value) for value in classes]
    if columns.as_text(wanted) not in texts:
        raise WrongInput(f"data.pos_label: {wanted!r} is no class; it must be one of {', '.join(map(repr, classes))}")
    return texts.index(columns.as_text(wanted))
