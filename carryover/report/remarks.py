"""Owns what of a Dataset is worth a second look, the gravest first. Nothing here stops anything; people judge."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carryover.data.manifest import SPLITS, DatasetCard
from carryover.data.portrait import Portrait, Repeated
from carryover.data.schema import Column
from carryover.report.page import number

# From which share on it is said that values are missing, that rows repeat, that one value is nearly all there is.
MISSING, REPEATED, ALWAYS = 0.2, 0.01, 0.99
# Fewer rows than this say little of a class; a class of more than that share makes accuracy say little.
FEW_ROWS, COMMON = 10, 0.9
# Whole numbers that are all different, this close together, number the rows.
LEAST_ROWS, SPREAD = 50, 2
NAMED = 5
# The weight of what prepare-data says in its log too.
GRAVE = 3


@dataclass(frozen=True)
class Remark:
    """One remark: `GRAVE` is 3, 1 is good to know; `column` is "" where it is of the whole."""

    weight: int
    column: str
    words: str


def remarks(card: DatasetCard, portrait: Portrait | None) -> list[Remark]:
    """Return what stands out in a Dataset, the gravest first, then in the columns' order."""
    found = [*_label(card, portrait), *_rows(portrait.repeated if portrait else None), *_drift(card)]
    found += _telling(portrait) if portrait else []
    for column in card.schema.columns:
        if column.name != card.schema.label:
            told = portrait.columns.get(column.name, {}) if portrait else {}
            found += [Remark(weight, column.name, words) for weight, words in _column(column, told)]
    return sorted(found, key=lambda one: -one.weight)


def _label(card: DatasetCard, portrait: Portrait | None) -> Iterator[Remark]:
    label = card.schema.label_column
    counts: Mapping[str, int] = label.statistics.get("counts", {})
    if label.type not in ("categorical", "boxes") or not counts:
        return
    what = "boxes" if label.type == "boxes" else "rows"
    total = sum(counts.values())
    name, most = max(counts.items(), key=lambda item: item[1])
    if most > COMMON * total and len(counts) > 1:
        yield Remark(2, label.name, f"{most / total:.0%} of the {what} are of class “{name}”: look beyond accuracy")
    few = [name for name, count in counts.items() if count < FEW_ROWS]
    if few:
        yield Remark(2, label.name, f"fewer than {FEW_ROWS} {what} in train of {_several(few, 'class', 'classes')}")
    shown = portrait.columns.get(label.name, {}).get("counts", {}) if portrait and portrait.whole else {}
    for split in SPLITS[1:]:
        lacking = [name for name in counts if name not in shown.get(split, ())]
        if shown.get(split) and lacking:
            yield Remark(1, label.name, f"{split} has no row of {_several(lacking, 'class', 'classes')}")


def _rows(repeated: Repeated | None) -> Iterator[Remark]:
    if repeated is None:
        return
    for split, rows in repeated.leaked.items():
        if rows:
            words = f"{rows:,} row{'s' * (rows > 1)} of {split} stand{'s' * (rows == 1)} in train too, label aside"
            yield Remark(GRAVE, "", f"{words}: scores on {split} say too much")
    if repeated.contradicting:
        yield Remark(2, "", f"{repeated.contradicting:,} rows equal another one in all but the label")


def _telling(portrait: Portrait) -> Iterator[Remark]:
    for name, share in portrait.telling.items():
        rows = "all rows" if share == 1 else f"{share:.1%} of the rows"
        words = f"alone tells the label of {rows} of train: is it known before the label is?"
        yield Remark(GRAVE, name, f"{words} (--column-type {name}=null leaves it out)")


def _drift(card: DatasetCard) -> Iterator[Remark]:
    for one in card.lineage.get("drift", ()):
        if one["word"] in ("drifted", "shifted"):
            words = f"{one['word']} since what it follows: PSI {number(one['psi'])}"
            yield Remark(2 if one["word"] == "drifted" else 1, one["column"], words)


def _column(column: Column, shown: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    told = column.statistics
    missing = missing_share(column)
    if missing is not None and missing >= MISSING:
        yield (2 if missing > 0.5 else 1), f"{missing:.0%} of the values are missing"
    if told.get("unreadable"):
        yield 2, f"{told['unreadable']:,} pictures can't be read"
    if column.type == "null":
        yield 1, "not used: no value, one value only, or left out with --column-type"
    if column.type == "categorical":
        yield from _categories(told)
    if column.type == "numerical" and column.arrow == "int64" and _numbers_rows(told, shown):
        yield 2, f"looks like a number of the row: all values differ (--column-type {column.name}=identifier)"


def _categories(told: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    rows, most = sum(told.get("counts", {}).values()), max(told.get("counts", {}).values(), default=0)
    distinct = told.get("distinct")
    if rows and most >= ALWAYS * rows:
        yield 1, f"{most / rows:.1%} of the values are one and the same"
    if distinct is None or (rows > LEAST_ROWS and distinct > rows / 2):
        yield 1, "nearly every row has a value of its own: perhaps an identifier, or text"


def _numbers_rows(told: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    count = told.get("count", 0)
    if count < LEAST_ROWS or shown.get("distinct") is None:
        return False
    return shown["distinct"] >= count and told["max"] - told["min"] < SPREAD * shown["distinct"]


def missing_share(column: Column) -> float | None:
    """Return which share of train's values is missing, None where that is not known."""
    told = column.statistics
    if "missing" not in told:
        return None
    rows = (
        told["missing"] + told["count"] if "count" in told else told["missing"] + sum(told.get("counts", {}).values())
    )
    if column.type == "boxes":
        rows = told["count"]
    return told["missing"] / rows if rows else 0.0


def _several(names: Sequence[str], one: str, more: str) -> str:
    shown = ", ".join(f"“{name}”" for name in names[:NAMED])
    tail = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{one if len(names) == 1 else more} {shown}{tail}"
