"""Owns what evaluate writes: scores as JSON, predictions as Parquet, the report, and the task matrix.

<store>/evaluations/<digest>/   metrics.json  predictions.parquet  report.html  matrix.json (with stages)
                                predictions.coco.json (boxes; of a later Dataset predictions.coco.1.json)
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from carryover.carry.answers import Answers
from carryover.carry.forgetting import History
from carryover.carry.gate import Decision
from carryover.carry.lineage import chain
from carryover.data.manifest import DatasetCard
from carryover.ground import storage
from carryover.ground.digests import canonical, digest, short
from carryover.models.card import ModelCard
from carryover.report.evaluation import Evaluation, evaluation_page
from carryover.report.forgetting import gate_section, history_section
from carryover.report.lineage import lineage_short
from carryover.steps.results import plain

EVALUATIONS = "evaluations"
METRICS, PREDICTIONS, REPORT, MATRIX = "metrics.json", "predictions.parquet", "report.html", "matrix.json"


@dataclass(frozen=True)
class Result:
    """What came of one dataset: for people, its predictions as a table, and what all Models said of it.

    Attributes:
        files: what its kind of answers has beside, by name.
    """

    card: DatasetCard
    evaluation: Evaluation
    predictions: pa.Table
    answers: Answers
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """All that evaluate found.

    Attributes:
        decision: of the gate.
        history: of the stages; None without any.
    """

    model: ModelCard
    split: str
    results: Sequence[Result]
    decision: Decision
    history: History | None = None

    def files(self) -> dict[str, bytes]:
        """Return the files, by name."""
        files = {
            METRICS: _json(self._metrics()),
            PREDICTIONS: _parquet([result.predictions for result in self.results]),
            REPORT: self._report().encode(),
            **self._own_files(),
        }
        return files if self.history is None else {**files, MATRIX: _json(self.history.to_json())}

    def _own_files(self) -> dict[str, bytes]:
        """Return what kinds of answers have beside; of a later Dataset, "a.json" is "a.1.json"."""
        found = {}
        for index, result in enumerate(self.results):
            for name, data in result.files.items():
                stem, _, ending = name.rpartition(".")
                found[f"{stem}.{index}.{ending}" if index else name] = data
        return found

    def datasets(self) -> list[dict[str, Any]]:
        """Return the scores of every Dataset, with what and where it is."""
        return [
            {
                "uri": result.card.at,
                "digest": result.card.digest,
                "rows": result.evaluation.rows,
                "metrics": {name: _finite(value) for name, value in result.evaluation.metrics.items()},
                **_classes(result.evaluation),
            }
            for result in self.results
        ]

    def _metrics(self) -> dict[str, Any]:
        datasets = self.datasets()
        values = {"model": self.model.digest, "split": self.split, "datasets": datasets}
        gate = {"gate": self.decision.to_json()} if self.decision.gain else {}
        classes = _classes(self.results[0].evaluation)
        return {**values, "metrics": datasets[0]["metrics"], **classes, **gate}

    def _report(self) -> str:
        model = self.model
        title = f"Evaluation of {model.schema.label}, {self.split} split"
        return evaluation_page(
            [one.evaluation for one in self.results],
            title=title,
            lead=f"Model {model.digest} · {model.schema.problem_type}",
            facts=_facts(model),
            foot="Made by carryover evaluate",
            before=gate_section(self.decision) if self.decision.gain else "",
            after=history_section(self.history) if self.history else "",
            lineage=lineage_short(chain(model), uri=model.at),
        )


def _facts(model: ModelCard) -> list[tuple[str, object]]:
    families = ", ".join(branch["name"] for branch in model.assembly["branches"])
    joined = f", joined by {model.assembly['fusion']['name']}" if model.assembly["fusion"] else ""
    known: list[tuple[str, object]] = [
        ("Model", model.digest),
        ("Place", model.at),
        ("Label", f"{model.schema.label} ({model.schema.problem_type})"),
        ("Families", families + joined),
        ("Run", model.run_key),
        ("Step", model.step),
        ("Trained on", model.dataset.get("uri", "")),
        *((f"{name} at training", f"{value:.6g}") for name, value in model.metrics.items() if value is not None),
    ]
    # One that was never trained has no run and no data.
    return [(name, value) for name, value in known if value not in ("", 0)]


def write(store: str, output: str, files: Mapping[str, bytes], asked: Mapping[str, Any]) -> str:
    """Write the files to the store and, where given, to `output`; return the place in the store.

    Args:
        asked: what was evaluated and how; the place is named by its digest.
    """
    place = storage.open_store(storage.join(storage.join(store, EVALUATIONS), short(digest(canonical(asked)))))
    for folder in [place, *([storage.open_store(output)] if output else [])]:
        for name, data in files.items():
            folder.write(name, data)
    return place.uri


def _json(value: Any) -> bytes:
    return json.dumps(plain(value), indent=1).encode() + b"\n"


def _classes(evaluation: Evaluation) -> dict[str, Any]:
    """Return the scores of each class, where a kind of answers has them."""
    shown = evaluation.shown.to_json()
    return {"classes": plain(shown["classes"])} if "classes" in shown else {}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _parquet(tables: Sequence[pa.Table]) -> bytes:
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    # Labels of different datasets may be stored as int64 here and double there.
    pq.write_table(pa.concat_tables(_as_texts(tables), promote_options="permissive"), sink)
    return sink.getvalue().to_pybytes()


def _as_texts(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Return the tables with texts in columns that hold numbers in one and texts in another, as ids of pictures may."""
    found: dict[str, set[pa.DataType]] = {}
    for column in (column for table in tables for column in table.schema):
        found.setdefault(column.name, set()).add(column.type)
    mixed = {name for name, types in found.items() if {pa.int64(), pa.string()} <= types}

    def cast(table: pa.Table) -> pa.Table:
        columns = [one.with_type(pa.string()) if one.name in mixed else one for one in table.schema]
        return table.cast(pa.schema(columns, table.schema.metadata))

    return [cast(table) for table in tables] if mixed else list(tables)
