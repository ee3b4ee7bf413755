"""Owns charts of what happens over optimizer steps, as inline SVG: lines with gaps, attempts' beginnings, the best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carryover.report.charts import Axes, drawing
from carryover.report.curve import Series, running_mean, thinned
from carryover.report.page import escape, note, number

HEIGHT = 280
MOST_POINTS, MOST_TITLES = 600, 120
# Of so few points each is marked, and of so many beginnings each is numbered.
FEW_POINTS, FEW_MARKS = 40, 12
# Of so many points a mean over a part of them is drawn too.
MANY_POINTS, SMOOTHED_PARTS = 150, 25
STYLE = """
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
svg .line.k0 { stroke: var(--s0) } svg .line.k1 { stroke: var(--s1) } svg .line.k2 { stroke: var(--s2) }
svg .line.k3 { stroke: var(--s3) }
svg .line.raw { stroke-width: 1; opacity: .35 }
svg .point { stroke: none } svg .point.k0 { fill: var(--s0) } svg .point.k1 { fill: var(--s1) }
svg .point.k2 { fill: var(--s2) } svg .point.k3 { fill: var(--s3) }
svg .hover { fill: transparent }
svg .start { stroke: var(--soft); stroke-dasharray: 3 3; stroke-width: 1 }
svg text.start { stroke: none; font-size: 10.5px }
svg .nothing { stroke: rgb(var(--wrong-rgb)); stroke-width: 1.6 }
svg .best { fill: none; stroke: var(--ink); stroke-width: 1.6 }
"""


@dataclass(frozen=True)
class Mark:
    """A vertical line: an attempt that began at this step; its name, all there is to say of it, and that in brief."""

    step: float
    name: str
    words: str
    short: str = ""


def course_chart(
    lines: Sequence[tuple[str, Series]],
    *,
    y_title: str,
    label: str,
    marks: Sequence[Mark] = (),
    best: tuple[float, float] | None = None,
    unit: str = "",
    exact: bool = False,
) -> str:
    """Return up to four lines over steps, with their names below where there are several.

    A value that is no finite number is a gap with a cross below. Many points are paler, beside their running mean.
    Hovering over a point tells it.

    Args:
        marks: beginnings of attempts.
        best: (step, value) that gets a ring.
        unit: told behind each value.
        exact: draw no mean: the values are no measurements.
    """
    values = np.concatenate([one.values for _, one in lines]) if lines else np.empty(0)
    if not np.isfinite(values).any():
        return note("no finite number was measured")
    steps = np.concatenate([one.steps for _, one in lines])
    axes = Axes(_room([*steps, *(mark.step for mark in marks)], 0.02), _room(values[np.isfinite(values)], 0.06), HEIGHT)
    drawn = [_mark(mark, axes, named=len(marks) <= FEW_MARKS) for mark in marks]
    for kind, (name, one) in enumerate(lines):
        drawn += _line(name, one, axes, f"k{kind % 4}", unit, exact=exact)
    if best:
        drawn.append(_dot("best", axes.place(*best), 5))
    shown = drawing(axes, drawn, "Optimizer step", y_title, label)
    return shown + (_keys([name for name, _ in lines]) if len(lines) > 1 else "")


def _line(name: str, one: Series, axes: Axes, kind: str, unit: str, *, exact: bool) -> list[str]:
    keep = thinned(one.steps, one.values, MOST_POINTS)
    steps, values = one.steps[keep], one.values[keep]
    places = [axes.place(float(step), float(value)) for step, value in zip(steps, values, strict=True)]
    drawn = []
    if len(one.values) > MANY_POINTS and not exact:
        # The points themselves are paler, and what is said of one is its own value.
        drawn = [_path(f"line raw {kind}", part, places) for part in _stretches(values)]
        means = running_mean(one.values, len(one.values) // SMOOTHED_PARTS)[keep]
        middle = [axes.place(float(step), float(value)) for step, value in zip(steps, means, strict=True)]
        drawn += [_path(f"line {kind}", part, middle) for part in _stretches(means)]
    for part in _stretches(values) if not drawn else []:
        drawn.append(_path(f"line {kind}", part, places))
        if len(values) <= FEW_POINTS or len(part) == 1:
            drawn += [_dot(f"point {kind}", places[i], 2.6) for i in part]
    for i in range(0, len(keep), max(1, len(keep) // MOST_TITLES)):
        if np.isfinite(values[i]):
            told = f"{name}, step {int(steps[i]):,}: {number(float(values[i]))}{unit}"
            drawn.append(_dot("hover", places[i], 6, told))
    return drawn + [_cross(int(steps[i]), name, axes) for i in np.flatnonzero(~np.isfinite(values))]


def _path(kind: str, part: np.ndarray, places: Sequence[tuple[float, float]]) -> str:
    pairs = " ".join(f"{places[i][0]:.1f},{places[i][1]:.1f}" for i in part)
    return f'<polyline class="{kind}" points="{pairs}"/>'


def _dot(kind: str, at: tuple[float, float], radius: float, told: str = "") -> str:
    place = f'class="{kind}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius}"'
    return f"<circle {place}><title>{escape(told)}</title></circle>" if told else f"<circle {place}/>"


def _cross(step: int, name: str, axes: Axes) -> str:
    x, y = axes.place(step, axes.y[0])
    path = f"M{x - 4:.1f} {y - 9:.1f}l8 8m0 -8l-8 8"
    told = f"{name}, step {step:,}: no finite number"
    return f'<path class="nothing" d="{path}"><title>{escape(told)}</title></path>'


def _mark(mark: Mark, axes: Axes, *, named: bool) -> str:
    x, bottom = axes.place(mark.step, axes.y[0])
    top = axes.place(mark.step, axes.y[1])[1]
    line = f'<line class="start" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
    words = f'<text class="start" x="{x + 3:.1f}" y="{top + 9:.1f}">{escape(mark.name)}</text>' if named else ""
    return f"<g>{line}{words}<title>{escape(mark.words)}</title></g>"


def _keys(names: Sequence[str]) -> str:
    items = [
        f'<li><svg viewBox="0 0 26 10" aria-hidden="true"><line class="line k{place % 4}" x1="0" y1="5" x2="26" '
        f'y2="5"/></svg>{escape(name)}</li>'
        for place, name in enumerate(names)
    ]
    return f'<ul class="keys">{"".join(items)}</ul>'


def _stretches(values: np.ndarray) -> list[np.ndarray]:
    """Return the indices of finite values, in stretches without a gap."""
    known = np.flatnonzero(np.isfinite(values))
    return [part for part in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if len(part)]


def _room(values: Sequence[float] | np.ndarray, part: float) -> tuple[float, float]:
    low, high = float(min(values)), float(max(values))
    margin = (high - low) * part or max(abs(low), 1.0) * 0.05
    return low - margin, high + margin
