"""Owns curves as pictures: PNG and SVG by matplotlib, which is imported when one is drawn and never before.

    loss.png  val_<metric>.png  learning_rate.png  rows_per_second.png  ...      each also as .svg

Training and validation of one measure share a picture. Attempts begin at dashed lines, the best validation has a ring,
what was no finite number is a gap with a cross. The background is light, so that they read on dark pages too.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from carryover.report.course import Mark
from carryover.report.curve import LOSS, RATE, SPEED, VAL_LOSS, Curve, Series, running_mean, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS, FEW_POINTS, FEW_MARKS = 2000, 60, 10
# Of so many points a mean over a part of them is drawn too, and the points themselves are paler.
MANY_POINTS, SMOOTHED_PARTS = 150, 25
PAPER, INK, SOFT, GRID, WRONG = "#fbfbfd", "#1b1f27", "#5c6675", "#e1e5ec", "#c95237"
COLOURS = ("#2f5fd0", "#b8431f", "#0f7a5c", "#8244b8", "#8f6200", "#5c6675")
_SIZE, _DPI = (8.0, 4.4), 110
_TITLES = {LOSS: "Loss", RATE: "Learning rate", SPEED: "Rows a second", "gradient_norm": "Gradient norm"}


@dataclass(frozen=True)
class Drawn:
    """One run as it is drawn: its name for people, its course, where attempts began, (step, value) of its best.

    Attributes:
        best: val_<metric> -> (step, value).
    """

    name: str
    curve: Curve
    marks: Sequence[Mark] = ()
    best: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A line of a picture; `exact` where its values are no measurements, of which a mean would tell something."""

    name: str
    series: Series
    colour: str
    dashed: bool = False
    exact: bool = False


def pictures(runs: Sequence[Drawn]) -> dict[str, bytes]:
    """Return file name -> content of all pictures of a run, or of several over each other; empty without any value."""
    found: dict[str, bytes] = {}
    for name in _names(runs):
        lines = _lines(name, runs)
        title = _TITLES.get(name, f"Validation: {name.removeprefix('val_')}" if name.startswith("val_") else name)
        if not any(np.isfinite(line.series.values).any() for line in lines):
            continue
        figure, axes = canvas(title, "Optimizer step", _about(runs))
        draw(axes, lines)
        if len(runs) == 1:
            _mark(axes, runs[0].marks)
        for run in runs:
            if name in run.best:
                _ring(axes, run.best[name], said=len(runs) == 1)
        if len(lines) > 1 or (len(lines[0].series.values) > MANY_POINTS and not lines[0].exact):
            axes.legend(frameon=False, fontsize=9)
        found |= saved(figure, name)
    return found


def canvas(title: str, x_title: str, about: str = "") -> "tuple[Figure, Axes]":
    """Return an empty picture with its titles; text is never taken for a formula."""
    figure = blank(_SIZE)
    axes = figure.add_subplot()
    dress(axes, title, x_title)
    if about:
        axes.set_title(about, loc="right", fontsize=8, color=SOFT, parse_math=False)
    return figure, axes


