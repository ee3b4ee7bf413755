"""Owns the life of a model over its generations: the runs that led to it one after the other, by step and by date.

    score |      /--*|   /--*|  /---*        * the score that a generation ended with
          |    /     | /     |/      x       x a candidate that was rejected, on the day that it was (by date only)
          +----------+-------+-------
            first      extend  transfer      steps of all generations add up

A task that is another has other measures: each measure has its own picture, with the generations that know it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from carryover.carry.lineage import Node
from carryover.report import course, curves, page
from carryover.report.course import Mark, course_chart
from carryover.report.curve import LOSS, VAL_LOSS, Curve, Series, thinned
from carryover.report.curves import COLOURS, INK, SOFT, WRONG
from carryover.report.page import escape, number
from carryover.report.times import moment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHORT = 12
_HOW = {"": "first", "extend": "extended", "transfer": "another task"}
_SIZE = (8.6, 6.6)


@dataclass(frozen=True)
class Verdict:
    """What was decided of a Model: promote, reject or rollback; for which name, when (Unix seconds), its scores."""

    kind: str
    name: str
    time: float
    model: str
    reason: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation:
    """One run of a model's life.

    Attributes:
        curve: empty where it is gone.
        gone: why, "" where it is there.
        made: Unix seconds, NaN where unknown.
        verdicts: about its Model.
    """

    node: Node
    curve: Curve
    gone: str
    made: float
    verdicts: Sequence[Verdict] = ()

    @property
    def steps(self) -> int:
        """How many optimizer steps it took, as far as known."""
        return max(self.curve.last_step, self.node.step)

    def score(self, metric: str) -> float:
        """Return the score that it ended with, NaN where unknown."""
        found = self.node.metrics.get(f"val_{metric}")
        return math.nan if found is None else float(found)


def measures(life: Sequence[Generation]) -> list[str]:
    """Return the validation metrics of all generations, without "val_", in the order they came."""
    names = dict.fromkeys(name for one in life for name in (*one.curve.checks, *one.node.metrics))
    return [name.removeprefix("val_") for name in names if name.startswith("val_") and name != VAL_LOSS]


def life_pictures(life: Sequence[Generation], rejected: Sequence[Verdict]) -> dict[str, bytes]:
    """Return file name -> content: for the loss and each metric, by step above and by date below."""
    found: dict[str, bytes] = {}
    for metric in ["", *measures(life)]:
        names = (f"val_{metric}",) if metric else (LOSS, VAL_LOSS)
        if not any(name in one.curve.series for one in life for name in names) and not metric:
            continue
        figure = curves.blank(_SIZE)
        above, below = figure.subplots(2, 1)
        title = f"Generations: {metric}" if metric else "Generations: loss"
        curves.dress(above, title, "Optimizer steps of all generations")
        curves.dress(below, "", "Date (UTC)")
        _by_step(above, life, names, metric)
        _by_date(below, life, names, metric, rejected)
        found |= curves.saved(figure, f"generations-{metric or 'loss'}")
    return found


def life_card(life: Sequence[Generation], rejected: Sequence[Verdict], *, greatest: Mapping[str, bool]) -> str:
    """Return what a report has of it, as HTML: a chart for each metric, and a row for each generation.

    Args:
        greatest: metric -> whether more is better.
    """
    offsets = _offsets(life)
    marks = [
        Mark(at, str(place), f"generation {place}: {_title(one)}")
        for place, (at, one) in enumerate(zip(offsets, life, strict=True), 1)
        if place > 1
    ]
    charts = []
    for metric in measures(life):
        whole = _joined(life, f"val_{metric}")
        if whole is not None:
            best = whole.best(greatest=greatest.get(metric, True))
            ring = None if best is None else (float(whole.steps[best]), float(whole.values[best]))
            label = f"{metric} over generations"
            chart = course_chart([(metric, whole)], y_title=metric, label=label, marks=marks, best=ring)
            charts.append(page.card(f"Validation: {metric}", chart))
    losses = [
        (name, one) for name, key in (("training", LOSS), ("validation", VAL_LOSS)) if (one := _joined(life, key))
    ]
    if losses:
        charts.append(
            page.card("Loss", course_chart(losses, y_title="Loss", label="Loss over generations", marks=marks))
        )
    table = page.card("Each generation", page.table(_HEADS, _rows(life, offsets), numeric=99), wide=True)
    turned = [page.card("Rejected candidates", _rejected(rejected), wide=True)] if rejected else []
    return page.cards([*charts, table, *turned])


def life_page(title: str, card: str, *, foot: str) -> str:
    """Return a page around the card."""
    return page.page(
        "Generations", title, [page.section("The runs, one after the other", card)], foot=foot, style=course.STYLE
    )


_HEADS = ("", "Model", "how", "made (UTC)", "train rows", "steps", "ended with", "decisions", "")


def _rows(life: Sequence[Generation], offsets: Sequence[int]) -> list[list[str]]:
    rows = []
    for place, (one, offset) in enumerate(zip(life, offsets, strict=True), 1):
        scores = ", ".join(f"{name} {number(value)}" for name, value in one.node.metrics.items())
        verdicts = ", ".join(f"{verdict.kind} {verdict.name}" for verdict in one.verdicts)
        steps = f"{offset:,} to {offset + one.steps:,}" if one.steps else "unknown"
        cells = (
            str(place),
            one.node.digest[:SHORT],
            _HOW.get(one.node.by, one.node.by),
            moment(one.made, form="%Y-%m-%d %H:%M"),
            f"{one.node.rows:,}" if one.node.rows else "",
            steps,
            scores,
            verdicts,
            one.gone,
        )
        rows.append([escape(cell) for cell in cells])
    return rows


def _rejected(rejected: Sequence[Verdict]) -> str:
    rows = [
        [
            escape(moment(one.time, form="%Y-%m-%d %H:%M")),
            escape(one.name),
            f"<code>{escape(one.model[:SHORT])}</code>",
            escape(", ".join(f"{name} {number(value)}" for name, value in one.metrics.items())),
            escape(one.reason),
        ]
        for one in rejected
    ]
    return page.table(("when (UTC)", "for", "Model", "scores", "why"), rows, numeric=99)


def _title(one: Generation) -> str:
    return f"{_HOW.get(one.node.by, one.node.by)}, Model {one.node.digest[:SHORT]}"


def _offsets(life: Sequence[Generation]) -> list[int]:
    """Return at which step of the whole life each generation begins."""
    return [sum(before.steps for before in life[:place]) for place in range(len(life))]


def _joined(life: Sequence[Generation], name: str) -> Series | None:
    parts = [
        (at, one.curve.series[name]) for at, one in zip(_offsets(life), life, strict=True) if name in one.curve.series
    ]
    if not parts:
        return None
    columns = [np.concatenate([getattr(one, what) for _, one in parts]) for what in ("values", "times", "attempts")]
    return Series(np.concatenate([one.steps + at for at, one in parts]), *columns)


def _by_step(axes: "Axes", life: Sequence[Generation], names: Sequence[str], metric: str) -> None:
    starred: str | None = "score of the Model that came of it"
    for place, (offset, one) in enumerate(zip(_offsets(life), life, strict=True)):
        if place:
            axes.axvline(offset, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)))
        where = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "xytext": (3, -3), "va": "top"}
        words = f"{place + 1} {_HOW.get(one.node.by, one.node.by)}{', gone' if one.gone else ''}"
        axes.annotate(words, (offset, 1), fontsize=7.5, color=SOFT, parse_math=False, **where)
        for kind, name in enumerate(names):
            if series := one.curve.series.get(name):
                keep = thinned(series.steps, series.values, curves.MOST_POINTS)
                _plot(axes, series.steps[keep] + offset, series.values[keep], kind, len(names), first=not place)
        if metric and one.steps and not math.isnan(one.score(metric)):
            axes.plot([offset + one.steps], [one.score(metric)], "*", color=INK, markersize=11, label=starred)
            starred = None
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=9)


def _by_date(
    axes: "Axes", life: Sequence[Generation], names: Sequence[str], metric: str, rejected: Sequence[Verdict]
) -> None:
    for one in life:
        for kind, name in enumerate(names):
            series = one.curve.series.get(name)
            if series and np.isfinite(series.times).any():
                # Between attempts nobody trained.
                for attempt in dict.fromkeys(series.attempts.tolist()):
                    own = np.flatnonzero(series.attempts == attempt)
                    keep = own[thinned(series.steps[own], series.values[own], curves.MOST_POINTS)]
                    _plot(axes, _dates(series.times[keep]), series.values[keep], kind, len(names), first=False)
        if metric and not math.isnan(one.score(metric)) and math.isfinite(one.made):
            axes.plot(_dates(np.array([one.made])), [one.score(metric)], "*", color=INK, markersize=11)
    for verdict in rejected:
        score = verdict.metrics.get(metric, verdict.metrics.get(f"val_{metric}")) if metric else None
        if score is not None:
            label = None if axes.get_legend_handles_labels()[1] else "rejected candidate"
            axes.plot(_dates(np.array([verdict.time])), [score], "x", color=WRONG, markersize=8, label=label)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=9)
    if not axes.lines:
        axes.text(0.5, 0.5, "times are not known", transform=axes.transAxes, ha="center", color=SOFT)
        return
    for label in axes.get_xticklabels():
        label.set_rotation(15)


def _plot(axes: "Axes", x: np.ndarray, values: np.ndarray, kind: int, kinds: int, *, first: bool) -> None:
    marker = "o" if len(x) <= curves.FEW_POINTS else None
    label = ("training", "validation")[kind] if first and kinds > 1 else None
    axes.plot(x, values, color=COLOURS[kind], linewidth=1.4, marker=marker, markersize=3, label=label)


def _dates(times: np.ndarray) -> np.ndarray:
    whole = np.where(np.isfinite(times), times * 1000, 0).astype("int64").astype("datetime64[ms]")
    return np.where(np.isfinite(times), whole, np.datetime64("NaT"))
