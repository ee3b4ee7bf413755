"""Owns semantic segmentation: a class for every pixel of a picture.

label         PNG of class ids, 255 ignored
targets       int16[B, H, W], class indices; IGNORED, and PADDING right and below where pictures differ in size
logits        [B, C, h, w], brought to each picture's own size before they are compared with its mask
kept          a picture's confusion matrix, [C * C]: scores are sums of these, and no mask has to stay in memory
"""

import io
from collections.abc import Iterator, Mapping
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

IGNORED, PADDING = -1, -2
IGNORED_ID = 255


@dataclass(frozen=True)
class SegmentationTask:
    """See `task.Task`."""

    label: str
    classes: tuple[Scalar, ...]
    problem_type: str = "semantic_segmentation"
    positive: None = None

    @classmethod
    def of(cls, schema: Schema, data: DataConfig) -> "SegmentationTask":
        assert schema.classes is not None
        if data.pos_label is not None:
            raise WrongInput(f"data.pos_label: {data.pos_label!r} is not possible; {schema.problem_type} has none")
        return cls(schema.label, schema.classes)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SegmentationTask":
        return cls(value["label"], tuple(value["classes"]))

    def to_json(self) -> dict[str, object]:
        return {"problem_type": self.problem_type, "label": self.label, "classes": list(self.classes)}

    @property
    def num_outputs(self) -> int:
        return len(self.classes)

    @cached_property
    def _table(self) -> np.ndarray:
        """Class index by id, int16[256]; PADDING stands for an id that is no class."""
        table = np.full(256, PADDING, np.int16)
        table[IGNORED_ID] = IGNORED
        table[[int(value) for value in self.classes]] = np.arange(len(self.classes))
        return table

    def grown(self, schema: Schema) -> "SegmentationTask":
        """Return itself; a mask with new ids can't be learned by an old head, see `task.Task`."""
        if schema.problem_type != self.problem_type or schema.label != self.label or schema.classes is None:
            raise WrongInput(
                f"--grow-classes: the Model tells the pixels of '{self.label}' apart, and the data's label is "
                f"'{schema.label}' ({schema.problem_type}); prepare them with --schema-from the Model",
                trouble="does-not-fit-model",
            )
        if new := [value for value in schema.classes if value not in self.classes]:
            raise WrongInput(
                f"--grow-classes: segmentation can't take up new classes ({', '.join(map(str, new))}); "
                "transfer-train starts a model of all classes from this one",
                trouble="does-not-fit-model",
            )
        return self

    def targets(self, rows: pa.Table) -> np.ndarray:
        columns.require(rows, [self.label])
        masks = [self.mask(cell) for cell in rows[self.label].to_pylist()]
        height, width = (max(mask.shape[axis] for mask in masks) for axis in (0, 1))
        found = np.full((len(masks), height, width), PADDING, np.int16)
        for place, mask in enumerate(masks):
            found[place, : mask.shape[0], : mask.shape[1]] = mask
        return found

    def mask(self, cell: bytes | None) -> np.ndarray:
        """Return one stored mask as class indices, int16[H, W].

        Raises:
            WrongInput: for an id that the model has no class for, or a row without a mask.
        """
        from PIL import Image

        if cell is None:
            raise WrongInput(f"label '{self.label}': a row has no mask", trouble="wrong-label")
        with Image.open(io.BytesIO(cell)) as image:
            ids = np.asarray(image)
        found = self._table[ids]
        if (found == PADDING).any():
            known = ", ".join(map(str, self.classes[:20]))
            unknown = int(ids[found == PADDING][0])
            raise WrongInput(
                f"label '{self.label}': id {unknown} is no class of the model; classes are {known}",
                trouble="unknown-class",
            )
        return found

    def loss(self, outputs: Outputs, targets: "Tensor") -> "Tensor":
        from carryover.tasks.segmentation_losses import default

        return default(outputs.logits, targets)

    def kept(self, logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        import torch

        counts = [confusion(told, truth, self.num_outputs) for told, truth in self.masks(logits, targets)]
        return torch.stack(counts), torch.zeros(len(targets), dtype=torch.int64)

    def masks(self, logits: "Tensor", targets: "Tensor") -> "Iterator[tuple[Tensor, Tensor]]":
        """Yield of each picture what is told and what is true of its pixels, class indices [H, W] in its own size."""
        for one, padded in zip(logits, targets.to(logits.device), strict=True):
            truth = _cut(padded)
            yield chosen(one, truth), truth

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """Return confusion matrices float64[N, C, C], truth by what was told."""
        count = self.num_outputs
        return np.asarray(logits, dtype=np.float64).reshape(len(logits), count, count if len(logits) else 1)

    def truth(self, targets: np.ndarray) -> np.ndarray:
        """Return zeros [N]: the masks are in the confusion matrices."""
        return targets.astype(np.int64)


def chosen(logits: "Tensor", like: "Tensor") -> "Tensor":
    """Return the class index of each pixel [H, W], in the size of `like` [H, W], from logits [C, h, w]."""
    from torch.nn.functional import interpolate

    sized = interpolate(logits[None], size=tuple(like.shape), mode="bilinear", align_corners=False)
    return sized[0].argmax(dim=0)


def confusion(told: "Tensor", truth: "Tensor", classes: int) -> "Tensor":
    """Return how many pixels of each class were told to be of which, float64[C * C]; ignored ones count for nothing."""
    counted = truth >= 0
    pairs = truth[counted].long() * classes + told[counted]
    return pairs.bincount(minlength=classes * classes).double()


def _cut(mask: "Tensor") -> "Tensor":
    """Return a mask without its padding."""
    inside = mask != PADDING
    return mask[: int(inside[:, 0].sum()), : int(inside[0].sum())]