def blank(size: tuple[float, float]) -> "Figure":
    """Return a figure without axes, of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=_DPI, facecolor=PAPER, layout="constrained")


def dress(axes: "Axes", title: str, x_title: str) -> None:
    """Give axes their titles and quiet looks."""
    axes.set_facecolor(PAPER)
    axes.set_title(title, loc="left", fontsize=12, color=INK, parse_math=False)
    axes.set_xlabel(x_title, color=SOFT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(SOFT)


def draw(axes: "Axes", lines: Sequence[Line]) -> None:
    """Draw lines with gaps; a cross at the foot says that there was no finite number."""
    for line in lines:
        one = line.series
        keep = thinned(one.steps, one.values, MOST_POINTS)
        steps, values = one.steps[keep], one.values[keep]
        look: dict[str, Any] = {"color": line.colour, "linestyle": "--" if line.dashed else "-"}
        if len(one.values) > MANY_POINTS and not line.exact:
            window = len(one.values) // SMOOTHED_PARTS
            axes.plot(steps, values, color=line.colour, linewidth=0.8, alpha=0.3)
            means = running_mean(one.values, window)[keep]
            axes.plot(steps, means, linewidth=1.8, label=f"{line.name} (mean of {window:,} points)", **look)
        else:
            marker = "o" if len(keep) <= FEW_POINTS else None
            axes.plot(steps, values, linewidth=1.6, marker=marker, markersize=3, label=line.name, **look)
        gaps = steps[~np.isfinite(values)]
        if len(gaps):
            foot = np.zeros(len(gaps))
            axes.plot(gaps, foot, "x", color=WRONG, transform=axes.get_xaxis_transform(), clip_on=False, markersize=6)


def saved(figure: "Figure", name: str) -> dict[str, bytes]:
    """Return a picture as name.png and name.svg, the same bytes for the same picture."""
    import matplotlib

    found: dict[str, bytes] = {}
    # Text stays text, so that it can be searched and files are small.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "carryover"}):
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            sink = io.BytesIO()
            figure.savefig(sink, format=kind, metadata=metadata, facecolor=PAPER)
            found[f"{file_name(name)}.{kind}"] = sink.getvalue()
    return found


def file_name(name: str) -> str:
    """Return a measure's name as a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "curve"


def _names(runs: Sequence[Drawn]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run.curve.series)
    first = [LOSS] if LOSS in names or VAL_LOSS in names else []
    return [*first, *(name for name in names if name not in (LOSS, VAL_LOSS))]


def _lines(name: str, runs: Sequence[Drawn]) -> list[Line]:
    found = []
    for place, run in enumerate(runs):
        best = run.best.get(name)
        told = f" (best {best[1]:.4g} at {best[0]:,.0f})" if best and len(runs) > 1 else ""
        of = f"{run.name}, " if len(runs) > 1 else ""
        own = COLOURS[place % len(COLOURS)]
        kind = f"validation{told}" if name.startswith("val_") else "training"
        parts: list[tuple[str, str, bool]] = [(name, kind, False)]
        if name == LOSS:
            parts.append((VAL_LOSS, "validation", True))
        for key, words, second in parts:
            if key in run.curve.series:
                colour = COLOURS[1] if second and len(runs) == 1 else own
                found.append(Line(f"{of}{words}", run.curve.series[key], colour, second and len(runs) > 1, key == RATE))
    return found


def _mark(axes: "Axes", marks: Sequence[Mark]) -> None:
    for mark in marks:
        axes.axvline(mark.step, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)))
        if len(marks) <= FEW_MARKS:
            axes.annotate(
                mark.short,
                (mark.step, 1),
                xycoords=axes.get_xaxis_transform(),
                xytext=(3, -3),
                textcoords="offset points",
                rotation=90,
                ha="left",
                va="top",
                fontsize=7.5,
                color=SOFT,
                parse_math=False,
                # Lines that run below it must not make it unreadable.
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
                zorder=4,
            )


def _ring(axes: "Axes", best: tuple[float, float], *, said: bool) -> None:
    axes.plot([best[0]], [best[1]], "o", markersize=10, markerfacecolor="none", markeredgecolor=INK)
    if said:
        low, high = axes.get_xlim()
        side, aside = ("right", -9) if best[0] > (low + high) / 2 else ("left", 9)
        place: Any = {"textcoords": "offset points", "xytext": (aside, -15), "ha": side}
        words = f"best {best[1]:.4g} at {best[0]:,.0f}"
        axes.annotate(words, best, parse_math=False, fontsize=8.5, color=INK, **place)


def _about(runs: Sequence[Drawn]) -> str:
    return f"run {runs[0].name}" if len(runs) == 1 and runs[0].name else ""
