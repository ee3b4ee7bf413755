"""Owns the small picture of a training in a notebook: its loss, and below it the validation's score, as inline SVG.

The pictures for people to keep are those of carryover/report; this one takes its colours from the page around it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from carryover.report.page import escape, number

if TYPE_CHECKING:
    from carryover.report.curve import Curve, Series

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380, 64, 2, 52, 16, 6
MOST_POINTS = 200
# Readable on white and on black.
LOSS, SCORE = "#3f7ee8", "#d9822b"
_TEXT = 'font-size="9.5" font-family="system-ui, sans-serif" fill="currentColor"'


def spark(curve: "Curve") -> str:
    """Return the training loss and the first validation score over the steps, "" where nothing was logged."""
    named = [("loss", LOSS), *((name, SCORE) for name in curve.checks[:1])]
    shown = [(name, colour, points) for name, colour in named if (points := _points(curve.series.get(name)))]
    if not shown:
        return ""
    last = max(points[-1][0] for _, _, points in shown)
    # The first attempt begins where the picture does.
    starts = [start.step for start in curve.starts if start.attempt > 1]
    rows = [_row(index, *one, last=last, starts=starts) for index, one in enumerate(shown)]
    label = f"{' and '.join(name for name, *_ in shown)} over {last:,} steps"
    box = f"0 0 {WIDTH} {HEIGHT * len(rows)}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}">{"".join(rows)}</svg>'


def _points(series: "Series | None") -> list[tuple[int, float]]:
    """Return (step, value) of the finite values, about MOST_POINTS at most."""
    from carryover.report.curve import thinned

    if series is None:
        return []
    keep = thinned(series.steps, series.values, MOST_POINTS)
    pairs = zip(series.steps[keep].tolist(), series.values[keep].tolist(), strict=True)
    return [(step, value) for step, value in pairs if math.isfinite(value)]


def _row(
    index: int, name: str, colour: str, points: Sequence[tuple[int, float]], *, last: int, starts: Sequence[int]
) -> str:
    """Return one line of the picture: its name, its newest value, and where later attempts began."""
    low, high = min(value for _, value in points), max(value for _, value in points)
    spread = (high - low) or max(abs(high), 1.0)
    top, bottom = index * HEIGHT + TOP, (index + 1) * HEIGHT - BOTTOM

    def across(step: int) -> float:
        return LEFT + step / max(1, last) * (WIDTH - LEFT - RIGHT)

    placed = [(across(step), bottom - (value - low) / spread * (bottom - top)) for step, value in points]
    marks = "".join(
        f'<line x1="{across(step):.1f}" x2="{across(step):.1f}" y1="{top}" y2="{bottom}" stroke="currentColor" '
        f'stroke-opacity=".4" stroke-dasharray="3 3"><title>went on from step {step:,}</title></line>'
        for step in starts
    )
    x, y = placed[-1]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return (
        f'<text x="{LEFT}" y="{top - 4}" {_TEXT} fill-opacity=".7">{escape(name)}</text>{marks}'
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>'
        f'<text x="{x + 6:.1f}" y="{y + 3:.1f}" {_TEXT}>{number(points[-1][1])}</text>'
    )
