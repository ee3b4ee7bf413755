"""Owns what it means that new data follow an older schema: the types and classes come from it, every breach is said.

    reference's schema  + what the first pass saw --Following.settle--> columns and classes as the reference has them
                                                                 or one error: all breaches, each with its rows

Column types, the order of columns and classes, and how values are stored are the reference's. Columns that it does not
have are left out, and that is said. One thing gives way: whole numbers become real ones where new values have a point.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from carryover.data import dense_settle, images, problem, values
from carryover.data.columns import IMAGE_SAMPLE, ColumnPlan
from carryover.data.dense import BoxTally, MaskTally
from carryover.data.manifest import DatasetCard
from carryover.data.rows import ARROW_TYPES
from carryover.data.schema import Column, Scalar, Schema
from carryover.data.tally import ColumnTally, LabelTally
from carryover.ground.config import nearest
from carryover.ground.digests import canonical, digest, short
from carryover.ground.errors import WrongInput

SHOWN = 10
# Column type -> what its values must be, in the words of `ColumnTally.wanted`.
WANTED = {"numerical": "number", "image_bytes": "bytes", "null": ""}


@dataclass(frozen=True)
class Reference:
    """A Model or Dataset whose schema new data follow.

    Attributes:
        kind: "model" or "dataset".
        digest: its own.
        uri: as a person named it.
        grow: whether classes that it does not know are appended to its own.
        left_out: columns that were not even read when its data were prepared: they say nothing of a row's split.
        dataset: its Dataset with all shards, None where that is gone.
    """

    kind: str
    digest: str
    uri: str
    schema: Schema
    grow: bool = False
    left_out: frozenset[str] = frozenset()
    dataset: DatasetCard | None = None

    @property
    def name(self) -> str:
        """Return the words for it in messages."""
        return f"{self.kind} {short(self.digest)[:12]}"

    @property
    def unwanted(self) -> frozenset[str]:
        """Return the columns that were left out and are left out again."""
        return self.left_out & {column.name for column in self.schema.columns if column.type == "null"}

    @property
    def wanted(self) -> frozenset[str]:
        """Return the columns that are read."""
        return frozenset(column.name for column in self.schema.columns) - self.unwanted

    def settings(self) -> dict[str, Any]:
        """Return what decides, of all this, what becomes of the new data: its content, not where it lies."""
        schema = self.schema
        told = {
            "label": schema.label,
            "problem_type": schema.problem_type,
            "classes": None if schema.classes is None else list(schema.classes),
            "columns": [[column.name, column.type, column.arrow] for column in schema.columns],
            "left_out": sorted(self.unwanted),
        }
        if renamed := dense_settle.renamed_before(schema):
            told["renamed"] = {str(old): new for old, new in renamed.items()}
        return {"schema_from": digest(canonical(told)), "grow_classes": self.grow}


@dataclass(frozen=True)
class Asked:
    """What a person asks beside the reference, which must agree with it."""

    label: str
    problem_type: str
    column_types: Mapping[str, str]
    ignore_label: int | None = None


@dataclass(frozen=True)
class Followed:
    """What new data are, by their reference."""

    columns: tuple[ColumnPlan, ...]
    problem_type: str
    classes: tuple[Scalar, ...] | None
    counts: Mapping[Scalar, np.ndarray]
    grown: tuple[Scalar, ...]
    unused: tuple[str, ...]
    widened: tuple[str, ...]


@dataclass
class Following:
    """Holds what was seen against a reference; `settle` raises all breaches together.

    Attributes:
        names: columns of the new data.
        rows: how many there are, of all splits.
        tallies: of the columns that were read, made with `wanted_of`.
        label: None where the reference's label is no column of the data.
    """

    reference: Reference
    asked: Asked
    names: Sequence[str]
    rows: int
    tallies: Mapping[str, ColumnTally]
    label: LabelTally | BoxTally | MaskTally | None
    breaches: list[str] = field(default_factory=list)

    def settle(self) -> Followed:
        """Return how the new data are stored.

        Raises:
            WrongInput: names every breach.
        """
        schema = self.reference.schema
        self._check_asked()
        plans = [self._column(column) for column in schema.columns]
        classes, counts, grown = self._label(schema.label_column)
        if self.breaches:
            listed = "; ".join(f"{number}) {words}" for number, words in enumerate(self.breaches, start=1))
            raise WrongInput(
                f"--schema-from {self.reference.uri}: the data do not fit {self.reference.name} "
                f"({len(self.breaches)} breach{'es' * (len(self.breaches) > 1)}): {listed}"
            )
        known = {column.name for column in schema.columns}
        return Followed(
            columns=tuple(plans),
            problem_type="multiclass" if grown and schema.problem_type == "binary" else schema.problem_type,
            classes=classes,
            counts=counts,
            grown=grown,
            unused=tuple(name for name in self.names if name not in known),
            widened=tuple(p.name for p, c in zip(plans, schema.columns, strict=True) if p.stored != c.arrow),
        )

    def _check_asked(self) -> None:
        schema, asked = self.reference.schema, self.asked
        if asked.label not in ("", schema.label):
            self.breaches.append(f"--label {asked.label}: the label is '{schema.label}'")
        allowed = {"", schema.problem_type}
        if schema.problem_type in ("binary", "multiclass"):
            # What was binary once may have grown since.
            allowed |= {"classification"} | ({"binary", "multiclass"} if self.reference.grow else set())
        if asked.problem_type not in allowed:
            self.breaches.append(f"--problem-type {asked.problem_type}: the problem is {schema.problem_type}")
        types = {column.name: column.type for column in schema.columns}
        for name, type in asked.column_types.items():
            if type != types.get(name, "null"):
                what = f"its type is {types[name]}" if name in types else "there is no such column to follow"
                self.breaches.append(f"--column-type {name}={type}: {what}")

    def _column(self, column: Column) -> ColumnPlan:
        """Return how one column is stored, after noting what speaks against it."""
        if column.type == "null":
            return ColumnPlan(column.name, "null", "null", "null")
        if column.name not in self.names and column.type == "identifier":
            # It is of no use to a model, so data without one follow too.
            return ColumnPlan(column.name, column.type, "null", column.arrow)
        if column.name not in self.names:
            known = {one.name for one in self.reference.schema.columns}
            near = nearest(column.name, [name for name in self.names if name not in known])
            meant = f"; is it '{near}' now?" if near else ""
            self.breaches.append(f"column '{column.name}' is missing ({self.rows} rows){meant}")
            return ColumnPlan(column.name, column.type, "null", column.arrow)
        tally = self.tallies.get(column.name)
        kinds = frozenset(tally.kinds) if tally else frozenset()
        if tally and column.name != self.reference.schema.label:
            self._check_values(column, tally)
        physical = values.physical_type(kinds)
        if column.name == self.reference.schema.label and column.arrow == "string":
            # A class is the text it was, "1.50" too, whatever its neighbours are this time.
            physical = "string"
        fractions = column.type == "numerical" and column.arrow == "int64" and not kinds <= {"int", "bool"}
        return ColumnPlan(column.name, column.type, physical, "double" if fractions else column.arrow)

    def _check_values(self, column: Column, tally: ColumnTally) -> None:
        if tally.odd_rows:
            held = " and ".join(sorted(tally.kinds))
            example = f", e.g. {tally.odd_value}" if tally.odd_value and column.type == "numerical" else ""
            self.breaches.append(
                f"column '{column.name}' is {column.type}: {tally.odd_rows} of {self.rows} rows have other values "
                f"({held}){example}"
            )
        elif column.type == "image_bytes" and _stored(tally) not in ("null", column.arrow):
            self.breaches.append(
                f"column '{column.name}' is stored as {column.arrow}: {tally.present} rows have "
                f"{' and '.join(sorted(tally.kinds))}"
            )
        elif column.type == "image_path" and tally.kinds:
            sample = [entry for entry in tally.lowest(IMAGE_SAMPLE) if entry.key is not None]
            if sample and not images.share_opened(sample):
                self.breaches.append(
                    f"column '{column.name}' is image_path: of {len(sample)} values tried none names an image "
                    f"({tally.present} rows)"
                )

    def _label(self, column: Column) -> tuple[tuple[Scalar, ...] | None, dict[Scalar, np.ndarray], tuple[Scalar, ...]]:
        """Return (classes, rows of each by split, new ones among them), after noting what speaks against the label."""
        schema, tally = self.reference.schema, self.label
        if tally is None:
            return schema.classes, {}, ()
        if not isinstance(tally, LabelTally):
            dense = dense_settle.follow(tally, schema, grow=self.reference.grow, ignore=self.asked.ignore_label)
            self.breaches += dense.breaches
            return dense.classes, {}, dense.grown
        if tally.missing:
            self.breaches.append(
                f"label column '{column.name}' has {tally.missing} missing values ({'; '.join(tally.missing_at)})"
            )
        seen = self.tallies[column.name]
        if schema.classes is None:
            if seen.odd_rows:
                self.breaches.append(
                    f"label column '{column.name}': the problem is regression and {seen.odd_rows} of {self.rows} rows "
                    f"have no number, e.g. {seen.odd_value or 'other values'}; these labels would be classes"
                )
            return None, {}, ()
        if tally.counts is None:
            self.breaches.append(
                f"label column '{column.name}': the problem is {schema.problem_type} and the rows have more than "
                f"{problem.CLASS_LIMIT} other values"
            )
            return schema.classes, {}, ()
        counts, unknown = _sorted_out(tally.counts, schema.classes, column.arrow)
        new = self._grown(column, unknown)
        counts |= new
        return (*schema.classes, *new), counts, tuple(new)

    def _grown(self, column: Column, unknown: Mapping[str, np.ndarray]) -> dict[Scalar, np.ndarray]:
        """Return new classes in order, each with its rows; {} where they are a breach."""
        if not unknown:
            return {}
        schema, listed = self.reference.schema, _listed(unknown)
        what = f"label column '{column.name}': {sum(int(r.sum()) for r in unknown.values())} of {self.rows} rows have"
        typed = _typed(list(unknown), column.arrow)
        if _is_a_measure(list(unknown), schema.classes or ()):
            self.breaches.append(
                f"{what} other values ({listed}), a regression's; the problem is {schema.problem_type}"
            )
        elif not self.reference.grow:
            known = ", ".join(map(repr, (schema.classes or ())[:SHOWN]))
            self.breaches.append(
                f"{what} unknown classes: {listed}; the classes are {known}; --grow-classes appends new ones"
            )
        elif typed is None:
            self.breaches.append(f"{what} classes that are no {column.arrow}, as the others are: {listed}")
        elif lone := {text: row for text, row in unknown.items() if not row[:3].sum()}:
            self.breaches.append(f"{what} new classes in --validation-source or --test-source only: {_listed(lone)}")
        else:
            merged: dict[Scalar, np.ndarray] = {}
            for value, row in zip(typed, unknown.values(), strict=True):
                merged[value] = merged.get(value, 0) + row
            return {value: merged[value] for value in problem.sorted_classes(dict.fromkeys(merged, 1))}
        return {}


def wanted_of(column: Column) -> str:
    """Return what a column's values must be, for its tally to count those that are not."""
    if column.type == "mask" or (column.type, column.arrow) == ("identifier", "int64"):
        return "" if column.type == "mask" else "number"
    return WANTED.get(column.type, "text")


