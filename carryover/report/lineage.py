"""Owns how a lineage is drawn: as text for a terminal, as an SVG of its own, and as a page.

The picture is one file that fetches nothing, in the reader's light or dark mode; the oldest stands at the top.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from carryover.carry.lineage import Known
from carryover.report import page
from carryover.report.page import escape, number

WIDTH, PAD, LINE, GAP, VALUES = 720, 16, 20, 44, 100
# At 13 px a line of the box holds about so many letters.
LETTERS = 82
SHORT = 12
# Generations that an evaluation's page names.
MOST_SHORT = 6
STYLE = """
.lineage { color-scheme: light dark; --box: #ffffff; --edge: #c9d1dd; --ink: #1b1f27; --soft: #5c6675; --gone: #c95237;
  --accent: #2f5fd0; max-width: 720px; font: 13px system-ui, "Segoe UI", Roboto, sans-serif }
@media (prefers-color-scheme: dark) { .lineage { --box: #1a1f28; --edge: #3a4454; --ink: #e8ebf1; --soft: #9aa5b5;
  --gone: #ff8a6c; --accent: #84a9ff } }
.lineage rect { fill: var(--box); stroke: var(--edge) }
.lineage rect.gone { stroke: var(--gone); stroke-dasharray: 5 4 }
.lineage rect.asked { stroke: var(--accent); stroke-width: 2 }
.lineage text { fill: var(--soft); font-family: inherit; font-size: 13px }
.lineage text.value { fill: var(--ink) }
.lineage text.title { fill: var(--ink); font-weight: 600 }
.lineage text.gone { fill: var(--gone) }
.lineage path { stroke: var(--soft); stroke-width: 1.5; fill: none }
.lineage path.head { fill: var(--soft); stroke: none }
"""


def lineage_text(known: Sequence[Known]) -> str:
    """Return a lineage as lines of text, the one that was asked for at the top, what it was made from below.

    All stand in one column, however long the line is: ● is there, ○ is gone.
    """
    lines: list[str] = []
    for one in known:
        lines.append(f"{'○' if one.gone else '●'} {_title(one)}")
        bar = "│" if one.node.by else " "
        lines += [f"{bar}   {name:<8} {value}" for name, value in _facts(one)]
        if one.node.by:
            lines.append(f"│ {_BY.get(one.node.by, one.node.by)}")
    if known[-1].node.by:
        lines.append(f"○ {OLDER}")
    return "\n".join(line.rstrip() for line in lines)


OLDER = "something older, which is not recorded"
# Read upwards in text and downwards in the drawing.
_BY = {"extend": "extends", "transfer": "took weights of", "dump": "was dumped from"}
_FROM = {"extend": "extends", "transfer": "took weights of", "dump": "dumped from"}
_INTO = {"extend": "extended to", "transfer": "gave weights to", "dump": "dumped as"}


def lineage_svg(known: Sequence[Known]) -> str:
    """Return a lineage as a drawing that is a file by itself."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_drawing(known)}\n'


def lineage_short(nodes: Sequence[Mapping[str, Any]], *, uri: str) -> str:
    """Return a section that tells where a Model comes from, the newest first, and the command that tells all.

    Args:
        nodes: as `chain` gives them, the oldest first.
        uri: of the Model.
    """
    items = []
    for one in reversed(nodes[-MOST_SHORT:]):
        scores = ", ".join(f"{name} {number(value)}" for name, value in one.get("metrics", {}).items())
        rows = f"{one['rows']:,} train rows" if one.get("rows") else ""
        made = str(one.get("made", ""))[:16].replace("T", " ")
        words = [made, rows, scores, f"{_FROM.get(one['by'], one['by'])} the one below" if one.get("by") else ""]
        title = f"<b>{escape(one['kind'])}</b> <code>{escape(str(one['digest'])[:SHORT])}</code>"
        items.append(f'<li>{title} <span class="soft">{escape(" · ".join(filter(None, words)))}</span></li>')
    older = len(nodes) - len(items)
    more = page.note(f"and {older:,} older") if older else ""
    command = shlex.join(["carryover", "lineage", uri, "--html", "lineage.html"])
    tail = f'<p class="soft">What was changed on the way, and what is still there: <code>{escape(command)}</code></p>'
    return page.section("Lineage", page.cards([page.card("Newest first", _list(items) + more + tail, wide=True)]))


def _list(items: Sequence[str]) -> str:
    return f'<ul class="plain">{"".join(items)}</ul>'


def lineage_page(known: Sequence[Known], *, foot: str) -> str:
    """Return a lineage as a page: the drawing, and all that is known of each ancestor."""
    first = known[0].node
    cards = [page.card(_title(one), page.facts(_facts(one, whole=True)), wide=True) for one in known]
    drawn = f'<section class="card wide"><div class="scroll">{_drawing(known)}</div></section>'
    body = [page.cards([drawn]), "<h2>In words, the newest first</h2>", page.cards(cards)]
    count = len(known) - 1
    lead = f"{first.kind} {first.digest} · {count} ancestor{'' if count == 1 else 's'}"
    return page.page("Lineage", lead, body, foot=foot)


def _title(one: Known) -> str:
    node = one.node
    parts = [
        f"{node.kind} {node.digest[:SHORT]}",
        node.made[:16].replace("T", " "),
        f"gone: {one.gone}" if one.gone else "",
    ]
    return " · ".join(part for part in parts if part)


def _facts(one: Known, *, whole: bool = False) -> list[tuple[str, str]]:
    """Return what people want to know of an ancestor, name and words; what is not known is left out."""
    node = one.node
    dataset = node.dataset.get("digest", "")
    facts = [
        ("at", node.uri),
        ("data", " ".join(part for part in _data(dataset, node.rows, node.dataset.get("uri", "")) if part)),
        ("scores", ", ".join(f"{name} {number(value)}" for name, value in node.metrics.items())),
        ("changed", ", ".join(f"{name}: {_value(old)} -> {_value(new)}" for name, (old, new) in one.changed.items())),
        ("teacher", str(node.recipe.get("distiller.teacher", "") or "")),
        ("ended", node.reason),
        ("run", f"{node.run_key} step {node.step}" if node.run_key else ""),
        ("code", f"carryover {node.version}" if node.version else ""),
    ]
    if whole:
        facts.insert(0, ("digest", node.digest))
        facts.append(("recipe", ", ".join(f"{name}={_value(value)}" for name, value in node.recipe.items())))
        facts.append(("gone", one.gone))
    return [(name, words) for name, words in facts if words]


def _data(digest: str, rows: int, uri: str) -> list[str]:
    return [digest[:SHORT], f"({rows:,} train rows)" if rows else "", uri]


def _value(value: Any) -> str:
    return "default" if value is None else json.dumps(value, ensure_ascii=False)


def _drawing(known: Sequence[Known]) -> str:
    parts: list[str] = []
    top = PAD
    newest = len(known) - 1
    for place, one in enumerate(reversed(known)):
        if one.node.by:
            words = _INTO.get(one.node.by, one.node.by)
            parts.append(_arrow(top, words if place else f"{OLDER}, {words}"))
            top += GAP
        facts = _facts(one)
        height = PAD * 2 + LINE * len(facts) + 14
        kind = "asked" if place == newest else "gone" if one.gone else ""
        parts.append(f'<rect class="{kind}" x="{PAD}" y="{top}" width="{WIDTH - 2 * PAD}" height="{height}" rx="10"/>')
        parts.append(_text(_title(one), top + PAD + 10, "title gone" if one.gone else "title"))
        for row, (name, words) in enumerate(facts, 1):
            y = top + PAD + 14 + LINE * row
            parts += [_text(name, y, ""), _text(words, y, "value", x=VALUES)]
        top += height
    size = f'viewBox="0 0 {WIDTH} {top + PAD}" width="{WIDTH}" height="{top + PAD}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="lineage" {size} role="img" aria-label="Lineage">'
    return f"{head}<style>{STYLE}</style>{''.join(parts)}</svg>"


def _text(words: str, y: int, kind: str, *, x: int = PAD * 2) -> str:
    shown = words if len(words) <= LETTERS else f"{words[: LETTERS - 1]}…"
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(shown)}<title>{escape(words)}</title></text>'


def _arrow(top: int, words: str) -> str:
    x = PAD * 3
    return (
        f'<path d="M{x} {top + 4}V{top + GAP - 10}"/><path class="head" d="M{x - 5} {top + GAP - 12}h10l-5 8z"/>'
        f'<text x="{x + 14}" y="{top + GAP / 2 + 4:.0f}">{escape(words)}</text>'
    )
