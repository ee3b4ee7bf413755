"""Owns the data card: what a Dataset is, as a page for people. All numbers stand in dataset.json too.

rows of each split --> the label: rows, boxes or pixels of each class --> the columns --> drift --> where it comes from
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carryover.data.manifest import SPLITS, DatasetCard
from carryover.data.schema import IGNORED_ID, Column
from carryover.report import page
from carryover.report.page import escape, number

SHOWN = 40
# Widest bar of a class, in pixels.
BAR = 160


def dataset_page(card: DatasetCard) -> str:
    """Return a Dataset's card as one HTML file; statistics are those of the train split."""
    schema, rows = card.schema, card.rows()
    lead = f"{schema.problem_type.replace('_', ' ')} of {schema.label} · dataset {card.digest[:12]} · {card.created}"
    tiles: list[tuple[str, float | None]] = [("rows", sum(rows.values())), *((name, rows[name]) for name in SPLITS)]
    parts = [page.card(f"Label {schema.label}", _label(schema.label_column), wide=True)]
    parts.append(page.card("Columns", _columns([one for one in schema.columns if one.name != schema.label]), wide=True))
    if card.lineage.get("drift"):
        parts.append(page.card("Drift", _drift(card.lineage["drift"]), wide=True))
    parts.append(page.card("Where it comes from", page.facts(_origin(card)), wide=True))
    return page.page(
        "Dataset",
        lead,
        [page.tiles(tiles), page.section("Contents", page.cards(parts))],
        foot="Made by carryover prepare-data",
    )


def _label(column: Column) -> str:
    """Return what is told of the label: its classes with bars where it has some."""
    told, kind = column.statistics, column.type
    if kind == "numerical":
        return page.facts(_numbers(told))
    counts = told.get("pixels" if kind == "mask" else "counts", {})
    words = {"boxes": "boxes", "mask": "pixels"}.get(kind, "rows")
    facts = list(_boxes(told)) if kind == "boxes" else []
    return (page.facts(facts) if facts else "") + _classes(counts, words, ignored=kind == "mask")


def _classes(counts: Mapping[str, int], words: str, *, ignored: bool) -> str:
    total, most = sum(counts.values()), max(counts.values(), default=1)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [
        (
            escape(f"{name} (ignored)" if ignored and name == str(IGNORED_ID) else name),
            f'<span class="bar" style="width:{max(1, round(BAR * count / most))}px"></span>',
            f"{count:,}",
            f"{count / total:.1%}",
        )
        for name, count in ranked[:SHOWN]
    ]
    more = f'<p class="soft">and {len(ranked) - SHOWN:,} more with fewer {words}</p>' if len(ranked) > SHOWN else ""
    return page.table(("class", "", words, "share"), rows, numeric=2) + more


def _boxes(told: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "pictures", f"{told['count']:,}, {told['missing']:,} of them without a box"
    yield "boxes", f"{told['boxes']:,}, at most {told['most']:,} in a picture"
    yield "sizes", ", ".join(f"{count:,} {size}" for size, count in told["sizes"].items())
    for reason, count in told.get("dropped", {}).items():
        yield "dropped", f"{count:,} boxes {reason}"


def _columns(columns: Sequence[Column]) -> str:
    rows = [
        (escape(one.name), escape(one.type), escape(_told(one)), number(one.statistics.get("missing")))
        for one in columns[: 10 * SHOWN]
    ]
    more = len(columns) - 10 * SHOWN
    table = page.table(("column", "type", "values", "missing"), rows, numeric=3)
    return table + (f'<p class="soft">and {more:,} columns more</p>' if more > 0 else "")


def _told(column: Column) -> str:
    """Return the few numbers that tell most of a column."""
    told = column.statistics
    if column.type == "numerical":
        return ", ".join(f"{name} {value}" for name, value in _numbers(told))
    if column.type == "categorical":
        distinct = told.get("distinct")
        return f"{number(distinct)} distinct" if distinct is not None else "very many distinct"
    if column.type == "text":
        return f"{told.get('mean_words', 0):.1f} words on average, at most {number(told.get('max_chars'))} letters"
    if column.type == "image_path":
        return f"{number(told.get('images'))} images, {number(told.get('unreadable'))} unreadable"
    return "not used" if column.type == "null" else ""


def _numbers(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, number(told.get(name))) for name in ("mean", "std", "min", "max")]


def _drift(drift: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in drift[:SHOWN]:
        verdict = f"{one['word']}: {one['why']}" if one["why"] else one["word"]
        rows.append((escape(one["column"]), escape(verdict), number(one["psi"]), number(one["chance"])))
    return page.table(("column", "verdict", "PSI", "by chance"), rows, numeric=2)


def _origin(card: DatasetCard) -> Iterator[tuple[str, object]]:
    yield "digest", card.digest
    yield "at", card.at
    for source in card.sources[:SHOWN]:
        yield str(source["role"]), f"{source['uri']} ({source['rows']:,} rows)"
    if len(card.sources) > SHOWN:
        yield "and", f"{len(card.sources) - SHOWN:,} sources more"
    followed = card.lineage.get("schema_from")
    if followed:
        yield "schema from", f"{followed['kind']} {followed['uri']}"
