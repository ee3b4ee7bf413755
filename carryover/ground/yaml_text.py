"""Owns how YAML that a person or a file gives is read: plain values only, and no more of them than the text says.

An alias (*a) repeats what it names, so ten lines may stand for a billion values. Nothing is expanded to find that out.
"""

from collections.abc import Mapping
from typing import Any

import yaml

# A recipe has a few hundred values, and a config of another library a few thousand.
MOST = 1_000_000


def load(text: str) -> Any:
    """Return the values in a YAML text.

    Raises:
        yaml.YAMLError: for text that is no YAML, is nested too deeply, or whose aliases stand for too much.
    """
    try:
        value = yaml.safe_load(text)
        if _count(value, {}) > MOST:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST:,} values")
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply, or holds itself") from None
    return value


def _count(value: Any, known: dict[int, int]) -> int:
    """Return how many values there are with each alias written out; each object is looked at once."""
    if not isinstance(value, Mapping | list | set | tuple):
        return 1
    if id(value) not in known:
        parts = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
        known[id(value)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(value)]
