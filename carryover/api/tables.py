"""Owns how rows in memory become what a step reads: an Arrow table, and a Parquet file named by its content.

    pyarrow, pandas, polars, datasets, {column: values}, [{column: value}]  --arrow_of--> pyarrow.Table
    pyarrow.Table --source_of--> <store>/tables/<digest>.parquet            digest of the file's bytes

None of those libraries is imported: what offers Arrow's stream (`__arrow_c_stream__`) is taken at its word. The file is
written as it is given; prepare-data reads it as it reads any other.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.digests import short
from carryover.ground.errors import WrongInput

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = "tables"
STREAM = "__arrow_c_stream__"
_GROUP_ROWS = 65_536


def is_table(given: object) -> bool:
    """Tell rows in memory, which may be wrong ones, from all else."""
    if isinstance(given, Mapping) or hasattr(given, STREAM) or callable(getattr(given, "with_format", None)):
        return True
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        return False
    return len(given) > 0 and all(isinstance(row, Mapping) for row in given)


def arrow_of(rows: Any, *, what: str) -> "pa.Table":
    """Return rows as an Arrow table, without a data frame's index.

    Args:
        what: the argument's name, for messages.

    Raises:
        WrongInput: for what is no table, or a column with values of several kinds.
    """
    import pyarrow as pa

    # datasets.Dataset keeps its rows as Arrow, behind an order of its own.
    if callable(getattr(rows, "with_format", None)) and not hasattr(rows, STREAM):
        rows = rows.with_format("arrow")[:]
    try:
        if isinstance(rows, pa.Table):
            table = rows
        elif hasattr(rows, STREAM):
            table = pa.table(rows)
        elif isinstance(rows, Mapping):
            table = pa.table({str(name): _column(values) for name, values in rows.items()})
        elif isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
            names = list(dict.fromkeys(name for row in rows for name in row))
            table = pa.table({str(name): pa.array([row.get(name) for row in rows]) for name in names})
        else:
            raise WrongInput(
                f"{what}: a {type(rows).__name__} is no table; give a data frame (pandas 2.2 or later), an Arrow "
                "table, a dict of columns, a list of dicts, or the URI of a file",
                trouble="unreadable-data",
            )
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        words = f"{what}: can't be read as a table: {storage.first_line(error)}"
        raise WrongInput(words, trouble="unreadable-data") from error
    return _without_index(table)


def source_of(rows: Any, *, store: str, what: str) -> str:
    """Write rows into the store, once per content, and return the file's URI.

    Raises:
        WrongInput: as `arrow_of`, and for a table without rows.
    """
    import pyarrow.parquet as pq

    from carryover.data.rows import file_digest

    table = arrow_of(rows, what=what)
    if not table.num_rows:
        raise WrongInput(f"{what}: there are no rows", trouble="too-few-rows")
    home = storage.open_store(store)
    with TemporaryDirectory(prefix="carryover-table-") as folder:
        path = Path(folder) / "table.parquet"
        # However it was cut into pieces, and whoever made it, the same rows are the same file.
        plain = table.replace_schema_metadata(None).combine_chunks()
        pq.write_table(plain, path, row_group_size=_GROUP_ROWS, compression="zstd")
        name = f"{TABLES}/{short(file_digest(path))}.parquet"
        if not home.exists(name):
            home.upload(path, name)
    return home.at(name)


def _column(values: Any) -> Any:
    return values if hasattr(values, "__arrow_array__") or hasattr(values, "dtype") else list(values)


def _without_index(table: "pa.Table") -> "pa.Table":
    """Return a table without the columns that pandas made of a data frame's index: row numbers teach nothing."""
    told = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    # (A plain range is described, and is no column.)
    index = [name for name in told.get("index_columns", ()) if isinstance(name, str) and name in table.column_names]
    named = [name for name in index if not name.startswith("__index_level_")]
    if named:
        say(f"index {', '.join(named)}: left out; reset_index() makes it a column")
    return table.drop_columns(index) if index else table
