"""Owns the part of docs/quality.md on forgetting: what each remedy keeps of old tasks, and costs on the new one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality.streams import PLAIN, STREAMS, Stream

RESAMPLES = 2000
HEAD = """\
# Forgetting: tasks that come one after the other

Each task is learned by extending the model of the one before (`--init-from`), and the last model is scored on all.
*Mean* is the accuracy of the last model over all tasks, *forgotten* how much worse it is on old tasks than the model
that had just learned them. *Old tasks*, *new task*: the last model's accuracy less that of plain extending, 95 %
interval, paired bootstrap over the test rows of each task, of the mean over seeds. *Goal*: the old tasks' interval is
above 0, and the new task's reaches -0.03.
"""


def sections(results: Sequence[dict[str, Any]]) -> str:
    """Return the part of the page for these results."""
    parts = [HEAD]
    for stream in STREAMS:
        mine = [one for one in results if one["stream"] == stream.name]
        if mine:
            parts.append(_section(stream, mine))
    done = {(one["stream"], one["arm"], one["seed"]) for one in results}
    missing = [
        f"{stream.name} ({arm}, seed {seed})"
        for stream in STREAMS
        for arm in stream.arms
        for seed in (0, 1, 2)
        if (stream.name, arm, seed) not in done
    ]
    if missing:
        parts.append(f"Not run yet: {', '.join(missing)}.\n")
    return "\n".join(parts)


def _section(stream: Stream, results: Sequence[dict[str, Any]]) -> str:
    by_arm = {arm: [one for one in results if one["arm"] == arm] for arm in stream.arms}
    tasks = list(stream.tasks)
    lines = [f"## {stream.title}", "", stream.note, ""]
    heads = [*(f"{task}, last" for task in tasks), "mean", "forgotten", "old tasks", "new task", "seeds", "goal"]
    lines += [f"| arm | {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(tasks) + 2)} --- | --- | ---: | --- |"]
    for arm, rows in by_arm.items():
        if rows:
            lines.append(f"| {arm} | {' | '.join(_cells(rows, by_arm[PLAIN]))} |")
    if by_arm[PLAIN]:
        learned = np.mean([[row["scores"][j][j] for j in range(len(tasks))] for row in by_arm[PLAIN]], axis=0)
        told = ", ".join(f"{task} {score:.3f}" for task, score in zip(tasks, learned, strict=True))
        lines += _goals(stream, by_arm)
        lines += ["", *_matrices(stream, by_arm)]
        lines += ["", f"When each task had just been learned, plainly: {told}."]
    return "\n".join([*lines, "", f"`python -m benchmarks.quality.streams --stream {stream.name}`", ""])


def _matrices(stream: Stream, by_arm: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return R[i,j] of each arm, the mean over its seeds: a line a stage, a column a task."""
    tasks = list(stream.tasks)
    lines = [f"| R, after | {' | '.join(tasks)} |", f"| --- |{' ---: |' * len(tasks)}"]
    for arm, rows in by_arm.items():
        if not rows:
            continue
        matrix = np.mean([row["scores"] for row in rows], axis=0)
        for task, scores in zip(tasks, matrix, strict=True):
            lines.append(f"| {arm}: {task} | {' | '.join(f'{value:.3f}' for value in scores)} |")
    return lines


def _goals(stream: Stream, by_arm: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Say of each arm with a goal on the last task whether it is reached."""
    lines = []
    for arm, (least, why) in stream.goals.items():
        if by_arm[arm]:
            mean = np.mean([row["scores"][-1][-1] for row in by_arm[arm]])
            word = "reached" if mean >= least else "NOT reached"
            lines += ["", f"{arm}, on the last task: {mean:.3f}; {word}: {least:g} ({why})."]
    return lines


def _cells(rows: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]]) -> list[str]:
    scores = np.array([row["scores"] for row in rows])
    last, learned = scores[:, -1, :], np.array([[one[j][j] for j in range(one.shape[1])] for one in scores])
    forgotten = (learned - last)[:, :-1].mean()
    cells = [*(f"{value:.3f}" for value in last.mean(axis=0)), f"{last.mean():.3f}", f"{forgotten:+.3f}"]
    shared = [(row, base) for row in rows for base in plain if row["seed"] == base["seed"]]
    if rows is plain or not shared:
        return [*cells, "", "", str(len(rows)), ""]
    old, new = _interval(shared, old=True), _interval(shared, old=False)
    reached = "reached" if old[0] > 0 and new[1] >= -0.03 else "NOT reached"
    texts = [f"{low:+.3f} to {high:+.3f}" for low, high in (old, new)]
    return [*cells, *texts, str(len(rows)), reached]


def _interval(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], *, old: bool) -> tuple[float, float]:
    """Return the 95 % interval of an arm's accuracy less plain extending's, on the old tasks or on the new one."""
    rng, count = np.random.default_rng(0), len(pairs[0][0]["right"])
    means = []
    for task in range(count - 1) if old else (count - 1,):
        differences = np.mean([np.subtract(row["right"][task], base["right"][task]) for row, base in pairs], axis=0)
        drawn = rng.integers(0, len(differences), (RESAMPLES, len(differences)))
        means.append(differences[drawn].mean(axis=1))
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return float(low), float(high)
