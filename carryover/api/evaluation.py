"""Owns Evaluation: a Model's scores on Datasets, as a notebook has them."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carryover.api import cards
from carryover.api.places import store_of
from carryover.api.saying import spoken

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CLASSES = 8


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores, predictions and a decision, in a store.

    Attributes:
        uri: its folder; the same question lies in the same place.
        store: the store that it lies in.
        metrics: name -> value on the first Dataset, None where it is undefined.
        rows: of that Dataset's split.
        split: which rows: "train", "validation" or "test".
        problem_type: of the Model.
        model_uri, model_digest: what was scored.
        datasets: the same numbers of every Dataset: uri, digest, rows, metrics.
        accepted: what the gate says; True without a baseline.
        reason: why.
        gate: gain and forgetting against the baseline, None without one.
        matrix: scores after each stage on every Dataset, None without stages.
        confusion_matrix: {labels, matrix}, None where there is none.
        report: path or URI of the page.
        result: all that the step said.
    """

    uri: str
    store: str
    metrics: Mapping[str, float | None] = field(compare=False)
    rows: int
    split: str
    problem_type: str
    model_uri: str
    model_digest: str
    datasets: Sequence[Mapping[str, Any]] = field(compare=False)
    accepted: bool
    reason: str
    gate: Mapping[str, Any] | None = field(compare=False)
    matrix: Mapping[str, Any] | None = field(compare=False)
    confusion_matrix: Mapping[str, Any] | None = field(compare=False)
    report: str
    result: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    @spoken()
    def predictions(self) -> "pa.Table":
        """Return what the Model said of every row: columns row, label, prediction and, of classes, probabilities."""
        import pyarrow.parquet as pq

        from carryover.ground import storage

        folder, name = storage.split(str(self.result["predictions"]))
        return pq.read_table(io.BytesIO(storage.open_store(folder).read(name)))

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {_number(value)}" for name, value in self.metrics.items())
        verdict = f"; {'accepted' if self.accepted else 'not accepted'}: {self.reason}" if self.gate else ""
        return f"Evaluation({self.split}, {self.rows:,} rows: {scores}{verdict}; {cards.near(self.uri)})"

    def _repr_html_(self) -> str:
        facts = [
            ("model", self.model_digest[:12]),
            ("accepted" if self.accepted else "not accepted", self.reason if self.gate else ""),
            ("place", cards.near(self.uri)),
        ]
        title = f"{self.split}, {self.rows:,} rows, {self.problem_type}"
        tiles = list(self.metrics.items())[:8]
        return cards.Card("Evaluation", title, "", tiles, facts, self._inside(), self.report).html()

    def _inside(self) -> str:
        several = ""
        if len(self.datasets) > 1:
            names = list(self.metrics)
            rows = [
                [cards.near(one["uri"]), *(_number(one["metrics"][name]) for name in names)] for one in self.datasets
            ]
            several = cards.table(["dataset", *names], rows, numeric=range(1, len(names) + 1))
        found = self.confusion_matrix
        if not found or len(found["labels"]) > MOST_CLASSES:
            return several
        labels = [str(label) for label in found["labels"]]
        counts = [
            [name, *(f"{int(cell):,}" for cell in row)] for name, row in zip(labels, found["matrix"], strict=True)
        ]
        heads = ["true \\ told", *labels]
        return several + cards.table(heads, counts, numeric=range(1, len(heads)))


def evaluation_of(result: Mapping[str, Any]) -> Evaluation:
    """Return what the step evaluate said."""
    return Evaluation(
        **{name: result[name] for name in _SAME},
        store=store_of(result["uri"], "evaluations"),
        result=result,
    )


def _number(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4f}"


# What the result and the dataclass spell alike.
_SAME = (
    *("uri", "metrics", "rows", "split", "problem_type", "model_uri", "model_digest", "datasets", "accepted"),
    *("reason", "gate", "matrix", "confusion_matrix", "report"),
)
