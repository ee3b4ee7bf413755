"""Owns how a report looks: the page around it, its style, and the small parts of text that reports are made of.

A page is one file: no script, no font and no picture is fetched. Every text from data goes through `escape`.

    h1 title, lead     h2 section     h3 card, and what opens (details)     footer
"""

import html
import math
import re
from collections.abc import Iterable, Sequence

from carryover.report.style import STYLE

# A page of more than this is slow on a phone, and KFP's UI reads all of it before it shows any.
MOST_BYTES = 3_000_000
_PICTURE = re.compile(r'<(?:img|image)\b[^>]*?"data:image/[^>]*>(?:</image>)?')
# Embeddings and overrides of direction would turn around what stands beside them.
_TURNING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")


def escape(text: object) -> str:
    """Return any text so that HTML shows it as it is, in elements and in quoted attributes.

    Marks that turn the direction of their surroundings and NUL become U+FFFD, lone surrogates a question mark.
    """
    plain = str(text).translate(_TURNING).replace("\0", "\ufffd")
    return html.escape(plain.encode("utf-8", "replace").decode() if not plain.isascii() else plain, quote=True)


def number(value: float | None) -> str:
    """Return a number as people read it: a count as it is, four significant digits, "n/a" where there is none."""
    if isinstance(value, int):
        return f"{value:,}"
    if value is None or not math.isfinite(value):
        return "n/a"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 2 or value == 0 else f"{value:.1f}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 100 else f"{value:,.4g}"


def page(title: str, lead: str, body: Iterable[str], *, foot: str, style: str = "") -> str:
    """Return the whole HTML document; `title`, `lead` and `foot` are plain text, `body` is HTML, `style` more rules.

    Pictures beyond MOST_BYTES are left out, the last ones first, and the foot says how many.
    """
    inside, left_out = _bounded("\n".join(body))
    if left_out:
        foot = f"{foot} · {left_out:,} picture{'s' * (left_out > 1)} left out, so that this page stays below 3 MB"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>\n'
        + inside
        + f"\n<footer>{escape(foot)}</footer></main></body></html>\n"
    )


def _bounded(body: str) -> tuple[str, int]:
    """Return HTML with the pictures for which there is room, and how many others there are."""
    room = MOST_BYTES - len(_PICTURE.sub("", body)) - len(STYLE)
    left_out = 0

    def kept(found: re.Match[str]) -> str:
        nonlocal room, left_out
        room -= len(found[0])
        if room >= 0:
            return found[0]
        left_out += 1
        return "" if found[0].startswith("<image") else '<span class="gone soft">picture left out</span>'

    return (body, 0) if room >= len(body) else (_PICTURE.sub(kept, body), left_out)


def section(heading: str, inside: str) -> str:
    """Return a part of the page under a heading of its own; `inside` is HTML."""
    return f"<h2>{escape(heading)}</h2>{inside}"


def opens(summary: str, inside: str, *, open: bool = False) -> str:
    """Return what opens on a click, with no script; both are HTML."""
    return f"<details{' open' if open else ''}><summary>{summary}</summary>{inside}</details>"


def note(words: str) -> str:
    """Return a line that explains what stands above or below it; `words` are plain text."""
    return f'<p class="soft">{escape(words)}</p>'


def tag(words: str, kind: str = "") -> str:
    """Return a word in a frame; kinds: "" and "warn"."""
    return f'<span class="tag{f" {kind}" if kind else ""}">{escape(words)}</span>'


def tiles(values: Iterable[tuple[str, float | str | None]]) -> str:
    """Return named numbers, or plain texts, as tiles; the first one stands out."""
    made = []
    for index, (name, value) in enumerate(values):
        shown = escape(value) if isinstance(value, str) else number(value)
        kind = "tile first" if index == 0 else "tile"
        made.append(f'<div class="{kind}"><b>{shown}</b><span>{escape(name)}</span></div>')
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
    return f'<div class="scroll"><table class="facts">{rows}</table></div>'
