"""Owns object detection: boxes of classes in pictures. The loss is the network's own; only its outputs are read here.

label            list of boxes with their classes                            a picture
targets          [M, 6]  x1, y1, x2, y2, class index, crowd                   filled up with class -1
logits, in       [K, 6]  x1, y1, x2, y2, score, class index                   filled up with score -1
evaluation       both in pixels of the stored picture, whatever size the network read
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from carryover.data.boxes import WIDTH, numbers_of
from carryover.data.config import DataConfig
from carryover.data.schema import Scalar, Schema
from carryover.ground.errors import WrongInput
from carryover.models import columns
from carryover.models.family import Outputs

if TYPE_CHECKING:
    from torch import Tensor

NO_BOX = -1.0


def boxes_of(
    pictures: Sequence[Sequence[Mapping[str, Any]] | None], indices: Mapping[str, int], *, label: str
) -> np.ndarray:
    """Return boxes as targets, float32[N, M, 6] with M of the picture that has most, at least 1.

    Args:
        pictures: of each, what a column of type boxes holds.
        indices: class -> index.

    Raises:
        WrongInput: for a class that is not among them.
    """
    each = [numbers_of(boxes, indices, label=label) for boxes in pictures]
    most = max(map(len, each), default=0)
    found = np.full((len(each), max(1, most), WIDTH), NO_BOX, np.float32)
    for place, boxes in enumerate(each):
        found[place, : len(boxes)] = boxes
    return found


@dataclass(frozen=True)
class DetectionTask:
    """See `task.Task`."""

    label: str
    classes: tuple[Scalar, ...]
    problem_type: str = "object_detection"
    positive: None = None

    @classmethod
    def of(cls, schema: Schema, data: DataConfig) -> "DetectionTask":
        assert schema.classes is not None
        if data.pos_label is not None:
            raise WrongInput(f"data.pos_label: {data.pos_label!r} is not possible; {schema.problem_type} has none")
        return cls(schema.label, schema.classes)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "DetectionTask":
        return cls(value["label"], tuple(value["classes"]))

    def to_json(self) -> dict[str, object]:
        return {"problem_type": self.problem_type, "label": self.label, "classes": list(self.classes)}

    @property
    def num_outputs(self) -> int:
        return len(self.classes)

    @cached_property
    def indices(self) -> dict[str, int]:
        """Class, as text -> index."""
        return {columns.as_text(value): index for index, value in enumerate(self.classes)}

    def grown(self, schema: Schema) -> "DetectionTask":
        """Return the same with the schema's other classes behind its own; see `task.Task`."""
        if schema.problem_type != self.problem_type or schema.label != self.label or schema.classes is None:
            raise WrongInput(
                f"--grow-classes: the Model finds classes of '{self.label}' in pictures, and the data's label is "
                f"'{schema.label}' ({schema.problem_type}); prepare them with --schema-from the Model",
                trouble="does-not-fit-model",
            )
        new = tuple(value for value in schema.classes if columns.as_text(value) not in self.indices)
        return DetectionTask(self.label, (*self.classes, *new)) if new else self

    def targets(self, rows: pa.Table) -> np.ndarray:
        columns.require(rows, [self.label])
        return boxes_of(rows[self.label].to_pylist(), self.indices, label=self.label)

    def loss(self, outputs: Outputs, targets: "Tensor") -> "Tensor":
        assert outputs.losses is not None, "a detector computes its loss itself"
        losses = outputs.losses
        return losses if losses.element_size() >= 4 else losses.float()

    def kept(self, logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        return logits.flatten(1), targets.flatten(1)

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        return _boxes(logits)

    def truth(self, targets: np.ndarray) -> np.ndarray:
        return _boxes(targets)


def _boxes(flat: np.ndarray) -> np.ndarray:
    """Return [N, K * 6] as float64[N, K, 6]."""
    boxes = np.asarray(flat, dtype=np.float64)
    width = boxes.shape[1] // WIDTH if boxes.ndim == 2 and len(boxes) else 0
    return boxes.reshape(len(boxes), width, WIDTH)
