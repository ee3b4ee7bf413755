"""Owns two sections of an evaluation's report: whether the Model may take over, and what each stage knows of tasks."""

import math

from carryover.carry.class_scores import RECALL
from carryover.carry.forgetting import History, TaskMatrix
from carryover.carry.gate import Compared, Decision
from carryover.report import page
from carryover.report.page import escape, number

# Beyond these nobody reads on; matrix.json has all.
MOST_CLASSES = 60
_CLASS_SCORES = {RECALL: "share of their rows told right", "AP": "average precision", "IoU": "intersection over union"}


def gate_section(decision: Decision) -> str:
    """Return what came of the gate: the verdict, why, and both scores on every Dataset."""
    assert decision.gain is not None
    verdict = "accepted" if decision.accepted else "not accepted"
    colour = "--accent" if decision.accepted else "--warn"
    rows = [_compared("gain", decision.gain, 1), *(_compared("forgetting", one, -1) for one in decision.forgetting)]
    heads = ["Measured on", "What", "Rows", "Model", "Baseline", "Difference", "95 % interval"]
    words = (
        f'<p><b style="color: var({colour})">{verdict}</b> · {escape(decision.reason)}</p>'
        + page.table(heads, rows, numeric=2)
        + f'<p class="soft">Scores are {escape(decision.metric)}. A difference above 0 is a gain where gain is '
        "measured, and a loss where forgetting is. Intervals: paired bootstrap over the rows.</p>"
    )
    return "<h2>Against the baseline</h2>" + page.cards([page.card("May this Model take over?", words, wide=True)])


def _compared(what: str, one: Compared, sign: int) -> list[str]:
    low, high = sorted((sign * one.low, sign * one.high))
    interval = "none" if math.isnan(low) else f"{_signed(low)} to {_signed(high)}"
    numbers = [f"{one.rows:,}", number(one.model), number(one.baseline), _signed(sign * one.better), interval]
    return [f"<code>{escape(one.name)}</code>", what, *numbers]


def history_section(history: History) -> str:
    """Return the task matrix, the numbers that sum it up, and how each class fared."""
    matrix = history.matrix
    tiles = [
        (f"average {history.metric}", matrix.average),
        ("backward transfer", matrix.backward_transfer),
        ("forward transfer", matrix.forward_transfer),
    ]
    cards = [page.card(f"{history.metric} after each stage", _matrix(history), wide=True)]
    if classes := _classes(history):
        cards.append(page.card(f"Classes: {_CLASS_SCORES[history.class_score]}", classes, wide=True))
    cards.append(page.card("Stages and tasks", _legend(history), wide=True))
    return "<h2>What each stage knows</h2>" + page.tiles(tiles) + page.cards(cards)


def _matrix(history: History) -> str:
    """Return R, shaded from what a constant scores (none) to the task's best score (full)."""
    matrix = history.matrix
    heads = "".join(f'<th title="{escape(task.uri)}">task {j}</th>' for j, task in enumerate(history.tasks))
    lines = [f'<tr><th class="side soft">after ↓ on →</th>{heads}</tr>']
    for i, stage in enumerate(history.stages):
        cells = [_cell(matrix, i, j) for j in range(len(history.tasks))]
        lines.append(f'<tr><th class="side" title="{escape(stage.uri)}">stage {i}</th>{"".join(cells)}</tr>')
    for name, values in (("constant", matrix.constant), ("forgetting", matrix.forgetting)):
        cells = "".join(f"<td>{_or_dash(value)}</td>" for value in values.tolist())
        lines.append(f'<tr><th class="side soft">{name}</th>{cells}</tr>')
    table = f'<div class="scroll"><table class="matrix">{"".join(lines)}</table></div>'
    return table + (
        '<p class="soft">Framed: the stage that learned the task. Shade: from the score of a constant answer to the '
        "task's best score. Forgetting: the best score since it was learned, less the last one.</p>"
    )


def _cell(matrix: TaskMatrix, stage: int, task: int) -> str:
    value, flat, column = float(matrix.scores[stage, task]), float(matrix.constant[task]), matrix.scores[:, task]
    best = float(column.max() if matrix.greater_is_better else column.min())
    share = (value - flat) / (best - flat) if best != flat else 0.0
    shade = min(max(share, 0.0), 1.0) * 0.5 if math.isfinite(share) else 0.0
    frame = "; outline: 2px solid var(--accent)" if matrix.learned[task] == stage else ""
    return f'<td style="background: rgb(var(--right-rgb) / {shade:.3f}){frame}">{_or_dash(value)}</td>'


def _classes(history: History) -> str:
    """Return each class on each task that has rows of it: its score when learned, and now; what lost most first."""
    rows: list[tuple[float, list[str]]] = []
    for name, (kept, one) in history.classes.items():
        for place, task in enumerate(kept):
            stage, lost = one.learned[place], float(one.forgetting[place])
            if stage is None:
                continue
            cells = [
                escape(name),
                f"task {task}",
                _or_dash(float(one.scores[stage, place])),
                _or_dash(float(one.scores[-1, place])),
                _loss(lost),
            ]
            rows.append((-math.inf if math.isnan(lost) else lost, cells))
    rows.sort(key=lambda row: -row[0])
    more = len(rows) - MOST_CLASSES
    tail = f'<p class="soft">and {more:,} more, in matrix.json</p>' if more > 0 else ""
    shown = [cells for _, cells in rows[:MOST_CLASSES]]
    return page.table(["Class", "Task", "When learned", "Now", "Forgetting"], shown, numeric=2) + tail if shown else ""


def _loss(lost: float) -> str:
    if math.isnan(lost):
        return "-"
    shade = min(max(lost, 0.0), 1.0) * 0.5
    style = f"background: rgb(var(--miss-rgb) / {shade:.3f}); padding: 1px 6px; border-radius: 4px"
    return f'<span style="{style}">{_signed(lost)}</span>'


def _legend(history: History) -> str:
    named = [(f"stage {i}", stage.uri) for i, stage in enumerate(history.stages)]
    for j, (task, stage) in enumerate(zip(history.tasks, history.learned.stages, strict=True)):
        learned = "by no known stage" if stage is None else f"by stage {stage}"
        named.append((f"task {j}", f"{task.uri} · {task.rows:,} rows · learned {learned}"))
    return page.facts([*named, ("known by", history.learned.by)])


def _or_dash(value: float) -> str:
    return "-" if math.isnan(value) else number(value)


def _signed(value: float) -> str:
    """Return a difference with its sign."""
    return "n/a" if math.isnan(value) else f"{value:+.4f}" if value else "0"
