"""Owns how the card of an artifact is read: one JSON file that says what kind of thing lies beside it."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from carryover.ground.errors import WrongInput

Card = TypeVar("Card")


def parsed(data: bytes, make: Callable[[Mapping[str, Any]], Card], *, kind: str, format: int, where: str) -> Card:
    """Return what `make` makes of a card's values, once they are known to be of this kind and format.

    Raises:
        WrongInput: when they are not, or lack what `make` needs.
    """
    try:
        value = json.loads(data)
        if value["kind"] != kind:
            raise WrongInput(f"{where}: describes a {value['kind']}, not a {kind}", trouble=f"not-a-{kind}")
        if value["format"] != format:
            raise WrongInput(
                f"{where}: has format {value['format']}; this version reads format {format}; use the one that wrote it",
                trouble=f"not-a-{kind}",
            )
        return make(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, WrongInput):
            raise
        raise WrongInput(
            f"{where}: is not a whole {kind} card ({type(error).__name__}: {error})", trouble=f"not-a-{kind}"
        ) from error
