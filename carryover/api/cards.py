"""Owns how results show themselves in a notebook: one small card of HTML, which needs no file, no script and no theme.

    kind  title                digest
    [ tile ] [ tile ] [ tile ]
    name    value              facts, a table
    inside                     HTML of the result's own: columns, a curve
    report                     a link, where the page lies below the notebook's folder; else its place

Colours are those around the card (a notebook's, a web page's), so light and dark need no rule. All text is escaped.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from carryover.ground import storage
from carryover.report.page import escape, number

LINE = "color-mix(in srgb, currentColor 22%, transparent)"
_RULES = f"""
.carryover {{ font: 13px/1.45 system-ui, "Segoe UI", Roboto, sans-serif; color: inherit; max-width: 760px;
  border: 1px solid {LINE}; border-radius: 8px; padding: 12px 14px; margin: 4px 0; box-sizing: border-box }}
.carryover .top {{ display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: baseline; margin-bottom: 8px }}
.carryover .top b {{ font-size: 15px }}
.carryover .soft, .carryover .top code {{ opacity: .66; font-size: 12px }}
.carryover .tiles {{ display: flex; flex-wrap: wrap; gap: 6px 26px; margin: 0 0 8px }}
.carryover .tile b {{ display: block; font-size: 18px; font-weight: 600; font-variant-numeric: tabular-nums }}
.carryover .tile span {{ opacity: .66; font-size: 12px }}
.carryover .wide {{ overflow-x: auto }}
.carryover .wide + .wide {{ margin-top: 12px }}
.carryover table {{ border-collapse: collapse; margin: 0; font-size: 13px; border: 0; width: auto; display: table }}
.carryover tr {{ background: none !important; border: 0 }}
.carryover th, .carryover td {{ text-align: left; padding: 3px 14px 3px 0; border: 0; border-bottom: 1px solid {LINE};
  vertical-align: top; color: inherit; background: none; max-width: 460px; overflow-wrap: anywhere; min-width: 0 }}
.carryover td.key, .carryover th {{ opacity: .66; font-weight: 500; white-space: nowrap }}
.carryover td.key, .carryover td.word {{ overflow-wrap: normal }}
.carryover td.num, .carryover th.num {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }}
.carryover tr:last-child > td {{ border-bottom: 0 }}
.carryover code {{ font: 12px ui-monospace, Menlo, Consolas, monospace; color: inherit; background: none; padding: 0;
  white-space: normal; overflow-wrap: anywhere }}
.carryover svg {{ display: block; width: 100%; max-width: 500px; height: auto; margin-top: 10px }}
.carryover .foot {{ margin-top: 8px }}
"""
# The class twice: so these rules win over those that a notebook has for all tables.
STYLE = _RULES.replace(".carryover", ".carryover.carryover")


@dataclass(frozen=True)
class Card:
    """What one result says of itself; `inside` is HTML, everything else plain text.

    Attributes:
        report: path or URI of the full page, "" for none.
    """

    kind: str
    title: str
    digest: str
    tiles: Sequence[tuple[str, float | None]] = ()
    facts: Sequence[tuple[str, object]] = ()
    inside: str = ""
    report: str = ""

    def html(self) -> str:
        """Return the card."""
        digest = f"<code>{escape(self.digest[:12])}</code>" if self.digest else ""
        top = f'<div class="top"><b>{escape(self.kind)}</b><span>{escape(self.title)}</span>{digest}</div>'
        parts = [top, _tiles(self.tiles), _facts(self.facts), self.inside, _report(self.report)]
        return f'<div class="carryover"><style>{STYLE}</style>{"".join(parts)}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> str:
    """Return a table of plain texts; columns `numeric` are set to the right."""

    def line(kind: str, cells: Sequence[object]) -> str:
        made = (f"<{kind}{_side(index, numeric)}>{escape(cell)}</{kind}>" for index, cell in enumerate(cells))
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f'<div class="wide"><table>{line("th", heads)}{body}</table></div>'


def listed(words: Iterable[object], *, most: int = 8) -> str:
    """Return words one after the other, and how many more there are."""
    every = [str(word) for word in words]
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def near(place: str) -> str:
    """Return a place as a person in this folder would write it: relative where it is below, else as it is."""
    if not place or storage.scheme_of(place) != "file":
        return place
    path = storage.normal(place)
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _side(index: int, numeric: Sequence[int]) -> str:
    return ' class="num"' if index in numeric else ' class="word"' if index == 0 else ""


def _tiles(tiles: Sequence[tuple[str, float | None]]) -> str:
    def shown(value: float | None) -> str:
        # A count of one is no 1.0, as a score may be.
        return f"{value:,}" if isinstance(value, int) else number(value)

    made = (f'<div class="tile"><b>{shown(value)}</b><span>{escape(name)}</span></div>' for name, value in tiles)
    return f'<div class="tiles">{"".join(made)}</div>' if tiles else ""


def _facts(facts: Sequence[tuple[str, object]]) -> str:
    told = [(name, value) for name, value in facts if value not in ("", None)]
    rows = "".join(f'<tr><td class="key">{escape(name)}</td><td>{escape(value)}</td></tr>' for name, value in told)
    return f'<div class="wide"><table>{rows}</table></div>' if rows else ""


def _report(place: str) -> str:
    if not place:
        return ""
    shown = near(place)
    # A notebook's server serves what lies below its folder; a browser opens nothing else of this machine from there.
    if storage.scheme_of(place) == "file" and not os.path.isabs(shown):
        return f'<div class="foot"><a href="{escape(quote(shown))}" target="_blank">full report</a></div>'
    return f'<div class="foot soft">full report: <code>{escape(shown)}</code></div>'
