"""Owns how an Arrow column becomes numbers or text, whatever its stored type; missing stays missing.

The same rules hold at training, at evaluation and for a later file whose types were inferred otherwise: the number 1,
the number 1.0 and the text "1" are one category, so a Model does not depend on how a file happened to be written.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from carryover.ground.errors import WrongInput


def texts(rows: pa.Table, name: str) -> list[str | None]:
    """Return one column as text, None where it is missing; whole floating numbers read as whole ("1", not "1.0")."""
    column = rows.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        return [None] * len(column)
    if pa.types.is_floating(column.type):
        return _floats_as_text(column)
    elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        raise WrongInput(f"column '{name}': bytes cannot be read as text; give the column another type")
    elif not _is_text(column.type) and not _is_simple(column.type):
        return [None if value is None else str(value) for value in column.to_pylist()]
    return pc.cast(column, pa.large_string()).to_pylist()


def numbers(rows: pa.Table, name: str) -> np.ndarray:
    """Return one column as float64[B], NaN where it is missing or not finite.

    Raises:
        WrongInput: names the column and the first value that is not a number.
    """
    column = rows.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.int8())
    if _is_text(column.type):
        values = _parsed(column.to_pylist(), name)
    else:
        try:
            values = np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise WrongInput(f"column '{name}': {column.type} cannot be read as numbers") from error
    return np.where(np.isfinite(values), values, np.nan)


def as_text(value: object) -> str:
    """Return a JSON scalar as `texts` would give it, so that stored classes and categories meet what rows hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return pc.cast(pa.scalar(value), pa.large_string()).as_py()
    return str(value)


def require(rows: pa.Table, names: Sequence[str]) -> None:
    """Raise WrongInput, naming all, when columns are missing."""
    missing = [name for name in names if name not in rows.column_names]
    if missing:
        raise WrongInput(f"columns missing: {', '.join(missing)}; there are {', '.join(rows.column_names)}")


def _floats_as_text(column: pa.ChunkedArray) -> list[str | None]:
    texts = pc.cast(column, pa.large_string()).to_pylist()
    return [None if text is None or text == "nan" else text for text in texts]


def _parsed(values: list[str | None], name: str) -> np.ndarray:
    parsed = np.full(len(values), np.nan)
    for index, value in enumerate(values):
        if value is None or not value.strip():
            continue
        try:
            parsed[index] = float(value)
        except ValueError:
            raise WrongInput(f"column '{name}': {value!r} is not a number, but the model reads numbers there") from None
    return parsed


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_simple(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
