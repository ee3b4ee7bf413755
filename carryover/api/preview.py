"""Owns Preview: a few rows that show themselves as a table, for those who have no data frames at hand."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carryover.api import cards

if TYPE_CHECKING:
    import pyarrow as pa

# A cell of a notebook is read at a glance.
MOST_TEXT = 120


@dataclass(frozen=True, repr=False)
class Preview:
    """Rows to look at; `table` has them whole, and goes into any library that reads Arrow."""

    table: "pa.Table"

    def __len__(self) -> int:
        return self.table.num_rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Let pandas, polars and others take the rows as they are."""
        return self.table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        names = self.table.column_names
        lines = [names, *([str(cell) for cell in row] for row in self._cells(40))]
        widths = [max(len(line[index]) for line in lines) for index in range(len(names))]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        names = self.table.column_names
        numeric = [index for index, field in enumerate(self.table.schema) if str(field.type) in ("int64", "double")]
        inside = cards.table(names, self._cells(MOST_TEXT), numeric=numeric)
        return cards.Card("Rows", f"{len(self):,}, columns {len(names)}", "", inside=inside).html()

    def _cells(self, most: int) -> list[list[str]]:
        return [[_shown(value, most) for value in row.values()] for row in self.table.to_pylist()]


def _shown(value: Any, most: int) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list):
        return f"[{', '.join(_shown(one, most) for one in value[:3])}{', …' if len(value) > 3 else ''}]"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
