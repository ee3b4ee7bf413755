"""Owns the step evaluate: a Model's scores, predictions and a report on any split of any datasets that fit it.

<store>/evaluations/<digest>/   metrics.json  predictions.parquet  report.html      digest of what was asked
DIR (--output)                  the same, and result.json
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from carryover.data.manifest import DatasetCard, load_card
from carryover.ground import storage
from carryover.ground.config import check
from carryover.ground.console import say
from carryover.ground.digests import canonical, digest, short
from carryover.ground.errors import WrongInput
from carryover.models.card import ModelCard
from carryover.models.columns import as_text
from carryover.models.export import Found
from carryover.report.evaluation import Evaluation, evaluation_page
from carryover.steps.model_source import open_model
from carryover.steps.results import plain, resolve_store, write_result
from carryover.steps.zero_shot import zero_shot_model
from carryover.tasks.curves import Roc
from carryover.tasks.metrics import REPORTED, Metric, find_metric

EVALUATIONS = "evaluations"
METRICS, PREDICTIONS, REPORT = "metrics.json", "predictions.parquet", "report.html"


@dataclass(frozen=True)
class Result:
    """What came of one dataset: for people, and its predictions as a table."""

    card: DatasetCard
    evaluation: Evaluation
    predictions: pa.Table


def evaluate(
    *,
    model: str = "",
    dataset: Sequence[str],
    zero_shot: str = "",
    class_name: Sequence[str] = (),
    prompt: Sequence[str] = (),
    store: str = "",
    output: str = "",
    outputs_dir: str = "",
    split: str = "test",
    metric: Sequence[str] = (),
    batch_size: int = 64,
) -> dict[str, Any]:
    """Score a Model.

    Args:
        model: URI of a Model's folder or model.json, a folder that holds its card, or run:KEY.
        zero_shot: a CLIP or SigLIP checkpoint instead, which tells the classes of images by their names; `class_name`
            and `prompt` are its own, see zero_shot.py.
        dataset: URIs of Datasets; the first one's numbers are the result's own, all are in `datasets`.
        split: rows to score on: "train", "validation" or "test".
        metric: names or aliases; the usual ones of the problem type where none is given.
        batch_size: rows at once; it changes speed and memory, not the scores.

    Returns:
        metrics, rows, confusion_matrix {labels, matrix} and roc {fpr, tpr, threshold} (null where there is none),
        datasets, uri of the folder, predictions (URI), report (path in `output`, else URI), model digest, seconds.

    Raises:
        WrongInput: whatever cannot be scored, all reasons at once; nothing heavy was loaded by then.
        Damaged: when the Model's or a Dataset's bytes are not those that were written.
    """
    started = time.monotonic()
    check(batch_size > 0, "--batch-size", batch_size, "1 or more")
    if not dataset:
        raise WrongInput("--dataset: nothing to score on; give what 'carryover prepare-data' printed as uri")
    home = resolve_store(store)
    if bool(model) == bool(zero_shot):
        raise WrongInput("--model, --zero-shot: give one of them, a Model or a checkpoint that tells classes by names")
    if (class_name or prompt) and not zero_shot:
        raise WrongInput("--class-name, --prompt: belong to --zero-shot; a Model has its classes")
    cards = [load_card(uri) for uri in ([dataset] if isinstance(dataset, str) else dataset)]
    if zero_shot:
        metrics = _metrics(metric, cards[0].schema.problem_type)
        for card in cards:
            _check_split(card, split)
        found = zero_shot_model(zero_shot, cards[0], store=home, class_names=class_name, prompts=prompt)
    else:
        found = open_model(model, store=home)
        metrics = _metrics(metric, found.card.schema.problem_type)
    for card in cards:
        check_fit(found.card, card, split)
    results = _score(found, cards, metrics, split=split, batch_size=batch_size)
    files = {
        METRICS: _metrics_json(found.card, results, split),
        PREDICTIONS: _parquet([result.predictions for result in results]),
        REPORT: _report(found.card, results, split).encode(),
    }
    place = _write(home, output, files, found.card, cards, split, [one.name for one in metrics])
    result = _result(found.card, results, split, place, output)
    result["seconds"] = round(time.monotonic() - started, 3)
    return write_result(result, output, outputs_dir)


def check_fit(model: ModelCard, dataset: DatasetCard, split: str) -> None:
    """Check that a Dataset can be scored by a Model.

    Raises:
        WrongInput: names every reason why it cannot.
    """
    mine, theirs = model.schema, dataset.schema
    reasons = [why] if (why := _why_no_split(dataset, split)) else []
    if theirs.label != mine.label:
        reasons.append(f"its label is '{theirs.label}', the model's is '{mine.label}'")
    elif (theirs.classes is None) != (mine.classes is None):
        reasons.append(
            f"its problem type is {theirs.problem_type}, the model's is {mine.problem_type}; "
            f"prepare it with --problem-type {mine.problem_type if mine.classes is None else 'classification'}"
        )
    elif mine.classes is not None and theirs.classes is not None:
        known = {as_text(value) for value in mine.classes}
        unknown = [value for value in theirs.classes if as_text(value) not in known]
        if unknown:
            reasons.append(f"classes that the model does not know: {', '.join(map(repr, unknown[:20]))}")
    stored = {column.name for column in theirs.columns if column.type != "null"}
    missing = [name for name in used_columns(model) if name not in stored]
    if missing:
        reasons.append(
            f"columns missing that the model reads: {', '.join(missing)} "
            "(a column without values, or with one value only, needs --column-type NAME=TYPE in prepare-data)"
        )
    if reasons:
        raise WrongInput(f"{dataset.at or 'dataset'} does not fit Model {model.digest}: {'; '.join(reasons)}")


def _check_split(dataset: DatasetCard, split: str) -> None:
    if why := _why_no_split(dataset, split):
        raise WrongInput(f"{dataset.at or 'dataset'}: {why}")


def _why_no_split(dataset: DatasetCard, split: str) -> str:
    """Return why a split cannot be scored, "" where it can."""
    if split not in dataset.splits:
        return f"there is no split '{split}'; there are {', '.join(dataset.splits)}"
    if dataset.splits[split].rows:
        return ""
    filled = [name for name, part in dataset.splits.items() if part.rows]
    return f"split '{split}' has no rows; there are rows in {', '.join(filled)}"


def used_columns(model: ModelCard) -> list[str]:
    """Return the columns that a Model reads, each once."""
    return list(dict.fromkeys(name for branch in model.assembly["branches"] for name in branch["columns"]))


def _metrics(names: Sequence[str], problem_type: str) -> list[Metric]:
    wanted = [names] if isinstance(names, str) else names
    found = [find_metric(name, problem_type) for name in wanted or REPORTED[problem_type]]
    return list({metric.name: metric for metric in found}.values())


def _score(
    found: Found, cards: Sequence[DatasetCard], metrics: Sequence[Metric], *, split: str, batch_size: int
) -> list[Result]:
    # torch is loaded from here on.
    from carryover.train.scoring import Scorer

    scorer = Scorer.of(found, batch_size=batch_size)
    results = []
    with TemporaryDirectory(prefix="carryover-evaluate-") as scratch:
        for index, card in enumerate(cards):
            say(f"scoring {card.splits[split].rows:,} rows of {card.at} ({split}) on {scorer.device}")
            evaluation, table = scorer.score(card, split, metrics, scratch=Path(scratch))
            table = table.add_column(0, "dataset", pa.array([index] * table.num_rows, pa.int32()))
            results.append(Result(card, evaluation, table))
    return results


def _metrics_json(model: ModelCard, results: Sequence[Result], split: str) -> bytes:
    value = {"model": model.digest, "split": split, "datasets": [_about(result) for result in results]}
    return json.dumps(plain({**value, "metrics": results[0].evaluation.metrics}), indent=1).encode() + b"\n"


def _about(result: Result) -> dict[str, Any]:
    evaluation, card = result.evaluation, result.card
    metrics = {name: _finite(value) for name, value in evaluation.metrics.items()}
    return {"uri": card.at, "digest": card.digest, "rows": evaluation.rows, "metrics": metrics}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _parquet(tables: Sequence[pa.Table]) -> bytes:
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    # Labels of different datasets may be stored as int64 here and double there.
    pq.write_table(pa.concat_tables(tables, promote_options="permissive"), sink)
    return sink.getvalue().to_pybytes()


def _report(model: ModelCard, results: Sequence[Result], split: str) -> str:
    families = ", ".join(branch["name"] for branch in model.assembly["branches"])
    facts = [
        ("Model", model.digest),
        ("Place", model.at),
        ("Label", f"{model.schema.label} ({model.schema.problem_type})"),
        (
            "Families",
            families + (f", joined by {model.assembly['fusion']['name']}" if model.assembly["fusion"] else ""),
        ),
        ("Run", model.run_key),
        ("Step", model.step),
        ("Trained on", model.dataset.get("uri", "")),
        *((f"{name} at training", f"{value:.6g}") for name, value in model.metrics.items() if value is not None),
    ]
    title = f"Evaluation of {model.schema.label}, {split} split"
    lead = f"Model {model.digest} · {model.schema.problem_type}"
    return evaluation_page(
        [one.evaluation for one in results], title=title, lead=lead, facts=facts, foot="Made by carryover evaluate"
    )


def _write(
    store: str,
    output: str,
    files: Mapping[str, bytes],
    model: ModelCard,
    cards: Sequence[DatasetCard],
    split: str,
    metrics: Sequence[str],
) -> str:
    """Write the files to the store and, where given, to `output`; return the place in the store."""
    asked = {"model": model.digest, "datasets": [c.digest for c in cards], "split": split, "metrics": list(metrics)}
    place = storage.open_store(storage.join(storage.join(store, EVALUATIONS), short(digest(canonical(asked)))))
    for folder in [place, *([storage.open_store(output)] if output else [])]:
        for name, data in files.items():
            folder.write(name, data)
    return place.uri


def _result(model: ModelCard, results: Sequence[Result], split: str, place: str, output: str) -> dict[str, Any]:
    first = results[0].evaluation
    about = _about(results[0])
    matrix = None
    if first.matrix is not None:
        matrix = {"labels": list(first.classes or ()), "matrix": first.matrix.tolist()}
    return {
        "step": "evaluate",
        "uri": place,
        "model_uri": model.at,
        "model_digest": model.digest,
        "problem_type": model.schema.problem_type,
        "split": split,
        "rows": first.rows,
        "metrics": about["metrics"],
        "datasets": [_about(result) for result in results],
        "confusion_matrix": matrix,
        "roc": _roc(first.roc),
        "predictions": storage.join(place, PREDICTIONS),
        "report": storage.join(output or place, REPORT),
    }


def _roc(curve: Roc | None) -> dict[str, list[float]] | None:
    if curve is None:
        return None
    return {"fpr": curve.fpr.tolist(), "tpr": curve.tpr.tolist(), "threshold": curve.threshold.tolist()}
