"""Owns how a run's attempts are drawn over wall-clock time, as inline SVG.

1  ====|===|==////                       bar: it lived    |: a commit    ////: lost work
2                     ====|===|=====     between bars: nobody trained; long waits are cut, and said
"""

from collections.abc import Sequence

import numpy as np

from carryover.report.attempts import Attempt
from carryover.report.page import escape
from carryover.report.times import duration, moment

WIDTH, LEFT, RIGHT, ROW, TOP = 1000, 44, 16, 26, 8
MOST_ROWS, MOST_TICKS = 30, 400
# Waits beyond this part of the time that attempts lived are drawn as long as that.
_LONGEST_GAP = 0.12
_TIMES = 5
STYLE = """
.timeline svg { max-width: none; min-width: 760px }
svg .lived { fill: rgb(var(--accent-rgb) / .3) } svg .lost { fill: url(#lost-work) }
svg .lost-line { stroke: rgb(var(--wrong-rgb)); stroke-width: 2.4 }
svg .commit { stroke: var(--accent); stroke-width: 1.4 }
svg .cut { fill: var(--grid) }
"""


def timeline(attempts: Sequence[Attempt]) -> str:
    """Return the attempts over the clock, the newest MOST_ROWS of them, as HTML."""
    shown = list(attempts)[-MOST_ROWS:]
    scale = Scale([(one.began, one.ended) for one in shown])
    bottom = TOP + ROW * len(shown)
    size = f'viewBox="0 0 {WIDTH} {bottom + 30}"'
    parts = [f'<svg {size} role="img" aria-label="Attempts over the clock">', _hatch()]
    for x, gap in scale.cuts:
        place = LEFT + x * (WIDTH - LEFT - RIGHT)
        title = f"<title>{escape(f'nobody trained for {duration(gap)}; drawn shorter')}</title>"
        words = f'<text x="{place:.1f}" y="{bottom - 4}" text-anchor="middle">⋯ {escape(duration(gap))}</text>'
        parts.append(f'<g><rect class="cut" x="{place - 3:.1f}" y="{TOP}" width="6" height="{ROW * len(shown)}"/>')
        parts.append(f"{words if len(scale.cuts) <= 6 else ''}{title}</g>")
    for row, one in enumerate(shown):
        parts += _row(one, TOP + ROW * row, scale)
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>')
    parts += _clock(scale, bottom)
    return f'<div class="scroll timeline">{"".join(parts)}</svg></div>'


class Scale:
    """Maps Unix seconds to 0 .. 1, with long waits between spans cut short.

    Attributes:
        cuts: (where its middle is, seconds) of each wait that is drawn shorter than it was.
    """

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        merged = _merged(spans)
        lived = max(1.0, sum(end - start for start, end in merged))
        times, places = [merged[0][0]], [0.0]
        middles = []
        for place, (start, end) in enumerate(merged):
            if place:
                wait = start - merged[place - 1][1]
                drawn = min(wait, _LONGEST_GAP * lived)
                if drawn < wait:
                    middles.append((places[-1] + drawn / 2, wait))
                times.append(start)
                places.append(places[-1] + drawn)
            times.append(end)
            places.append(places[-1] + max(end - start, 1e-3))
        self._times, self._places = np.array(times), np.array(places) / places[-1]
        self.cuts = [(middle / places[-1], wait) for middle, wait in middles]

    def place(self, time: float) -> float:
        """Return where a moment lies."""
        return float(np.interp(time, self._times, self._places))

    def time(self, place: float) -> float:
        """Return the moment that lies at a place."""
        return float(np.interp(place, self._places, self._times))


def _merged(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _row(one: Attempt, top: int, scale: Scale) -> list[str]:
    def at(time: float) -> float:
        return LEFT + scale.place(time) * (WIDTH - LEFT - RIGHT)

    begin, end = at(one.began), at(one.ended)
    lived = f"attempt {one.number}: {moment(one.began)} to {moment(one.ended)} UTC, {duration(one.ended - one.began)}"
    words = f"{lived}, steps {one.from_step:,} to {one.step:,}; {one.reason}"
    bar = f'x="{begin:.1f}" y="{top + 5}" width="{max(2.0, end - begin):.1f}" height="{ROW - 10}" rx="3"'
    parts = [
        f'<text x="{LEFT - 10}" y="{top + 17}" text-anchor="end">{one.number}</text>',
        f'<rect class="lived" {bar}><title>{escape(words)}</title></rect>',
    ]
    for commit in one.commits[:: max(1, len(one.commits) // MOST_TICKS)]:
        title = f"step {commit.step:,}, record {commit.number}, {moment(commit.time)}"
        x = at(commit.time)
        parts.append(f'<line class="commit" x1="{x:.1f}" y1="{top + 3}" x2="{x:.1f}" y2="{top + ROW - 3}">')
        parts.append(f"<title>{escape(title)}</title></line>")
    if one.lost_steps and not one.lives:
        last = one.commits[-1].time if one.commits else one.began
        start = max(at(last), begin)
        title = f"attempt {one.number}: {one.lost_steps:,} steps after its last commit were lost"
        title += f", about {duration(one.lost_seconds)} of training" if one.lost_seconds else ""
        place = f'x="{start:.1f}" y="{top + 5}" width="{max(3.0, end - start):.1f}" height="{ROW - 10}"'
        parts.append(f'<rect class="lost" {place}><title>{escape(title)}</title></rect>')
    return parts


def _clock(scale: Scale, bottom: int) -> list[str]:
    times = [scale.time(place / (_TIMES - 1)) for place in range(_TIMES)]
    form = "%m-%d %H:%M" if times[-1] - times[0] > 20 * 3600 else "%H:%M:%S"
    parts = []
    for place, time in enumerate(times):
        anchor = "start" if place == 0 else "end" if place == _TIMES - 1 else "middle"
        x = LEFT + place / (_TIMES - 1) * (WIDTH - LEFT - RIGHT)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="{anchor}">{moment(time, form=form)}</text>')
    return parts


def _hatch() -> str:
    line = '<line class="lost-line" x1="0" y1="0" x2="0" y2="6"/>'
    pattern = 'id="lost-work" width="5" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"'
    return f"<defs><pattern {pattern}>{line}</pattern></defs>"
