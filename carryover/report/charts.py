"""Owns the charts of reports, as inline SVG that takes its colours from the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carryover.report.page import escape, number

WIDTH, HEIGHT = 440, 360
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 46
MOST_POINTS = 1500


@dataclass(frozen=True)
class Axes:
    """Maps data to the drawing: x and y ranges, both with lower < upper."""

    x: tuple[float, float]
    y: tuple[float, float]
    height: int = HEIGHT

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the drawing's coordinates of a point."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), self.height - BOTTOM - up * (self.height - TOP - BOTTOM)


def roc_chart(fpr: np.ndarray, tpr: np.ndarray) -> str:
    """Return the ROC curve with the area under it shaded."""
    axes = Axes((0, 1), (0, 1))
    keep = _spread(len(fpr), MOST_POINTS)
    curve = " ".join(_pair(axes.place(float(fpr[i]), float(tpr[i]))) for i in keep)
    corner, start = _pair(axes.place(1, 0)), _pair(axes.place(0, 0))
    drawn = [
        f'<polygon class="under" points="{start} {curve} {corner}"/>',
        _line("ideal", axes.place(0, 0), axes.place(1, 1)),
        f'<polyline class="curve" points="{curve}"/>',
    ]
    return drawing(axes, drawn, "False positive rate", "True positive rate", "ROC curve")


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name for people, and float64[P] of each axis, in the order they are joined."""

    name: str
    x: np.ndarray
    y: np.ndarray


def lines_chart(
    series: Sequence[Series],
    axes: Axes,
    *,
    x_title: str,
    y_title: str,
    label: str,
    ideal: tuple[tuple[float, float], tuple[float, float]] | None = None,
    dots: bool = False,
) -> str:
    """Return up to six lines, told apart by colour and dashes, with their names below where there are several.

    Args:
        ideal: both ends of a dashed line to compare with.
        dots: whether each point is marked too.
    """
    drawn = [] if ideal is None else [_line("ideal", axes.place(*ideal[0]), axes.place(*ideal[1]))]
    for place, one in enumerate(series):
        keep = _spread(len(one.x), MOST_POINTS)
        points = [axes.place(float(one.x[i]), float(one.y[i])) for i in keep]
        title = f"<title>{escape(one.name)}</title>"
        drawn.append(f'<polyline class="other s{place % 6}" points="{" ".join(map(_pair, points))}">{title}</polyline>')
        if dots:
            drawn += [f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points]
    shown = drawing(axes, drawn, x_title, y_title, label)
    return shown + (keys([one.name for one in series]) if len(series) > 1 else "")


def keys(names: Sequence[str]) -> str:
    """Return what the lines of a chart are, as HTML."""
    items = [
        f'<li><svg viewBox="0 0 26 10" aria-hidden="true"><line class="other s{place % 6}" x1="0" y1="5" x2="26" '
        f'y2="5"/></svg>{escape(name)}</li>'
        for place, name in enumerate(names)
    ]
    return f'<ul class="keys">{"".join(items)}</ul>'


def scatter_chart(truth: np.ndarray, predictions: np.ndarray) -> str:
    """Return predictions over true values with the line where both are equal; at most MOST_POINTS points."""
    keep = _spread(len(truth), MOST_POINTS)
    truth, predictions = truth[keep], predictions[keep]
    both = _range(np.concatenate([truth, predictions]))
    axes = Axes(both, both)
    line = _line("ideal", axes.place(both[0], both[0]), axes.place(both[1], both[1]))
    drawn = [line, *_dots(axes, truth, predictions)]
    return drawing(axes, drawn, "True value", "Prediction", "Predictions over true values")


def residuals_chart(predictions: np.ndarray, errors: np.ndarray) -> str:
    """Return errors over predictions with the line of no error; at most MOST_POINTS points."""
    keep = _spread(len(errors), MOST_POINTS)
    axes = Axes(_range(predictions[keep]), _range(np.append(errors[keep], 0.0)))
    line = _line("ideal", axes.place(axes.x[0], 0), axes.place(axes.x[1], 0))
    drawn = [line, *_dots(axes, predictions[keep], errors[keep])]
    return drawing(axes, drawn, "Prediction", "Prediction minus true value", "Errors over predictions")


def normal_chart(errors: np.ndarray) -> str:
    """Return sorted errors, in units of their standard deviation, over what a normal distribution would give."""
    from scipy.special import ndtri

    ordered = np.sort((errors - errors.mean()) / errors.std())
    expected = ndtri((np.arange(len(ordered)) + 0.5) / len(ordered))
    keep = _spread(len(ordered), MOST_POINTS)
    axes = Axes(_range(expected), _range(np.concatenate([ordered, expected])))
    line = _line("ideal", axes.place(axes.x[0], axes.x[0]), axes.place(axes.x[1], axes.x[1]))
    drawn = [line, *_dots(axes, expected[keep], ordered[keep])]
    return drawing(axes, drawn, "Normal distribution", "Errors, standardised", "Errors against a normal distribution")


