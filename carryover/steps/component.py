"""Owns what the bodies of workflow components share, in plain values: no workflow engine is imported here.

A component's body is a call of one step between `exit_codes()` and the engine's own way to log a value.
"""

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carryover.ground import last_words
from carryover.ground.errors import WrongInput
from carryover.tasks.metrics import SEGMENTATION

# The engine keeps a curve in its metadata database, and draws it a few hundred pixels wide.
MOST_POINTS = 200
MOST_CLASSES = 40


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turn an error into its last words and the exit code that a workflow engine acts on."""
    try:
        yield
    except Exception as error:
        sys.exit(last_words.speak(error))


def one_of(name: str, path: str, uri: str) -> str:
    """Return the one of an artifact's path and its string twin that is given.

    Raises:
        WrongInput: when both are given, or none.
    """
    if not (path or uri):
        raise WrongInput(f"{name}: missing; give the artifact {name}, or {name}_uri")
    return at_most_one(name, path, uri)


def at_most_one(name: str, path: str, uri: str) -> str:
    """Return the one of an optional artifact's path and its string twin that is given, "" for none.

    Raises:
        WrongInput: when both are given.
    """
    if path and uri:
        raise WrongInput(f"{name} and {name}_uri say the same thing; give one of them")
    return path or uri


def number(name: str, text: str) -> float | None:
    """Return a number that a workflow gives as text, None for an empty one: an engine has no word for "not given".

    Raises:
        WrongInput: for a text that is no number.
    """
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise WrongInput(
            f"{name}: '{text}' is not possible; it must be a number, or empty for none", trouble="wrong-value"
        ) from None


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are numbers; an undefined one (NaN, null) would fail the whole step in KFP."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def training_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Return what of a training's result is shown as metrics: its scores, and what the run took, stops included."""
    took = {name: result.get(name) for name in ("attempts", "lost_steps", "samples", "train_seconds")}
    seconds = result.get("train_seconds") or 0
    speed = {"rows_per_second": round(result["samples"] / seconds, 1)} if seconds else {}
    return finite_metrics({**result["metrics"], "optimizer_steps": result["step_count"], **took, **speed})


def metadata(result: Mapping[str, Any]) -> dict[str, str]:
    """Return a result's scalars as texts: KFP's metadata would turn the integer 3 into 3.0."""
    scalars = {name: value for name, value in result.items() if isinstance(value, (str, int, float, bool))}
    return {name: value if isinstance(value, str) else str(value) for name, value in scalars.items()}


def confusion_matrix(result: Mapping[str, Any]) -> tuple[list[str], list[list[int]]] | None:
    """Return (class names, rows of counts) of an evaluation, None for a regression, for boxes, and for too many masks.

    Masks may have 150 classes; beyond MOST_CLASSES their pixels stay in result.json, where nothing has to draw them.
    """
    found = result.get("confusion_matrix")
    if not found or (result.get("problem_type") == SEGMENTATION and len(found["labels"]) > MOST_CLASSES):
        return None
    return [str(label) for label in found["labels"]], [[int(cell) for cell in row] for row in found["matrix"]]


def roc_curve(result: Mapping[str, Any]) -> tuple[list[float], list[float], list[float]] | None:
    """Return (false positive rates, true positive rates, thresholds) of an evaluation, None where there is no curve.

    At most MOST_POINTS points. The threshold above all scores, which is infinite or null, becomes 1.0.
    """
    found = result.get("roc")
    if not found:
        return None
    keep = _spread(len(found["fpr"]))
    fpr, tpr = ([float(found[name][at]) for at in keep] for name in ("fpr", "tpr"))
    thresholds = [found["threshold"][at] for at in keep]
    usable = [float(value) if value is not None and math.isfinite(value) else 1.0 for value in thresholds]
    return fpr, tpr, usable


def _spread(count: int) -> Sequence[int]:
    """Return at most MOST_POINTS indices below `count`, evenly spread, with both ends."""
    if count <= MOST_POINTS:
        return range(count)
    return [round(at * (count - 1) / (MOST_POINTS - 1)) for at in range(MOST_POINTS)]
