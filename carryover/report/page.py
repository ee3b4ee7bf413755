"""Owns how a report looks: the page around it, its style, and the small parts of text that reports are made of.

A page is one file: no script, no font and no picture is fetched. Every text from data goes through `escape`.
"""

import html
import math
from collections.abc import Iterable, Sequence

from carryover.report.style import STYLE


def escape(text: object) -> str:
    """Return any text so that HTML shows it as it is, in elements and in quoted attributes."""
    return html.escape(str(text), quote=True)


def number(value: float | None) -> str:
    """Return a number as people read it: four significant digits, "n/a" where there is none."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 2 or value == 0 else f"{value:.1f}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 100 else f"{value:,.4g}"


def page(title: str, lead: str, body: Iterable[str], *, foot: str, style: str = "") -> str:
    """Return the whole HTML document; `title`, `lead` and `foot` are plain text, `body` is HTML, `style` more rules."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>\n'
        + "\n".join(body)
        + f"\n<footer>{escape(foot)}</footer></main></body></html>\n"
    )


def tiles(values: Iterable[tuple[str, float | None]]) -> str:
    """Return named numbers as tiles; the first one stands out."""
    made = [
        f'<div class="tile{" first" if index == 0 else ""}"><b>{number(value)}</b><span>{escape(name)}</span></div>'
        for index, (name, value) in enumerate(values)
    ]
    return f'<div class="tiles">{"".join(made)}</div>'


def card(heading: str, inside: str, *, wide: bool = False) -> str:
    """Return a framed part; `inside` is HTML."""
    return f'<section class="card{" wide" if wide else ""}"><h3>{escape(heading)}</h3>{inside}</section>'


def cards(parts: Iterable[str]) -> str:
    """Return framed parts side by side where there is room."""
    return f'<div class="cards">{"".join(parts)}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: int) -> str:
    """Return a table; cells are HTML, and those from column `numeric` on are set to the right."""

    def cells(kind: str, row: Sequence[str]) -> str:
        parts = (f"<{kind}{' class=num' if index >= numeric else ''}>{cell}</{kind}>" for index, cell in enumerate(row))
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f'<div class="scroll"><table>{cells("th", [escape(head) for head in heads])}{body}</table></div>'


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Return names and values as a two-column table; values are plain text."""
    rows = "".join(
        f'<tr><td class="key">{escape(name)}</td><td><code>{escape(value)}</code></td></tr>' for name, value in pairs
    )
    return f"<table>{rows}</table>"
