"""Owns single rows in a report, shown as what they are: texts, a picture, the values of a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from carryover.data.thumbnail import Thumbnail
from carryover.report import page, pictures
from carryover.report.page import escape

# Rows that are shown, letters of a text, and values of a row.
SHOWN, LETTERS, CELLS = 12, 400, 12
STYLE = (
    pictures.STYLE
    + """
.rows { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 22px;
  margin-top: 14px }
.rows > div { min-width: 0; border-top: 3px solid var(--line); padding-top: 10px }
.rows img { display: block; max-width: 100%; max-height: 220px; width: auto; height: auto; border-radius: 6px;
  margin-bottom: 8px }
.rows p { margin: 0 0 8px; overflow-wrap: anywhere }
.rows table.facts td { padding: 3px 8px 3px 0; font-size: 13px; overflow-wrap: anywhere }
.rows table.facts td.key { white-space: normal; width: 40% }
"""
)


@dataclass(frozen=True)
class Example:
    """One row.

    Attributes:
        name: what it is called: its number, its identifier.
        true, told: the label and the answer, as text.
        how: how sure the answer was, or how far off.
        picture: the row's first one, None where it has none.
        texts, cells: names and values of columns.
    """

    name: str
    true: str
    told: str
    how: str
    picture: Thumbnail | None = None
    texts: Sequence[tuple[str, str]] = field(default_factory=tuple)
    cells: Sequence[tuple[str, str]] = field(default_factory=tuple)


def card(heading: str, examples: Sequence[Example], words: str) -> str:
    """Return rows side by side; `words` say which they are, as plain text."""
    shown = "".join(map(_row, examples[:SHOWN]))
    return page.card(heading, page.note(words) + f'<div class="rows">{shown}</div>', wide=True)


def _row(one: Example) -> str:
    parts = [f"<p><b>{escape(one.true)}</b> told as <b>{escape(one.told)}</b>, {escape(one.how)}</p>"]
    if one.picture is not None:
        size = f'width="{one.picture.width}" height="{one.picture.height}"'
        parts.append(f'<img src="{escape(one.picture.uri)}" {size} alt="{escape(one.name)}">')
    for name, text in one.texts:
        cut = text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"
        label = f'<span class="soft">{escape(name)}</span>\n' if len(one.texts) > 1 else ""
        parts.append(f"<blockquote>{label}{escape(cut)}</blockquote>")
    if one.cells:
        parts.append(page.facts(one.cells[:CELLS]))
    more = len(one.cells) - CELLS
    tail = f" · and {more:,} columns more" if more > 0 else ""
    return f"<div>{''.join(parts)}{page.note(one.name + tail)}</div>"
