"""Owns the part of docs/quality.md on boxes and masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality.pictures import CASES, SCRATCH, PictureCase

HEAD = """\
# Boxes and masks

Small networks from random weights, a few minutes on a CPU. *Difference*: the mean over seeds of the started model's
score less that of its twin from random weights, and the 95 % interval of each seed (paired bootstrap over the test
pictures, as `evaluate --baseline` gives it). Where both stay below 0.05, nothing can be concluded.
"""
# A score below which two models are not told apart.
INCONCLUSIVE = 0.05


def sections(results: Sequence[dict[str, Any]]) -> str:
    """Return the part of the page for these results; "" without any."""
    known = [case for case in CASES if any(one["case"] == case.name for one in results)]
    parts = [_section(case, [one for one in results if one["case"] == case.name]) for case in known]
    missing = [case.name for case in CASES if case not in known]
    last = [f"Not run yet: {', '.join(missing)}.\n"] if missing and parts else []
    return "\n".join([HEAD, *parts, *last]) if parts else ""


def _section(case: PictureCase, results: Sequence[dict[str, Any]]) -> str:
    lines = [f"## {case.title}", "", *([case.note, ""] if case.note else [])]
    lines += [
        f"| start | {case.metric} | spread | seeds | pictures | difference |",
        "| --- | ---: | --- | ---: | ---: | --- |",
    ]
    arms = {arm: [one for one in results if one["arm"] == arm] for arm in dict.fromkeys(one["arm"] for one in results)}
    scratch = arms.get(SCRATCH, [])
    for arm, rows in sorted(arms.items(), key=lambda pair: pair[0] != SCRATCH):
        values = [row["value"] for row in rows]
        spread = f"{min(values):.3f} to {max(values):.3f}"
        told = _difference(rows, scratch) if arm != SCRATCH else _reached(case, values)
        lines.append(f"| {arm} | {np.mean(values):.3f} | {spread} | {len(rows)} | {rows[0]['rows']} | {told} |")
    return "\n".join([*lines, "", f'`python -m benchmarks.quality.pictures --case "{case.name}"`', ""])


def _reached(case: PictureCase, values: Sequence[float]) -> str:
    if case.least is None:
        return ""
    return f"{'reached' if np.mean(values) >= case.least else 'NOT reached'}: {case.least:g}"


def _difference(rows: Sequence[dict[str, Any]], scratch: Sequence[dict[str, Any]]) -> str:
    """Say how the started models stand to their twins of the same seeds."""
    gains = [row["gate"]["gain"] for row in rows]
    twins = [one["value"] for one in scratch if one["seed"] in {row["seed"] for row in rows}]
    told = f"{np.mean([gain['gain'] for gain in gains]):+.3f}"
    told += f" ({'; '.join('{low:+.3f} to {high:+.3f}'.format(**gain) for gain in gains)})"
    if max(np.mean([row["value"] for row in rows]), np.mean(twins or [0])) < INCONCLUSIVE:
        return f"{told}: inconclusive, both are below {INCONCLUSIVE:g}"
    if all(gain["low"] > 0 for gain in gains):
        return f"{told}: better with every seed"
    return told
