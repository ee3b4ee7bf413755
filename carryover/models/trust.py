"""Owns whether code that comes in a pickle of others may be run: no, unless a person said so for this start.

It is a word of the command line and never a key of a recipe: a recipe travels, and trust must not travel with it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FLAG = "--trust-pickle"
_trusted: ContextVar[bool] = ContextVar("pickles_trusted", default=False)


@contextmanager
def pickles(*, trusted: bool) -> Iterator[None]:
    """Say for the block whether pickled weights may hold more than tensors."""
    token = _trusted.set(trusted)
    try:
        yield
    finally:
        _trusted.reset(token)


def run_pickles(source: str) -> "dict[str, Tensor] | None":
    """Return the pickled weights of a transformers folder or hub name, running whatever they hold; None without any.

    (transformers 5 takes `weights_only=False` and does not pass it on.)
    """
    import torch
    from transformers.utils.hub import cached_file

    def find(name: str) -> str | None:
        return cached_file(source, name, _raise_exceptions_for_missing_entries=False)

    if find("model.safetensors") or find("model.safetensors.index.json"):
        return None
    if index := find("pytorch_model.bin.index.json"):
        files = sorted(set(json.loads(Path(index).read_text())["weight_map"].values()))
    else:
        files = ["pytorch_model.bin"]
    found: dict[str, Tensor] = {}
    for path in filter(None, map(find, files)):
        found |= torch.load(path, map_location="cpu", weights_only=False)  # noqa: TID251 - a person trusts it
    return found or None


def run_pickle(path: Path) -> object:
    """Return what one pickled file holds, running whatever is in it; for a caller that asked `pickles_are_trusted`."""
    import torch

    return torch.load(path, map_location="cpu", weights_only=False)  # noqa: TID251 - a person trusts it


def pickles_are_trusted() -> bool:
    """Tell whether pickled weights may hold more than tensors, which may run as code."""
    return _trusted.get()
