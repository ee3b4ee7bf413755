"""Owns what kinds of answers read of a stored row beside its label: its picture, and what the source calls it."""

from typing import Any

import numpy as np

from carryover.data.schema import Schema
from carryover.train.kinds.kind import Pass


def identifier(schema: Schema) -> str:
    """Return the column that says what the source calls a row, "" where there is none."""
    return next((column.name for column in schema.columns if column.type == "identifier"), "")


def first_picture(done: Pass, place: int) -> bytes | None:
    """Return the bytes of the picture that a row has, None for one that could not be read."""
    schema = done.card.schema
    column = next(iter([*schema.features("image_path"), *schema.features("image_bytes")]), None)
    cell = None if column is None else cell_of(done, place, column.name)
    return next(iter(cell), None) if isinstance(cell, list) else cell


def named(done: Pass, place: int) -> str:
    """Return a row's number, with its identifier where it has one."""
    row, name = int(done.predicted.rows[place]), identifier(done.card.schema)
    return f"row {row:,}" + (f", {name} {cell_of(done, place, name)}" if name else "")


def cell_of(done: Pass, place: int, name: str) -> Any:
    """Return one stored value of a row."""
    row = done.predicted.rows[place]
    return done.rows.take(np.array([row]), [name]).column(name)[0].as_py()
