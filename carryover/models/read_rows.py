"""Owns what happens to rows before any family reads them: columns that become text, values that are left out.

    schema, data --as_read--> the schema that families choose from: converted columns are text
    rows --as_texts--> rows with those columns as text --left_out (training)--> rows with gaps

A missing value becomes a missing text. Values that are left out are missing too, so each family does with them what it
does with any gap, and learns to go without them.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from carryover.data.compute import pc
from carryover.data.config import DataConfig
from carryover.data.order import mix
from carryover.data.schema import Column, Schema
from carryover.models import columns

NUMBER = "number"
_LEFT_OUT = 0x1EF7


def as_read(schema: Schema, data: DataConfig) -> Schema:
    """Return the schema with the columns as text that `data.*.convert_to_text` asks for; never the label."""
    turned = templates(schema, data)

    def turn(column: Column) -> Column:
        if column.name not in turned:
            return column
        return replace(column, type="text", statistics={"missing": column.statistics.get("missing", 0)})

    return replace(schema, columns=tuple(turn(column) for column in schema.columns))


def templates(schema: Schema, data: DataConfig) -> dict[str, str]:
    """Return how each column that becomes text does: column -> template, or `NUMBER`."""
    categories = schema.features("categorical") if data.categorical.convert_to_text else ()
    numbers = schema.features("numerical") if data.numerical.convert_to_text else ()
    words = {column.name: data.categorical.convert_to_text_template for column in categories}
    return words | {column.name: NUMBER for column in numbers}


def as_texts(rows: pa.Table, templates: Mapping[str, str]) -> pa.Table:
    """Return the rows with these columns as text.

    Raises:
        WrongInput: for a column that is not there, or a value that is no number where one is meant.
    """
    columns.require(rows, list(templates))
    for name, template in templates.items():
        if template == NUMBER:
            texts = [_number(value) for value in columns.numbers(rows, name).tolist()]
        else:
            texts = [None if text is None else _said(template, name, text) for text in columns.texts(rows, name)]
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(texts, pa.string()))
    return rows


def left_out(rows: pa.Table, names: Iterable[str], *, probability: float, keys: np.ndarray) -> pa.Table:
    """Return the rows with each value of these columns missing with a probability.

    Args:
        keys: uint64[B]; with the column's name they decide, whatever the other columns are.
    """
    for name in names:
        drawn = mix(keys, _LEFT_OUT, zlib.crc32(name.encode()))
        gone = (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53 < probability
        column = rows.column(name)
        kept = pc.if_else(pa.array(gone), pa.scalar(None, column.type), column)
        rows = rows.set_column(rows.column_names.index(name), name, kept)
    return rows


def _said(template: str, name: str, text: str) -> str:
    return {"direct": text, "list": f"{name}: {text}", "text": f"{name} is {text}", "latex": f"{text} & "}[template]


def _number(value: float) -> str | None:
    """Return six digits, or all of a whole number; AutoMM's three decimals make 0.0004 the same as 0."""
    if np.isnan(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 2.0**53 else f"{value:.6g}"
