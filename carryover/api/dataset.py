"""Owns Dataset: prepared rows as a notebook has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from carryover.api import cards
from carryover.api.places import store_of
from carryover.api.preview import Preview
from carryover.api.saying import spoken
from carryover.ground.config import check
from carryover.ground.errors import WrongInput

if TYPE_CHECKING:
    import pyarrow as pa

    from carryover.data.manifest import DatasetCard


@dataclass(frozen=True, repr=False)
class Dataset:
    """Typed columns in three splits, in a store.

    Attributes:
        uri: its folder.
        digest: of its content, 64 hex characters: the same rows give the same one, wherever they came from.
        store: the store that it lies in, "" where it lies elsewhere.
        label: the column to predict.
        problem_type: "binary", "multiclass", "regression", "object_detection" or "semantic_segmentation".
        classes: the label's values, in order; None for a regression.
        rows: split -> its number of rows.
        schema: column -> type, the label among them; "null" is kept out.
        changed: whether it was written now; None where it was opened.
        report: path or URI of the data card as a page, "" where there is none.
        result: all that the step said, {} where it was opened.
    """

    uri: str
    digest: str
    store: str
    label: str
    problem_type: str
    classes: tuple[bool | int | float | str, ...] | None
    rows: Mapping[str, int] = field(compare=False)
    schema: Mapping[str, str] = field(compare=False)
    changed: bool | None = field(default=None, compare=False)
    report: str = field(default="", compare=False)
    result: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def word(self) -> str:
        """Return what names it to a step."""
        return self.uri

    @spoken()
    def head(self, count: int = 5, split: str = "train") -> Preview:
        """Return the first rows of a split, which show themselves as a table.

        Raises:
            WrongInput: for a split that is not there.
        """
        check(count >= 0, "count", count, "0 or more")
        tables = []
        with TemporaryDirectory(prefix="carryover-head-") as folder:
            for table in self._groups(split, Path(folder)):
                tables.append(table.slice(0, count - sum(one.num_rows for one in tables)))
                if sum(one.num_rows for one in tables) >= count:
                    break
        return Preview(_joined(tables, self))

    @spoken()
    def to_arrow(self, split: str = "train") -> "pa.Table":
        """Return all rows of a split, in memory; pictures are their files' bytes.

        Raises:
            WrongInput: for a split that is not there, or a shard whose bytes are not those that were written.
        """
        with TemporaryDirectory(prefix="carryover-rows-") as folder:
            return _joined(list(self._groups(split, Path(folder))), self)

    def _groups(self, split: str, folder: Path) -> Any:
        from carryover.data.rows import row_groups

        card = self._card()
        if split not in card.splits:
            known = ", ".join(card.splits)
            raise WrongInput(f"there is no split '{split}'; there are {known}", trouble="wrong-value")
        return row_groups(card, split, folder)

    def _card(self) -> "DatasetCard":
        from carryover.data.manifest import load_card

        return load_card(self.uri)

    def __repr__(self) -> str:
        rows = ", ".join(f"{name} {count:,}" for name, count in self.rows.items())
        return f"Dataset({self.label}: {self.problem_type}; {rows}; {self.digest[:12]} at {cards.near(self.uri)})"

    def _repr_html_(self) -> str:
        columns = [(name, kind) for name, kind in self.schema.items() if name != self.label]
        label = f"{self.label}, {self.problem_type}"
        drift = [f"{one['column']} {one['psi']:.2f}" for one in self.result.get("drift", ()) if one["psi"] is not None]
        facts = [
            ("label", label + (f": {cards.listed(self.classes)}" if self.classes else "")),
            *((f"{name}", cards.listed(found)) for name, found in _by_type(columns).items()),
            ("drift (PSI)", cards.listed(drift, most=4)),
            ("place", cards.near(self.uri)),
        ]
        tiles = [(f"{name} rows", count) for name, count in self.rows.items()]
        return cards.Card("Dataset", "", self.digest, tiles, facts, report=self.report).html()


def dataset_of(uri: str, result: Mapping[str, Any] | None = None, *, report: str = "") -> Dataset:
    """Open a Dataset by the URI of its folder or card.

    Args:
        result: of the step that made it just now.

    Raises:
        WrongInput: when there is none.
    """
    from carryover.data.manifest import load_card

    card, told = load_card(uri), result or {}
    where = card.location or card.at
    return Dataset(
        uri=where,
        digest=card.digest,
        store=store_of(where, "datasets"),
        label=card.schema.label,
        problem_type=card.schema.problem_type,
        classes=card.schema.classes,
        rows=card.rows(),
        schema={column.name: column.type for column in card.schema.columns},
        changed=told.get("changed"),
        report=str(told.get("report") or report),
        result=told,
    )


def _by_type(columns: list[tuple[str, str]]) -> dict[str, list[str]]:
    words = {"null": "left out"}
    found: dict[str, list[str]] = {}
    for name, kind in columns:
        found.setdefault(words.get(kind, kind), []).append(name)
    return found


def _joined(tables: "list[pa.Table]", dataset: Dataset) -> "pa.Table":
    import pyarrow as pa

    from carryover.data.rows import arrow_schema

    return pa.concat_tables(tables) if tables else arrow_schema(dataset._card().schema).empty_table()
