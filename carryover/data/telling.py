"""Owns which columns alone tell the label: often one that was made of it, or that is known only after it."""

import numpy as np
import pyarrow as pa

from carryover.data.schema import Schema

# A look at so many rows of train is enough, and of fewer than LEAST_ROWS it says nothing.
MOST_ROWS, LEAST_ROWS = 100_000, 100
# Values that nearly each row has alone tell anything; one class that nearly all rows have is told by anything.
ROWS_A_VALUE, COMMON = 10, 0.95
TELLS = 0.999
_TYPES = ("categorical", "numerical")


def columns_asked(schema: Schema) -> list[str]:
    """Return the columns that `telling` looks at, the label last; none where the label is of no classes."""
    if schema.label_column.type != "categorical":
        return []
    return [*(one.name for one in schema.features() if one.type in _TYPES), schema.label]


def telling(rows: pa.Table) -> dict[str, float]:
    """Return column -> share of rows whose label is the most frequent one of their value, where that is nearly all.

    Args:
        rows: of train, the columns of `columns_asked`.
    """
    if rows.num_rows < LEAST_ROWS:
        return {}
    *features, label = rows.column_names
    labels = _codes(rows[label])
    if np.bincount(labels).max() > COMMON * len(labels):
        return {}
    shares = {name: _share(_codes(rows[name]), labels) for name in features}
    return {name: share for name, share in shares.items() if share >= TELLS}


def _share(codes: np.ndarray, labels: np.ndarray) -> float:
    values, classes = int(codes.max()) + 1, int(labels.max()) + 1
    if values * ROWS_A_VALUE > len(codes):
        return 0.0
    pairs, counts = np.unique(codes * classes + labels, return_counts=True)
    most = np.zeros(values, np.int64)
    np.maximum.at(most, pairs // classes, counts)
    return float(most.sum() / len(codes))


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Return int64[rows], which of the column's different values a row has; a missing one is a value too."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
