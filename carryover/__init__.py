"""Carryover: continuous training whose steps resume, extend and carry over.

    import carryover                                  nothing else is loaded by this line
    data = carryover.prepare("reviews.csv", label="stars")
    model = carryover.train(data)                     carryover/api has all the verbs, and what they return

`carryover.train` is the verb, and the floor of that name is imported by the full names of its modules
(`from carryover.train.recipe import Recipe`), so that the two never meet.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carryover.api import (
        Backbone,
        Dataset,
        Evaluation,
        Model,
        Run,
        dump_backbone,
        evaluate,
        open,
        prepare,
        train,
        transfer,
    )

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "Dataset",
    "Evaluation",
    "Model",
    "Run",
    "__version__",
    "dump_backbone",
    "evaluate",
    "open",
    "prepare",
    "train",
    "transfer",
]


class _Package(ModuleType):
    """This package, whose attribute `train` stays the verb when Python binds the floor of the same name to it."""

    @property
    def train(self) -> Any:
        return __getattr__("train")

    @train.setter
    def train(self, floor: ModuleType) -> None:
        """Leave the floor to sys.modules, where every import by its full name finds it."""


def __getattr__(name: str) -> Any:
    # (`__version__` is there already, and never asked for here.)
    if name in __all__:
        return getattr(importlib.import_module("carryover.api"), name)
    raise AttributeError(f"module 'carryover' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


sys.modules[__name__].__class__ = _Package
