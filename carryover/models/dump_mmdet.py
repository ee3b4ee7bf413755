"""Owns how a detector is dumped as a folder that mmdet opens alone, and how it is opened again.

    folder/config.py    plain values: the model, its classes, and the test pipeline that it was trained for
           model.pth    {"state_dict", "meta": {"dataset_meta": {"classes"}, "CLASSES"}}: tensors and text, no code

`mmdet.apis.init_detector("<folder>/config.py", "<folder>/model.pth")` gives it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.models import mmdet_source

if TYPE_CHECKING:
    from torch import nn


def write(detector: Any, config: str, classes: Sequence[str], folder: Path) -> None:
    """Write a detector with the text of its config."""
    import torch

    (folder / mmdet_source.CONFIG).write_text(config)
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in detector.state_dict().items()}
    meta = {"dataset_meta": {"classes": tuple(classes)}, "CLASSES": tuple(classes)}
    whole = {"state_dict": weights, "meta": meta}
    # mmdet's own form; of what is in it nothing is code, and readers that take only tensors and text open it.
    torch.save(whole, folder / mmdet_source.WEIGHTS)  # noqa: TID251 - mmdet reads no other form


def opened(folder: Path) -> "nn.Module":
    """Return what mmdet alone makes of a folder, on the CPU and in evaluation mode."""
    from mmdet.apis import init_detector

    from carryover.models.mmdet_layers import alone, quiet

    with alone(), quiet():
        return init_detector(
            str(folder / mmdet_source.CONFIG), str(folder / mmdet_source.WEIGHTS), device="cpu", palette="random"
        )
