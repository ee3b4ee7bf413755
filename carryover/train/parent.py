"""Owns what a run starts from when it does not start from nothing: named in run.json, in the Model, and in the run key.

    extend      a Model, its schema, preprocessing and weights, on new data      --init-from
    transfer    weights of a Backbone or any checkpoint, for a new task          transfer-train --backbone

Once a run has a commit, it goes on from that alone; its parent is only named. Needs no torch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from carryover.data.schema import Scalar

EXTEND, TRANSFER = "extend", "transfer"


@dataclass(frozen=True)
class Parent:
    """What a run starts from.

    Attributes:
        kind: what the run does with it.
        uri: canonical place of it when the run began.
        digest: of its content; with `kind` it is all of it that counts for the run's identity.
        run_key, step, checkpoint_uri: of the run that made it; "" and 0 where none did.
        dataset: digest and uri of what it was trained on.
        problem_type, classes: of the run that starts from it; None where those of the data hold.
        transfer: which weights a new task took, as `carry.tables.summary` tells it; None before that is known.
        lineage: itself and all that it was made from, oldest first, as `carry.lineage.chain` gives it.
    """

    kind: str
    uri: str
    digest: str
    run_key: str = ""
    step: int = 0
    checkpoint_uri: str = ""
    dataset: Mapping[str, Any] | None = None
    problem_type: str | None = None
    classes: tuple[Scalar, ...] | None = None
    transfer: Mapping[str, Any] | None = None
    lineage: tuple[Mapping[str, Any], ...] = ()

    @property
    def identity(self) -> str:
        """Return what the run key is told of it."""
        return f"{self.kind}:{self.digest}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; `parent_from_json` gives it back."""
        classes = None if self.classes is None else list(self.classes)
        return {**asdict(self), "classes": classes, "lineage": list(self.lineage)}


def parent_from_json(value: Mapping[str, Any] | None) -> Parent | None:
    """Return the parent that run.json or a Model's card names; None where there is none."""
    if not value:
        return None
    classes, lineage = value.get("classes"), tuple(value.get("lineage") or ())
    return Parent(**{**value, "classes": None if classes is None else tuple(classes), "lineage": lineage})


def identity_of(value: Mapping[str, Any] | None) -> str:
    """Return what the run key is told of a parent as run.json has it, "" for none."""
    parent = parent_from_json(value)
    return parent.identity if parent else ""