def _stored(tally: ColumnTally) -> str:
    return values.physical_type(frozenset(tally.kinds))


def _sorted_out(
    counts: Mapping[str, np.ndarray], classes: Sequence[Scalar], arrow: str
) -> tuple[dict[Scalar, np.ndarray], dict[str, np.ndarray]]:
    """Return (class -> rows, text of no class -> rows), rows as `LabelTally` counts them."""
    own = values.as_text(pa.array(list(classes), ARROW_TYPES[arrow]))
    texts = pa.array(list(counts), pa.string())
    if arrow != "string":
        # 1, 1.0 and "1.00" are one number; as text they would be three classes.
        own, texts = values.canonical(own), values.canonical(texts)
    known = dict(zip(own.to_pylist(), classes, strict=True))
    found: dict[Scalar, np.ndarray] = {}
    unknown: dict[str, np.ndarray] = {}
    for key, text in zip(texts.to_pylist(), counts, strict=True):
        if key in known:
            found[known[key]] = found.get(known[key], 0) + counts[text]
        else:
            unknown[text] = counts[text]
    return found, unknown


def _typed(texts: list[str], arrow: str) -> list[Scalar] | None:
    """Return texts as values of the label's own type, None where one is none."""
    try:
        array = values.to_stored(pa.array(texts, pa.string()), physical="string", stored=arrow)
    except pa.ArrowInvalid:
        return None
    found = array.to_pylist()
    return found if problem.all_finite(dict.fromkeys(found, 1)) else None


def _is_a_measure(unknown: list[str], classes: Sequence[Scalar]) -> bool:
    """Tell whether values that are no class are numbers to be predicted: fractions among whole ones, or very many."""
    found = _typed(unknown, "double")
    if found is None or not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in classes):
        return False
    whole = all(float(value).is_integer() for value in classes)
    fractions = any(not float(value).is_integer() for value in found)
    return (whole and fractions) or len(found) + len(classes) > problem.MOST_CLASSES


def _listed(counts: Mapping[str, np.ndarray]) -> str:
    most = sorted(counts.items(), key=lambda item: (-int(item[1].sum()), item[0]))
    shown = ", ".join(f"{text!r} ({int(row.sum())} rows)" for text, row in most[:SHOWN])
    return shown + (f" and {len(most) - SHOWN} more" if len(most) > SHOWN else "")
