"""Owns the step evaluate: a Model's scores, predictions and a report on Datasets, and whether it may take over.

Model, Datasets                  -> scores, predictions, report
the same, a baseline, thresholds -> accepted, and why           (carry/gate.py)
the same, earlier stages         -> the task matrix             (carry/forgetting.py)

<store>/evaluations/<digest>/   metrics.json  predictions.parquet  report.html  matrix.json     digest of what was asked
                                predictions.coco.json (boxes)
DIR (--output)                  the same, and result.json
"""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from carryover.carry.answers import Answers
from carryover.carry.forgetting import History, Named, history
from carryover.carry.gate import NO_BASELINE, Decision, Gate
from carryover.data.manifest import DatasetCard, load_card
from carryover.ground import storage
from carryover.ground.config import check
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.models.card import ModelCard
from carryover.models.export import Found
from carryover.steps.earlier import Earlier, ask, check_earlier, open_earlier
from carryover.steps.evaluation_files import MATRIX, PREDICTIONS, REPORT, Findings, Result, write
from carryover.steps.fit import check_fit, check_split
from carryover.steps.model_source import open_model
from carryover.steps.results import resolve_store, write_result
from carryover.steps.zero_shot import zero_shot_model
from carryover.tasks.metrics import REPORTED, Metric, find_metric


def evaluate(
    *,
    model: str = "",
    dataset: Sequence[str],
    zero_shot: str = "",
    class_name: Sequence[str] = (),
    prompt: Sequence[str] = (),
    baseline: str = "",
    stage: Sequence[str] = (),
    min_gain: float | None = None,
    max_forgetting: float | None = None,
    confident: bool = False,
    store: str = "",
    output: str = "",
    outputs_dir: str = "",
    split: str = "test",
    metric: Sequence[str] = (),
    batch_size: int = 64,
) -> dict[str, Any]:
    """Score a Model, and hold it against a baseline.

    Args:
        model: URI of a Model's folder or model.json, a folder that holds its card, or run:KEY.
        zero_shot: a CLIP or SigLIP checkpoint instead, which tells the classes of images by their names; `class_name`
            and `prompt` are its own, see zero_shot.py.
        dataset: URIs of Datasets; the first one's numbers are the result's own, all are in `datasets`. For the gate the
            first is the new one, the others are old ones; for the task matrix these stand from the oldest on.
        baseline: the Model whose place this one would take. "": there is none, and the Model is accepted.
        stage: earlier Models, the oldest first, for the task matrix; `model` is the last stage.
        min_gain: least gain over the baseline on the first Dataset, in the units of the first metric. None: not asked.
        max_forgetting: most loss against the baseline on any other Dataset. None: not asked.
        confident: whether the 95 % interval must hold both too.
        split: rows to score on: "train", "validation" or "test".
        metric: names or aliases; the usual ones of the problem type where none is given. The first is the main one.
        batch_size: rows at once; it changes speed and memory, not the scores.

    Returns:
        metrics, rows, confusion_matrix {labels, matrix} and roc {fpr, tpr, threshold} (null where there is none),
        classes (scores of each, of boxes and masks),
        datasets, uri of the folder, predictions (URI), report (path in `output`, else URI), model digest, seconds;
        accepted, reason, gate (null without a baseline), matrix (null without stages).

    Raises:
        WrongInput: whatever cannot be scored, all reasons at once; nothing heavy was loaded by then.
        Damaged: when a Model's or a Dataset's bytes are not those that were written.
    """
    started = time.monotonic()
    check(batch_size > 0, "--batch-size", batch_size, "1 or more")
    if not dataset:
        raise WrongInput("--dataset: nothing to score on; give what 'carryover prepare-data' printed as uri")
    gate = Gate(min_gain, max_forgetting, confident)
    home = resolve_store(store)
    if bool(model) == bool(zero_shot):
        raise WrongInput("--model, --zero-shot: give one of them, a Model or a checkpoint that tells classes by names")
    if (class_name or prompt) and not zero_shot:
        raise WrongInput("--class-name, --prompt: belong to --zero-shot; a Model has its classes")
    cards = [load_card(uri) for uri in _several(dataset)]
    earlier = open_earlier(baseline, _several(stage), store=home)
    if earlier.baseline:
        gate.check_datasets(len(cards))
    if zero_shot:
        metrics = _metrics(metric, cards[0].schema.problem_type)
        for card in cards:
            check_split(card, split)
        found = zero_shot_model(zero_shot, cards[0], store=home, class_names=class_name, prompts=prompt)
    else:
        found = open_model(model, store=home)
        metrics = _metrics(metric, found.card.schema.problem_type)
    for card in cards:
        check_fit(found.card, card, split)
    check_earlier(earlier, found.card, cards, split)
    results = _score(found, earlier, cards, metrics, split=split, batch_size=batch_size)
    answers = [result.answers for result in results]
    findings = Findings(
        found.card,
        split,
        results,
        _decide(gate, metrics[0], answers, found, earlier),
        _history(metrics[0], answers, cards, found, earlier),
    )
    asked = _asked(found.card, cards, split, metrics, gate, earlier)
    place = write(home, output, findings.files(), asked)
    result = _result(findings, place, output, earlier)
    result["seconds"] = round(time.monotonic() - started, 3)
    return write_result(result, output, outputs_dir)


