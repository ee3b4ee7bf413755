"""Owns the data card: what a Dataset is, as a page for people.

what stands out --> splits --> the label --> the columns, the gravest remarks first --> drift --> where it comes from

All numbers stand in dataset.json and portrait.json too.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carryover.data.manifest import SPLITS, DatasetCard
from carryover.data.portrait import Portrait, Repeated
from carryover.data.schema import COLUMN_TYPES, Column
from carryover.report import columns, page
from carryover.report.boxes import STYLE
from carryover.report.page import escape, number
from carryover.report.remarks import Remark, remarks

# Beyond these nobody reads on. Columns that are open at first, shown with distributions, and listed at all.
SHOWN, OPEN, DRAWN, LISTED = 40, 6, 120, 400
# Columns of which drift is drawn; and as wide is the bar of a bin, in pixels.
DRIFT_DRAWN, BAR = 12, 110
FULL = 10


def dataset_page(card: DatasetCard, portrait: Portrait | None = None) -> str:
    """Return a Dataset's card as one HTML file; statistics are those of the train split where nothing else is said.

    Args:
        portrait: None for a Dataset of an older version whose rows are not looked at again.
    """
    schema, rows = card.schema, card.rows()
    lead = f"{schema.problem_type.replace('_', ' ')} of {schema.label} · dataset {card.digest[:12]} · {card.created}"
    tiles = [("rows", sum(rows.values())), *((name, rows[name]) for name in SPLITS), ("columns", len(schema.columns))]
    said = remarks(card, portrait)
    shown: Mapping[str, Mapping[str, Any]] = portrait.columns if portrait else {}
    names = [str(name) for name in schema.classes or ()]
    label = columns.label(schema.label_column, shown.get(schema.label, {}), names)
    body = [page.tiles(tiles), page.section("Worth a look", _cards(_remarks(said)))]
    body.append(page.section("Splits", _cards(_splits(card, portrait))))
    body.append(page.section(f"Label “{schema.label}”", _cards(label)))
    body.append(page.section("Columns", _cards(_columns(card, shown, said))))
    if card.lineage.get("drift"):
        body.append(page.section("Drift", _cards(_drift(card.lineage["drift"], card.lineage["schema_from"]))))
    body.append(page.section("Where it comes from", _cards(page.facts(_origin(card)))))
    return page.page("Dataset", lead, body, foot="Made by carryover prepare-data", style=STYLE)


def _cards(*inside: str) -> str:
    parts = "".join(f'<section class="card wide">{part}</section>' for part in inside if part)
    return f'<div class="cards">{parts}</div>'


def _remarks(said: Sequence[Remark]) -> str:
    if not said:
        return "<p>Nothing stands out.</p>"
    items = [
        f"<li>{page.tag('look' if one.weight > 1 else 'note', 'warn' if one.weight > 1 else '')} "
        f"{f'<b>{escape(one.column)}</b>: ' if one.column else ''}{escape(one.words)}</li>"
        for one in said[:SHOWN]
    ]
    more = page.note(f"and {len(said) - SHOWN:,} more, at their columns") if len(said) > SHOWN else ""
    return f'<ul class="plain">{"".join(items)}</ul>{more}'


def _splits(card: DatasetCard, portrait: Portrait | None) -> str:
    rows, total = card.rows(), max(1, sum(card.rows().values()))
    given = {str(source["role"]) for source in card.sources}
    asked = card.settings.get("fractions", {})
    lines = []
    for split in SPLITS:
        made = (
            f"rows of their own (--{split}-source)"
            if split in given
            else f"{asked.get(split, 0):.0%} asked of the source"
        )
        lines.append((split, escape(made), f"{rows[split]:,}", f"{rows[split] / total:.1%}"))
    words = (
        "A row's split is a hash of its features, so equal rows stay together, and a row stays where it is when others "
        "come. Classes too small to split stay in train."
    )
    table = page.table(("split", "how it was made", "rows", "share"), lines, numeric=2) + page.note(words)
    return table + (_repeated(portrait.repeated) if portrait and portrait.repeated else _unknown(portrait))


def _repeated(found: Repeated) -> str:
    rows = [("equal to an earlier row of its split", *(f"{found.within[split]:,}" for split in SPLITS))]
    rows.append(("stand in train too (leaked)", "", *(f"{found.leaked[split]:,}" for split in SPLITS[1:])))
    words = "Rows are equal when all features are, identifiers and the label aside."
    if found.contradicting:
        words += f" {found.contradicting:,} rows equal another one that has another label."
    return page.table(("rows that", *SPLITS), rows, numeric=1) + page.note(words)


def _unknown(portrait: Portrait | None) -> str:
    if portrait is None:
        return page.note(
            "Rows were not looked at one by one: the Dataset is of an older version, or too large to fetch."
        )
    looked = ", ".join(f"{count:,} of {split}" for split, count in portrait.rows.items())
    return page.note(
        f"Distributions are of rows evenly spread over the Dataset ({looked}); repeated ones were not sought."
    )


def _columns(card: DatasetCard, shown: Mapping[str, Mapping[str, Any]], said: Sequence[Remark]) -> str:
    schema, given = card.schema, card.settings.get("column_types", {})
    grave = {one.column: one.weight for one in reversed(said)}
    features = [one for one in schema.columns if one.name != schema.label]
    ordered = sorted(features, key=lambda one: -grave.get(one.name, 0))
    lines = []
    for place, one in enumerate(ordered[:DRAWN]):
        own = [remark for remark in said if remark.column == one.name]
        is_open = len(ordered) <= FULL or place < OPEN
        lines.append(
            columns.details(one, shown.get(one.name, {}), own, given=given.get(one.name) == one.type, open=is_open)
        )
    return "".join(lines) + _others(ordered[DRAWN:]) + _guessed(features, given, schema.label)


def _others(rest: Sequence[Column]) -> str:
    rows = [
        (escape(one.name), escape(one.type), escape(columns.told(one, {})), number(one.statistics.get("missing")))
        for one in rest[: LISTED - DRAWN]
    ]
    more = page.note(f"and {len(rest) - len(rows):,} columns more") if len(rest) > len(rows) else ""
    return page.table(("column", "type", "values", "missing"), rows, numeric=3) + more if rows else ""


def _guessed(features: Sequence[Column], given: Mapping[str, str], label: str) -> str:
    """Return how a guess is put right."""
    guessed = [one.name for one in features if given.get(one.name) != one.type]
    if not guessed:
        return ""
    example = shlex.quote(f"{guessed[0]}=text")
    kinds = ", ".join(kind for kind in COLUMN_TYPES if kind not in ("boxes", "mask"))
    return (
        f'<p class="soft">Types not marked “given” were guessed from the values. To put one right: '
        f"<code>carryover prepare-data … --column-type {escape(example)}</code>, with one of {escape(kinds)}. "
        f"What the label <b>{escape(label)}</b> poses: <code>--problem-type</code>.</p>"
    )


def _drift(drift: Sequence[Mapping[str, Any]], followed: Mapping[str, Any]) -> str:
    """Return what has moved with both distributions, and what has not behind a line."""
    moved = [one for one in drift if one["word"] in ("drifted", "shifted")]
    stable = [one for one in drift if one not in moved]
    words = (
        "PSI is the population stability index: below 0.1 nothing of note has changed, from 0.25 much has (Siddiqi "
        "2006). “By chance” is what it stays below in 99 of 100 cases where nothing has changed; a column below that "
        "is stable."
    )
    parts = [f"<p>Compared with {escape(followed['kind'])} <code>{escape(followed['uri'])}</code>.</p>"]
    parts.append(_verdicts(moved) if moved else "<p>No column has moved.</p>")
    parts.append(page.note(words))
    parts += [_shares(one) for one in moved[:DRIFT_DRAWN] if one.get("shares")]
    if stable:
        parts.append(page.opens(f"<b>{len(stable):,} columns</b> stable or not measured", _verdicts(stable)))
    return "".join(parts)


def _verdicts(drift: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in drift[:LISTED]:
        verdict = f"{one['word']}: {one['why']}" if one["why"] else one["word"]
        kind = "warn" if one["word"] in ("drifted", "shifted") else ""
        missing = " → ".join(f"{share:.1%}" for share in one["missing"])
        unseen = "" if one.get("unseen") is None else f"{one['unseen']:.1%}"
        numbers = number(one["psi"]), number(one["chance"]), missing, unseen
        rows.append((escape(one["column"]), page.tag(verdict, kind) if kind else escape(verdict), *numbers))
    heads = ("column", "verdict", "PSI", "by chance", "missing, before → now", "new values")
    return page.table(heads, rows, numeric=2)


def _shares(one: Mapping[str, Any]) -> str:
    most = max([0.001, *(max(before, now) for _, before, now in one["shares"])])
    rows = []
    for name, before, now in one["shares"]:
        was = f'<span class="was" style="width:{round(BAR * before / most)}px"></span>' if before else ""
        bars = f'<span class="twice">{was}<span style="width:{round(BAR * now / most)}px"></span></span>'
        rows.append((escape(name), bars, f"{before:.1%}", f"{now:.1%}"))
    what = "words of a text" if one["type"] == "text" else "values"
    table = page.table((what, "before (outlined), now", "before", "now"), rows, numeric=2)
    title = f"<b>{escape(one['column'])}</b> {page.tag(one['word'], 'warn' if one['word'] != 'stable' else '')}"
    return page.opens(title, f"<div>{table}</div>", open=True)


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
        yield "new classes", ", ".join(map(str, card.lineage.get("grown", ()))) or "none"
    for name, value in card.settings.items():
        if value not in ("", {}, None):
            shown = ", ".join(f"{key}={one}" for key, one in value.items()) if isinstance(value, Mapping) else value
            yield name.replace("_", " "), shown
