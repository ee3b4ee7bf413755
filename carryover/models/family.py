"""Owns what a model family is: the two protocols that a new family's one file satisfies.

    schema, config --reads--> columns --preprocessor--> arrays of a batch --network--> features [B, F], logits [B, C]

A family's module must import without torch or transformers: the command line chooses a model before it starts any rank.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.images import TRUTH as TRUTH
from carryover.data.schema import Column, Schema

if TYPE_CHECKING:
    from torch import Tensor, nn


# What transformers' modelling code is of, and what it takes along: scipy and torchvision for losses of object
# detection, accelerate for models larger than a device, and with it boto3 for SageMaker.
TRANSFORMERS = (
    "transformers.models.auto.modeling_auto",
    "transformers.modeling_layers",
    "transformers.generation.utils",
    "transformers.tokenization_utils_tokenizers",
)
SPARED = ("accelerate", "scipy", "torchvision")


class Output(NamedTuple):
    """What one branch gives: features [B, F], and logits [B, ...] where it has a head of its own.

    `losses` [B] are what a branch gives in training that computes its loss itself, in the place of logits.
    """

    features: "Tensor"
    logits: "Tensor | None"
    losses: "Tensor | None" = None


class Outputs(NamedTuple):
    """What a whole network gives: logits [B, ...], and (weight, logits [B, C]) of each branch's auxiliary head.

    Where a network computes its own loss, training has `losses` [B], and logits that stand for nothing.
    """

    logits: "Tensor"
    auxiliary: "tuple[tuple[float, Tensor], ...]" = ()
    losses: "Tensor | None" = None


class Preprocessor(Protocol):
    """Turns rows into the arrays one branch reads; fitted once, then carried in the Model as text files.

    It goes to loader processes, so it must survive being sent to another process. One that knows the label's classes
    has `grown(classes)` beside: the same with more of them behind its own. One that fills rows up to the batch's
    longest has `padded`, the text columns whose length decides: rows of similar length then share a micro-batch.
    """

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Return feature name -> array whose first dimension is the number of rows.

        Where the family `reads_label`, training adds TRUTH: the label, turned as the picture was, with the number of
        rows first; it becomes what the loss compares with.

        Args:
            rows: the batch, with at least the branch's columns; their Arrow types may differ from those of the fit.
            training: whether random augmentation is wanted.
            keys: uint64[B], one a row; all randomness comes from them and from nothing else.
        """
        ...

    def files(self) -> dict[str, bytes]:
        """Return relative name -> JSON or text: enough for `Family.restore`. The tokenizer's stand below tokenizer/."""
        ...


class Family(Protocol):
    """One kind of branch. `Config` is a frozen dataclass, the recipe section `model.<name>`."""

    name: str
    Config: type

    def check(self, config: Any) -> None:
        """Raise WrongInput for what a config names and cannot be opened, as far as can be told without torch."""
        ...

    def portable(self, config: Any) -> Any:
        """Return the config without names of places on this machine, as a Model keeps it."""
        ...

    def reads(self, schema: Schema, config: Any) -> tuple[Column, ...]:
        """Return the columns this family would read; () means that it has nothing to do here."""
        ...

    def preprocessor(self, config: Any, schema: Schema, data: DataConfig) -> Preprocessor:
        """Fit from the schema's statistics only: there is no pass over the data."""
        ...

    def restore(self, config: Any, files: Mapping[str, bytes]) -> Preprocessor:
        """Return the preprocessor that wrote `files`; nothing else is read, no folder and no hub."""
        ...

    def network(self, config: Any, preprocessor: Any, *, num_outputs: int | None, pretrained: bool) -> "nn.Module":
        """Return a module with `out_features: int` and `forward(dict of name -> Tensor) -> Output`.

        Each of its trainable parameters gets a gradient at every step (DistributedDataParallel relies on it).
        `backbones`, where it has that, are the paths of its pretrained parts: what optimization.peft freezes. A branch
        whose dump holds more, heads too, says so by `dumped`, names its `heads` (the family has the starts of their
        names, in the place of "head."), and by `of_classes()` the tensors that have a place for each class.

        Args:
            num_outputs: width of its own head; None for no head (logits are then None).
            pretrained: False when weights will be loaded right after: none are fetched, nothing but the preprocessor
                is needed.
        """
        ...


class Dumps(Protocol):
    """What a family has beside, whose trained branches can be dumped as a Backbone (dump.py)."""

    def dump(self, config: Any, branch: "nn.Module", preprocessor: Any, folder: Path) -> None:
        """Write a branch's part that others can use into an empty folder, so that its own library opens it alone.

        Adapters are merged; what stands outside of the branch's `backbones` is written by the caller, heads never are.
        """
        ...

    def opened(self, branch: "nn.Module", folder: Path) -> "nn.Module":
        """Return the branch with the dumped part replaced by what the library made of the folder; it stays as it is."""
        ...

    def samples(self, preprocessor: Any) -> pa.Table:
        """Return made-up rows that the preprocessor reads (dump_samples.py)."""
        ...


class Fusion(Protocol):
    """One way to join several branches. `Config` is a frozen dataclass with `weight`, the recipe section."""

    name: str
    Config: type
    fuses: bool

    def auxiliary_weight(self, config: Any) -> float:
        """Return how much each branch's own loss counts beside the fused one; 0 means that branches have no heads."""
        ...

    def network(self, config: Any, widths: Sequence[int], *, num_outputs: int) -> "nn.Module":
        """Return a module whose forward maps a list of [B, width] features to Output."""
        ...


def has_backbone(family: Any) -> bool:
    """Tell whether a registered family's networks have `backbones`."""
    return bool(getattr(family, "has_backbone", False))


def can_dump(family: Any) -> bool:
    """Tell whether a registered family has the words of `Dumps`."""
    return hasattr(family, "dump")


def dumped_parts(branch: Any) -> tuple[str, ...]:
    """Return the paths of what a branch's dump holds: its `backbones`, or where it has more than these its `dumped`."""
    return getattr(branch, "dumped", None) or getattr(branch, "backbones", ())


def imports_of(family: Any) -> tuple[str, ...]:
    """Return the modules that a registered family's networks import, where it names them; for an earlier start."""
    return tuple(getattr(family, "imports", ()))


def spared_by(family: Any) -> tuple[str, ...]:
    """Return the modules that those would import with them and a registered family never uses."""
    return tuple(getattr(family, "spared", ()))


def reads_label(family: Any) -> bool:
    """Tell whether a registered family's preprocessor turns the label as it turns the picture."""
    return bool(getattr(family, "reads_label", False))


def fuses(family: Any) -> bool:
    """Tell whether a registered family joins branches instead of reading columns."""
    return bool(getattr(family, "fuses", False))