def _several(given: Sequence[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else given


def _metrics(names: Sequence[str], problem_type: str) -> list[Metric]:
    found = [find_metric(name, problem_type) for name in _several(names) or REPORTED[problem_type]]
    return list({metric.name: metric for metric in found}.values())


def _score(
    found: Found,
    earlier: Earlier,
    cards: Sequence[DatasetCard],
    metrics: Sequence[Metric],
    *,
    split: str,
    batch_size: int,
) -> list[Result]:
    # torch is loaded from here on.
    from carryover.train.scoring import Scorer

    results = []
    with TemporaryDirectory(prefix="carryover-evaluate-") as folder:
        scratch = Path(folder)
        others = ask(earlier, found.card, cards, split, batch_size=batch_size, scratch=scratch)
        scorer = Scorer.of(found, batch_size=batch_size)
        for index, card in enumerate(cards):
            say(f"scoring {card.splits[split].rows:,} rows of {card.at} ({split}) on {scorer.device}")
            done = scorer.predict(card, split, scratch=scratch)
            table = scorer.table(done)
            table = table.add_column(0, "dataset", pa.array([index] * table.num_rows, pa.int32()))
            said = {other: every[index] for other, every in others.items()}
            answers = Answers.of_models(card.at, card.digest, scorer.said(done), said, model_digest=found.card.digest)
            results.append(Result(card, scorer.describe(done, metrics), table, answers, scorer.files(done)))
    return results


def _decide(gate: Gate, metric: Metric, answers: Sequence[Answers], found: Found, earlier: Earlier) -> Decision:
    if earlier.baseline is None:
        return Decision(True, NO_BASELINE)
    return gate.decide(metric, answers, model=found.card.digest, baseline=earlier.baseline.card.digest)


def _history(
    metric: Metric, answers: Sequence[Answers], cards: Sequence[DatasetCard], found: Found, earlier: Earlier
) -> History | None:
    if not earlier.stages:
        return None
    models = [*(stage.card for stage in earlier.stages), found.card]
    return history(
        metric,
        answers,
        [card.schema for card in cards],
        stages=[Named(model.digest, model.at) for model in models],
        trained=[str(model.dataset.get("digest", "")) for model in models],
    )


def _asked(
    model: ModelCard,
    cards: Sequence[DatasetCard],
    split: str,
    metrics: Sequence[Metric],
    gate: Gate,
    earlier: Earlier,
) -> dict[str, Any]:
    """Return what names an evaluation: the same question lies in the same place."""
    asked: dict[str, Any] = {
        "model": model.digest,
        "datasets": [card.digest for card in cards],
        "split": split,
        "metrics": [metric.name for metric in metrics],
    }
    if earlier.baseline:
        asked |= {"baseline": earlier.baseline.card.digest, "gate": vars(gate)}
    if earlier.stages:
        asked |= {"stages": [stage.card.digest for stage in earlier.stages]}
    return asked


def _result(findings: Findings, place: str, output: str, earlier: Earlier) -> dict[str, Any]:
    first, datasets, model = findings.results[0].evaluation, findings.datasets(), findings.model
    shown, baseline, decision = first.shown.to_json(), earlier.baseline, findings.decision
    return {
        "step": "evaluate",
        "uri": place,
        "model_uri": model.at,
        "model_digest": model.digest,
        "problem_type": model.schema.problem_type,
        "split": findings.split,
        "rows": first.rows,
        "metrics": datasets[0]["metrics"],
        "datasets": datasets,
        "accepted": decision.accepted,
        "reason": decision.reason,
        "baseline_digest": baseline.card.digest if baseline else "",
        "gate": decision.to_json() if baseline else None,
        "matrix": findings.history.to_json() if findings.history else None,
        "matrix_uri": storage.join(place, MATRIX) if findings.history else "",
        "confusion_matrix": shown.get("confusion_matrix"),
        "roc": shown.get("roc"),
        **({"classes": shown["classes"]} if "classes" in shown else {}),
        "predictions": storage.join(place, PREDICTIONS),
        "report": storage.join(output or place, REPORT),
    }
