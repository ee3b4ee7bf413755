"""Owns the pictures of docs/performance.md: small SVG files, the same bytes for the same figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.arms import Spread

OURS, OTHERS = "#00796b", "#9aa5ab"
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "carryover", "font.size": 9, "axes.spines.top": False,
         "axes.spines.right": False, "axes.spines.left": False}  # fmt: skip


def bars(path: Path, title: str, values: Mapping[str, Spread], ours: Sequence[str]) -> None:
    """One bar an arm, the first on top; whiskers from lowest to highest; logarithmic where bars differ much."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = list(values)
    medians = [values[name].median for name in names]
    reach = [[values[name].median - values[name].low for name in names],
             [values[name].high - values[name].median for name in names]]  # fmt: skip
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 0.7 + 0.32 * len(names)), layout="constrained")
        axes = figure.subplots()
        colours = [OURS if name in ours else OTHERS for name in names]
        axes.barh(names, medians, xerr=reach, color=colours, height=0.62, ecolor="#37474f", capsize=2)
        positive = [value for value in medians if value > 0]
        if len(positive) == len(medians) and max(positive) > 30 * min(positive):
            axes.set_xscale("log")
            _plain(axes)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        _save(figure, path)


def distances(path: Path, values: Mapping[str, float]) -> None:
    """How far each goal is from what was asked: 1 on a logarithmic axis is the bound, left of it is better."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = list(values)
    with rc_context(STYLE):
        lines = sum(1 + name.count("\n") for name in names)
        figure = Figure(figsize=(6.4, 0.7 + 0.18 * lines), layout="constrained")
        axes = figure.subplots()
        axes.axvline(1, color="#37474f", linewidth=1)
        for name in names:
            axes.plot(values[name], name, "o", color=OURS if values[name] <= 1 else "#c62828")
        axes.set_xscale("log")
        _plain(axes)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0, labelsize=7)
        figure.suptitle("measured over asked: left of the line is reached", x=0.01, ha="left", fontsize=9)
        _save(figure, path)


def _plain(axes: Any) -> None:
    """A logarithmic axis with numbers as people write them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=7))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
