"""Owns what is imported before a rank begins: once for all ranks of a node where they are forked, else in each.

modules   what the ranks of this run will import anyway
spared    what these would import with them and the run never uses: transformers' modelling code takes scipy and
          torchvision for losses of object detection, and accelerate with boto3 for SageMaker
"""

import contextlib
import gc
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Imports:
    """Names of modules; see the module."""

    modules: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()

    def load(self) -> None:
        """Import the modules; the spared ones can be imported later, by whoever asks for them by name.

        One that can't be imported is left for whoever needs it, and has words for what is wrong.
        """
        with _absent(self.spared), _kept_for_good():
            for name in self.modules:
                with contextlib.suppress(Exception):
                    importlib.import_module(name)

    def to_json(self) -> dict[str, Any]:
        """Return the plain form that a spec carries."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Imports":
        """Read the plain form; {} is nothing to import."""
        return cls(tuple(values.get("modules", ())), tuple(values.get("spared", ())))


@contextlib.contextmanager
def _kept_for_good() -> Iterator[None]:
    """Import without looking for garbage, and never look among what was imported: ranks would copy all its pages."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _absent(names: Iterable[str]) -> Iterator[None]:
    """Let modules that are not loaded yet look as if they were not installed, while the block runs."""
    hidden = [name for name in names if name not in sys.modules]
    # None makes `import` raise ModuleNotFoundError and importlib.util.find_spec return None.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, 0) is None:
                del sys.modules[name]
