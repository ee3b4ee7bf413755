"""Owns the small picture of a training in a notebook: what a run logged, and lines of it as inline SVG.

    metrics.jsonl --lines_of--> Curve --["loss"]--> (steps, values)
                                      --svg()-----> training loss, and the validation's score below it

The pictures for people to keep are carryover/report's; this one takes its colours from the page around it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carryover.ground.storage import Store
from carryover.report.page import escape, number

METRICS = "metrics.jsonl"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 92, 8, 74, 16, 8
MOST_POINTS = 240
# Readable on white and on black.
LOSS, SCORE = "#3f7ee8", "#d9822b"


@dataclass(frozen=True, repr=False)
class Curve:
    """What a run logged over all attempts, in order; each line is a mapping with `step`, `epoch` and `attempt`."""

    lines: tuple[Mapping[str, Any], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return what can be asked for: loss, learning_rate, val_<metric> ..."""
        about = {"step", "epoch", "attempt", "time", "event"}
        plain = (line for line in self.lines if "event" not in line)
        return tuple(dict.fromkeys(name for line in plain for name in line if name not in about))

    def __getitem__(self, name: str) -> tuple[list[int], list[float]]:
        """Return (steps, values) of one name; values that were undefined are left out."""
        if name not in self.names:
            raise KeyError(f"{name}: not logged; there are {', '.join(self.names)}")
        found = [(line["step"], line[name]) for line in self.lines if line.get(name) is not None]
        return [step for step, _ in found], [float(value) for _, value in found]

    @property
    def starts(self) -> tuple[int, ...]:
        """Return the steps at which a later attempt went on."""
        found, before = [], None
        for line in self.lines:
            if before is not None and line["attempt"] != before["attempt"]:
                found.append(int(line.get("from_step", before["step"])))
            before = line
        return tuple(found)

    def svg(self) -> str:
        """Return the training loss and the validation's score as one small picture, "" where nothing is logged."""
        score = next((name for name in self.names if name.startswith("val_") and name != "val_loss"), "")
        shown = [(name, colour) for name, colour in (("loss", LOSS), (score, SCORE)) if name in self.names]
        drawn = [(name, colour, *self[name]) for name, colour in shown]
        drawn = [one for one in drawn if one[2]]
        if not drawn:
            return ""
        last = max(max(steps) for _, _, steps, _ in drawn)
        rows = [
            _row(index, name, colour, steps, values, last=last, starts=self.starts)
            for index, (name, colour, steps, values) in enumerate(drawn)
        ]
        height = HEIGHT * len(rows)
        label = f"{' and '.join(name for name, *_ in drawn)} over {last:,} steps"
        return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(rows)}</svg>'

    def __len__(self) -> int:
        return len(self.lines)

    def __repr__(self) -> str:
        return f"Curve({len(self)} lines: {', '.join(self.names)})"

    def _repr_html_(self) -> str:
        from carryover.api.cards import Card

        return Card("Curve", ", ".join(self.names), "", inside=self.svg()).html()


def lines_of(home: Store) -> list[Mapping[str, Any]]:
    """Return the lines of a run's curve, [] where there is none yet."""
    try:
        text = home.read(METRICS).decode()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines() if line]


def _row(
    index: int,
    name: str,
    colour: str,
    steps: Sequence[int],
    values: Sequence[float],
    *,
    last: int,
    starts: Sequence[int],
) -> str:
    """Return one line of the picture with its name, its newest value and the places where attempts began."""
    keep = sorted({round(at * (len(steps) - 1) / (MOST_POINTS - 1)) for at in range(MOST_POINTS)})
    low, high = min(values), max(values)
    spread = (high - low) or max(abs(high), 1.0)
    top, bottom = index * HEIGHT + TOP, (index + 1) * HEIGHT - BOTTOM

    def place(step: int, value: float) -> tuple[float, float]:
        across = LEFT + step / max(1, last) * (WIDTH - LEFT - RIGHT)
        return across, bottom - (value - low) / spread * (bottom - top)

    points = [place(steps[at], values[at]) for at in keep if math.isfinite(values[at])]
    marks = "".join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="currentColor" stroke-opacity=".35" '
        f'stroke-dasharray="3 3"><title>an attempt went on here, after step {start:,}</title></line>'
        for start, x in ((start, place(start, low)[0]) for start in starts)
    )
    x, y = points[-1]
    line = " ".join(f"{across:.1f},{up:.1f}" for across, up in points)
    text = 'font-size="11" font-family="system-ui, sans-serif" fill="currentColor"'
    return (
        f'<text x="{LEFT}" y="{top - 5}" {text} fill-opacity=".66">{escape(name)}</text>{marks}'
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>'
        f'<text x="{x + 7:.1f}" y="{y + 4:.1f}" {text}>{number(values[-1])}</text>'
    )
