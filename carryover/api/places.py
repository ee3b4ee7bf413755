"""Owns how what people hand to a verb (a result, a path, a URI, rows by mistake) becomes the word that a step takes."""

import os
from collections.abc import Iterable
from typing import Any

from carryover.api.tables import is_table
from carryover.ground import storage
from carryover.ground.errors import WrongInput


def word(given: Any, *, what: str, verb: str = "carryover.prepare(rows, label=...)") -> str:
    """Return the URI, path, run:KEY or champion:NAME that `given` is or stands for, "" for None.

    Args:
        what: the argument's name, for messages.
        verb: how rows become what is meant.

    Raises:
        WrongInput: for rows in memory, and for what names nothing.
    """
    if given is None:
        return ""
    if isinstance(given, (str, os.PathLike)):
        return os.fspath(given)
    if isinstance(own := getattr(given, "word", None), str):
        return own
    if is_table(given):
        raise WrongInput(f"{what}: rows in memory are no {what} yet; make one of them by {verb}")
    raise WrongInput(f"{what}: a {type(given).__name__} is not possible; give a result, a path or a URI")


def words(given: Any, *, what: str) -> list[str]:
    """Return the same for one or several, [] for none."""
    several = isinstance(given, Iterable) and not isinstance(given, (str, os.PathLike)) and not is_table(given)
    return [word(one, what=what) for one in (given if several else [given]) if one is not None]


def store_among(store: str | os.PathLike[str], *given: Any) -> str:
    """Return the store that is given, else the one that a result among the arguments lies in, "" for neither."""
    return os.fspath(store) or next((own for one in given if (own := getattr(one, "store", ""))), "")


def store_of(uri: str, folder: str) -> str:
    """Return the store that <store>/<folder>/<name> lies in, "" for any other place."""
    parent, _ = storage.split(uri)
    store, name = storage.split(parent)
    return store if name == folder else ""
