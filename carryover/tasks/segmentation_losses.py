"""Owns the losses of segmentation: logits [B, C, h, w], class indices [B, H, W] that are below 0 where none counts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def default(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """Return each sample's mean cross-entropy over its pixels that count [B], in at least float32."""
    from torch.nn.functional import cross_entropy, interpolate

    wide = logits if logits.element_size() >= 4 else logits.float()
    sized = interpolate(wide, size=tuple(targets.shape[1:]), mode="bilinear", align_corners=False)
    counts = targets >= 0
    losses = cross_entropy(sized, targets.long().clamp(min=0), reduction="none") * counts
    return losses.sum(dim=(1, 2)) / counts.sum(dim=(1, 2)).clamp(min=1)
