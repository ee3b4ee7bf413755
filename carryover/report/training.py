"""Owns the report of a training: one page, complete in itself, from what the run's folder holds.

tiles            best score, steps, rows, time, attempts, lost work
curves           loss and validation, learning rate, throughput, what is tracked beside
attempts         over the clock, with commits, waits and lost work; a row for each
checkpoints      what saves cost
where from       data, parent, weights that were taken, lineage
settings         what differs from the defaults first; versions; how to go on
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from carryover.carry.lineage import Known
from carryover.report import course, page, timeline
from carryover.report.attempts import GONE, Attempt, totals
from carryover.report.course import Mark, course_chart
from carryover.report.curve import LOSS, RATE, SPEED, VAL_LOSS, Curve, Save, Series
from carryover.report.lineage import lineage_svg
from carryover.report.page import escape
from carryover.report.times import duration, moment, size

STYLE = course.STYLE + timeline.STYLE + ".unbroken { white-space: nowrap }\n"
MOST_ROWS = 60
_TITLES = {RATE: "Learning rate", SPEED: "Rows a second", "gradient_norm": "Gradient norm"}
_TAKEN = ("loaded", "resized", "new", "ignored")


@dataclass(frozen=True)
class Setting:
    """One key of the recipe as the run has it, and its default."""

    name: str
    value: Any
    default: Any

    @property
    def differs(self) -> bool:
        """Whether it is not the default."""
        return self.value != self.default


@dataclass(frozen=True)
class Facts:
    """What a run's folder says of it beside its course; texts are plain.

    Attributes:
        step: train-ddp or transfer-train.
        standing: where the run stands now, in words; `finished` is why it ended, "" while it goes on.
        metric: name of the validation metric, "" where there is none; `greatest`: whether more is better.
        state: of the newest commit, or metrics of the finish: step, epoch, samples, seconds, best_score, best_step.
        data, parent, versions: names and values for people.
        transfer: what `carry.tables.summary` says of the weights that were taken, {} for none.
        lineage: newest first, empty where nothing is known.
        resume: commands that go on, each with what it is for.
    """

    run_key: str
    home: str
    step: str
    standing: str
    metric: str
    greatest: bool
    finished: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)
    settings: Sequence[Setting] = ()
    data: Sequence[tuple[str, object]] = ()
    parent: Sequence[tuple[str, object]] = ()
    transfer: Mapping[str, Any] = field(default_factory=dict)
    lineage: Sequence[Known] = ()
    versions: Sequence[tuple[str, object]] = ()
    resume: Sequence[tuple[str, str]] = ()
    generations: str = ""


def training_page(facts: Facts, curve: Curve, attempts: Sequence[Attempt], *, foot: str) -> str:
    """Return the page."""
    body = [
        page.tiles(_tiles(facts, curve, attempts)),
        page.section("Curves", _curves(facts, curve, attempts)),
        page.section("Attempts", _attempts(attempts)) if attempts else "",
        page.section("Checkpoints", _checkpoints(curve, attempts, facts)),
        page.section("Where it comes from", page.cards(_origins(facts))),
        page.section("Generations", facts.generations) if facts.generations else "",
        page.section("Settings", _settings(facts.settings)),
        page.section("How to go on", page.cards(_ends(facts))),
    ]
    lead = f"{facts.step} · run {facts.run_key} · {facts.standing}"
    return page.page("Training", lead, [part for part in body if part], foot=foot, style=STYLE)


def marks_of(attempts: Sequence[Attempt]) -> list[Mark]:
    """Return a mark for each attempt but the first, with what is known of how the one before it ended.

    Attempts that began at the same step share theirs, as the words would lie over each other.
    """
    found = []
    for before, one in pairwise(attempts):
        lost = f"{before.lost_words} steps lost" if before.lost_steps is not None else "lost steps not known"
        changed = f"; changed: {', '.join(one.changes)}" if one.changes and one.changes != before.changes else ""
        words = f"attempt {one.number} goes on from step {one.from_step:,}; before it: {before.reason}; {lost}{changed}"
        cause = "killed or lost" if before.reason.startswith(GONE) else before.reason
        found.append(Mark(one.from_step, str(one.number), words, f"attempt {one.number} ({cause}; {lost})"))
    return [_shared(list(group)) for _, group in groupby(found, key=lambda mark: mark.step)]


def _shared(marks: Sequence[Mark]) -> Mark:
    """Return one mark for several at one step."""
    first, last = marks[0], marks[-1]
    if first is last:
        return first
    names, words = f"{first.name}-{last.name}", "; ".join(mark.words for mark in marks)
    return Mark(first.step, names, words, f"attempts {first.name} to {last.name}: {len(marks)} starts here")


def best_of(curve: Curve, metric: str, *, greatest: bool) -> tuple[int, float] | None:
    """Return (step, value) of the best validation, None where there is none."""
    series = curve.series.get(f"val_{metric}")
    found = series.best(greatest=greatest) if series else None
    return None if series is None or found is None else (int(series.steps[found]), float(series.values[found]))


def _tiles(facts: Facts, curve: Curve, attempts: Sequence[Attempt]) -> list[tuple[str, float | str | None]]:
    best, state = best_of(curve, facts.metric, greatest=facts.greatest), facts.state
    lost, seconds, known = totals(tuple(attempts))
    losses = curve.series.get(LOSS)
    first: list[tuple[str, float | str | None]] = (
        [(f"{facts.metric}, best", best[1]), ("best at step", best[0])] if best else []
    )
    if losses is not None:
        first.append(("newest training loss", float(losses.values[-1])))
    return [
        *first,
        ("optimizer steps", state.get("step")),
        ("rows seen", state.get("samples")),
        ("time spent training", duration(state.get("seconds"))),
        ("attempts", len(attempts)),
        (f"steps lost and done again{'' if known else ', at least'}", lost),
        ("lost work, about", duration(seconds) if seconds or known else "unknown"),
    ]


def _curves(facts: Facts, curve: Curve, attempts: Sequence[Attempt]) -> str:
    marks = marks_of(attempts)
    losses = [("training", curve.series.get(LOSS)), ("validation", curve.series.get(VAL_LOSS))]
    known = [(name, one) for name, one in losses if one is not None]
    parts = [("Loss", course_chart(known, y_title="Loss", label="Loss over steps", marks=marks))] if known else []
    for name in curve.checks:
        best = best_of(curve, name.removeprefix("val_"), greatest=facts.greatest) if _is(facts, name) else None
        title = name.removeprefix("val_")
        chart = course_chart(
            [("validation", curve.series[name])], y_title=title, label=f"{title} over steps", marks=marks, best=best
        )
        parts.append((f"Validation: {title}", chart))
    for name, series in curve.series.items():
        if name not in (LOSS, VAL_LOSS, *curve.checks):
            title = _TITLES.get(name, name)
            label = f"{title} over steps"
            chart = course_chart([(title, series)], y_title=title, label=label, marks=marks, exact=name == RATE)
            parts.append((title, chart))
    if not parts:
        words = "no step has been logged yet, or the curve was not kept"
        return page.cards([page.card("Nothing yet", page.note(words), wide=True)])
    legend = (
        "A dashed line is where an attempt began; its number stands beside it. A ring is the best validation. Where "
        "points are many they are pale, and their running mean is strong."
    )
    return page.cards([page.card(title, chart) for title, chart in parts]) + page.note(legend)


def _is(facts: Facts, name: str) -> bool:
    return name == f"val_{facts.metric}"


def _attempts(attempts: Sequence[Attempt]) -> str:
    rows = []
    for one in list(attempts)[-MOST_ROWS:]:
        lost = one.lost_words
        if one.lives:
            lost = f"{lost} not saved yet" if one.lost_steps is not None else "none known yet"
        elif one.lost_seconds:
            lost += f" (about {duration(one.lost_seconds)})"
        changed = ", ".join(f"{name} = {_json(value)}" for name, value in one.changes.items())
        rows.append(
            [
                str(one.number),
                *map(_unbroken, (moment(one.began), duration(one.ended - one.began))),
                _unbroken(f"{one.from_step:,} to {one.step:,}"),
                str(len(one.commits)),
                escape(lost),
                f'<span class="words">{escape(one.reason)}{escape(f"; {changed}" if changed else "")}</span>',
                escape(one.host),
            ]
        )
    heads = ("attempt", "began (UTC)", "lived", "steps", "commits", "lost steps", "how it ended", "machine")
    notes = page.note(
        "A bar is an attempt, a tick a commit, hatched what was lost and done again. A killed attempt can't say when "
        "it ended: its end is its last sign of life, or its last commit and the time that its lost steps took at the "
        "run's mean pace. Lost steps are those that its heartbeat had told, up to those that it may have done in the "
        "5 s until the next one."
    )
    more = len(attempts) - MOST_ROWS
    cut = page.note(f"The newest {MOST_ROWS} of {len(attempts):,} attempts are shown.") if more > 0 else ""
    table = page.card("One by one", page.table(heads, rows, numeric=99) + cut, wide=True)
    return page.cards([page.card("Over the clock", timeline.timeline(attempts) + notes, wide=True), table])


def _unbroken(words: str) -> str:
    return f'<span class="unbroken">{escape(words)}</span>'


def _checkpoints(curve: Curve, attempts: Sequence[Attempt], facts: Facts) -> str:
    saves, commits = curve.saves, [commit for one in attempts for commit in one.commits]
    if not commits and not saves:
        return page.cards([page.card("None yet", page.note("no checkpoint has been committed yet"), wide=True)])
    stalls = np.array([save.seconds for save in saves])
    stalls = stalls[np.isfinite(stalls)]
    spent = facts.state.get("seconds")
    whole = float(stalls.sum()) if len(stalls) else math.nan
    sizes = [commit.bytes for commit in commits if commit.bytes is not None]
    pairs: list[tuple[str, object]] = [
        ("commits", f"{len(commits):,}"),
        ("loop stood still", _middle(stalls)),
        ("in all", f"{duration(whole)}{_share(whole, spent)}"),
        ("written behind it", _middle(np.array([save.write_seconds for save in saves]))),
        ("new bytes", f"{size(sum(sizes))} in {len(sizes):,} commits" if sizes else "not known"),
    ]
    if len(saves) < len(commits):
        pairs.append(("known of", f"{len(saves):,} of {len(commits):,} saves; the newest of an attempt is told late"))
    parts = [page.card("What they cost", page.facts(pairs))]
    if len(saves) > 1:
        lines = [
            ("the loop stood still", _series(saves, "seconds")),
            ("written behind", _series(saves, "write_seconds")),
        ]
        chart = course_chart(lines, y_title="Seconds", label="Seconds of each save", unit=" s")
        parts.append(page.card("Each save", chart))
    return page.cards(parts)


def _series(saves: Sequence[Save], what: str) -> Series:
    columns = ([save.step for save in saves], [getattr(save, what) for save in saves])
    steps, values = (np.array(column) for column in columns)
    times, attempts = np.array([save.time for save in saves]), np.array([save.attempt for save in saves])
    return Series(steps, values.astype(float), times, attempts)


def _middle(seconds: np.ndarray) -> str:
    known = seconds[np.isfinite(seconds)]
    if not len(known):
        return "not known"
    return f"{duration(float(np.median(known)))} in the middle, {duration(float(known.max()))} at most"


def _share(part: float, whole: float | None) -> str:
    return f", {part / whole:.2%} of the training time" if whole and math.isfinite(part) else ""


def _origins(facts: Facts) -> list[str]:
    parts = [page.card("Data", page.facts(facts.data))]
    parent = facts.parent or [("parent", "none: weights of the recipe's model, a new task")]
    parts.append(page.card("Started from", page.facts(parent)))
    if facts.transfer:
        parts.append(page.card("Weights that were taken", _transfer(facts.transfer), wide=True))
    if facts.lineage:
        svg = lineage_svg(facts.lineage).partition("?>")[2]
        parts.append(page.card("Lineage", f'<div class="scroll">{svg}</div>', wide=True))
    return parts


def _transfer(transfer: Mapping[str, Any]) -> str:
    rows, names = [], []
    for kind in _TAKEN:
        one = transfer.get(kind) or {}
        rows.append([escape(kind), f"{one.get('tensors', 0):,}", f"{one.get('parameters', 0):,}"])
        for fate in one.get("names") or ():
            told = [fate.get("name", ""), f"from {fate['source']}" if fate.get("source") else "", fate.get("why", "")]
            names.append([escape(kind), *(f"<code>{escape(words)}</code>" for words in told)])
    table = page.table(("what became of them", "tensors", "numbers"), rows, numeric=1)
    gaps = "".join(page.note(f"gap: {words}") for words in transfer.get("gaps") or ())
    listed = page.table(("", "here", "there", "why"), names, numeric=99)
    return table + gaps + (page.opens("Names (the first 20 of each kind)", listed) if names else "")


def _settings(settings: Sequence[Setting]) -> str:
    heads = ("key", "value", "default")

    def rows(some: Sequence[Setting]) -> list[list[str]]:
        return [[f"<code>{escape(text)}</code>" for text in (s.name, _json(s.value), _json(s.default))] for s in some]

    own, rest = [s for s in settings if s.differs], [s for s in settings if not s.differs]
    first = page.table(heads, rows(own), numeric=99) if own else page.note("every key has its default")
    more = (
        page.opens(f"{len(rest):,} keys at their defaults", page.table(heads, rows(rest), numeric=99)) if rest else ""
    )
    return page.cards([page.card("Other than the defaults", first + more, wide=True)])


def _ends(facts: Facts) -> list[str]:
    resume = "".join(f"{page.note(why)}<p><code>{escape(command)}</code></p>" for why, command in facts.resume)
    return [
        page.card("Commands", resume or page.note("none known"), wide=True),
        page.card("Run", page.facts([("run key", facts.run_key), ("home", facts.home)])),
        page.card("Made with", page.facts(facts.versions)),
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
