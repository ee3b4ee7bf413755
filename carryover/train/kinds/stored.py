"""Owns what kinds of answers read of a stored row beside its label: its picture, and what the source calls it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from carryover.data.looks import picture_of
from carryover.data.schema import Column, Schema
from carryover.data.thumbnail import thumbnail
from carryover.models.columns import as_text
from carryover.report.examples import Example
from carryover.train.kinds.kind import Pass


def identifier(schema: Schema) -> str:
    """Return the column that says what the source calls a row, "" where there is none."""
    return next((column.name for column in schema.columns if column.type == "identifier"), "")


def first_picture(done: Pass, place: int) -> bytes | None:
    """Return the bytes of the picture that a row has, None for one that could not be read."""
    schema = done.card.schema
    column = next(iter([*schema.features("image_path"), *schema.features("image_bytes")]), None)
    return None if column is None else picture_of(cell_of(done, place, column.name))


def named(done: Pass, place: int) -> str:
    """Return a row's number, with its identifier where it has one."""
    row, name = int(done.predicted.rows[place]), identifier(done.card.schema)
    return f"row {row:,}" + (f", {name} {cell_of(done, place, name)}" if name else "")


def cell_of(done: Pass, place: int, name: str) -> Any:
    """Return one stored value of a row."""
    row = done.predicted.rows[place]
    return done.rows.take(np.array([row]), [name]).column(name)[0].as_py()


def examples_of(done: Pass, told: Sequence[tuple[int, str, str, str]]) -> list[Example]:
    """Return rows as a report shows them, with the columns that the Model reads.

    Args:
        told: of each row its place in the pass, what is true, what was told, and how.
    """
    if not told:
        return []
    places = np.array([place for place, *_ in told])
    columns = _read(done)
    table = done.rows.take(done.predicted.rows[places], [column.name for column in columns])
    found = []
    for at, (place, true, answer, how) in enumerate(told):
        cells = {column.name: table[column.name][at].as_py() for column in columns}
        pictures = [cells[column.name] for column in columns if column.type in ("image_path", "image_bytes")]
        found.append(
            Example(
                named(done, place),
                true,
                answer,
                how,
                thumbnail(picture_of(pictures[0])) if pictures else None,
                [(one.name, str(cells[one.name])) for one in columns if one.type == "text" and cells[one.name]],
                [(one.name, _cell(cells[one.name])) for one in columns if one.type in ("numerical", "categorical")],
            )
        )
    return found


def _read(done: Pass) -> list[Column]:
    """Return the columns that the Model reads, in the Dataset's order; all features where it does not say."""
    read = {name for part in done.assembly["branches"] for name in part["columns"]}
    features = done.card.schema.features()
    return [column for column in features if column.name in read] or list(features)


def _cell(value: Any) -> str:
    return "missing" if value is None else f"{value:.6g}" if isinstance(value, float) else as_text(value)