def histogram_chart(values: np.ndarray, *, x_title: str, label: str) -> str:
    """Return the counts of values in up to 30 equal bins."""
    low, high = _range(values)
    counts, edges = np.histogram(values, bins=min(30, max(5, round(math.sqrt(len(values))))), range=(low, high))
    return counts_chart(edges, counts, x_title=x_title, label=label)


def counts_chart(
    edges: np.ndarray,
    counts: np.ndarray,
    *,
    x_title: str,
    label: str,
    y_title: str = "Rows",
    before: np.ndarray | None = None,
    height: int = HEIGHT,
) -> str:
    """Return bars between edges [B + 1] as high as counts [B]; `before` [B] is drawn over them as a line of steps."""
    if len(counts) < 3 and _whole(edges):
        # One bar as wide as the chart would be an axis of fractions of a whole number.
        edges = np.concatenate([[edges[0] - 1], edges, [edges[-1] + 1]])
        counts = np.concatenate([[0], counts, [0]])
        before = None if before is None else np.concatenate([[0], before, [0]])
    most = max(1e-9, float(counts.max()), 0.0 if before is None else float(before.max()))
    axes = Axes((float(edges[0]), float(edges[-1])), (0, most * 1.05), height)
    drawn = []
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        x, y = axes.place(left, count)
        end, floor = axes.place(right, 0)
        drawn.append(
            f'<rect class="box" x="{x + 1:.1f}" y="{y:.1f}" width="{max(1, end - x - 2):.1f}" '
            f'height="{floor - y:.1f}"><title>{number(left)} to {number(right)}: {number(count)}</title></rect>'
        )
    if before is not None:
        corners = [axes.place(edge, count) for at, count in enumerate(before.tolist()) for edge in edges[at : at + 2]]
        points = [axes.place(float(edges[0]), 0), *corners, axes.place(float(edges[-1]), 0)]
        drawn.append(f'<polyline class="before" points="{" ".join(map(_pair, points))}"/>')
    return drawing(axes, drawn, x_title, y_title, label, whole=_whole(edges))


def _whole(edges: np.ndarray) -> bool:
    """Tell whether each bar is of one whole number."""
    return bool((np.diff(edges) == 1).all() and (edges % 1 == 0.5).all())


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers from low to high."""
    raw = (high - low) / (most - 1)
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [step * index for index in range(first, first + most + 1) if step * index <= high + step * 1e-9]


def drawing(axes: Axes, drawn: Sequence[str], x_title: str, y_title: str, label: str, *, whole: bool = False) -> str:
    """Return what was drawn, as SVG, inside axes with ticks and titles.

    Args:
        label: what it is, for who can't see it.
        whole: whether only whole numbers have a tick below.
    """
    bottom = axes.height - BOTTOM
    parts = [f'<svg viewBox="0 0 {WIDTH} {axes.height}" role="img" aria-label="{escape(label)}">']
    for value in ticks(*axes.x):
        if whole and not math.isclose(value, round(value), abs_tol=1e-9):
            continue
        x, y = axes.place(value, axes.y[0])
        parts.append(_line("grid", (x, TOP), (x, y)))
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{_tick(value)}</text>')
    for value in ticks(*axes.y, most=6 if axes.height >= 260 else 4):
        x, y = axes.place(axes.x[0], value)
        parts.append(_line("grid", (x, y), (WIDTH - RIGHT, y)))
        parts.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{_tick(value)}</text>')
    parts.append(_line("axis", (LEFT, bottom), (WIDTH - RIGHT, bottom)))
    parts.append(_line("axis", (LEFT, TOP), (LEFT, bottom)))
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + bottom) / 2
    parts.append(f'<text x="{middle_x}" y="{axes.height - 8}" text-anchor="middle">{escape(x_title)}</text>')
    parts.append(
        f'<text transform="translate(10 {middle_y}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>'
    )
    return "".join([*parts, *drawn, "</svg>"])


def _tick(value: float) -> str:
    if 0 < abs(value) < 0.01:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.2g}".replace("e+0", "e").replace("e+", "e")


def _line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'


def _dots(axes: Axes, x: np.ndarray, y: np.ndarray) -> list[str]:
    places = (axes.place(*point) for point in zip(x.tolist(), y.tolist(), strict=True))
    return [f'<circle class="dot" cx="{across:.1f}" cy="{down:.1f}" r="3"/>' for across, down in places]


def _pair(point: tuple[float, float]) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    # A single value still needs a scale to stand on.
    margin = (high - low) * 0.04 or max(abs(low), 1.0) * 0.1
    return low - margin, high + margin


def _spread(count: int, most: int) -> np.ndarray:
    """Return at most `most` indices below `count`, evenly spread, with both ends."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(int))
