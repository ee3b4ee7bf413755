"""Owns Model: trained weights with all that inference needs, as a notebook has them."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carryover.api import cards
from carryover.api.places import store_of
from carryover.api.saying import spoken
from carryover.ground.errors import CarryoverError, WrongInput

if TYPE_CHECKING:
    import numpy as np

    from carryover.api.backbone import Backbone
    from carryover.api.dataset import Dataset
    from carryover.api.evaluation import Evaluation
    from carryover.api.run import Run
    from carryover.models.export import Found
    from carryover.train.scoring import Scorer


@dataclass(frozen=True, repr=False)
class Model:
    """A trained model in a store.

    Attributes:
        uri: its folder.
        digest: of its files: the same weights and preprocessing give the same one.
        store: the store that it lies in, "" where it lies elsewhere.
        label, problem_type, classes: what it tells; see `Dataset`.
        columns: those that it reads.
        metrics: name -> value, of its training.
        run_key: of the run that made it.
        step: optimizer steps that its weights have seen.
        reason: why its training ended.
        parent_digest: of what it was extended or transferred from, "" for nothing.
        report: path or URI of its training's page, "" where there is none.
        result: all that the step said, {} where it was opened.
    """

    uri: str
    digest: str
    store: str
    label: str
    problem_type: str
    classes: tuple[bool | int | float | str, ...] | None
    columns: tuple[str, ...]
    metrics: Mapping[str, float | None] = field(compare=False)
    run_key: str
    step: int
    reason: str
    parent_digest: str
    report: str = field(default="", compare=False)
    result: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def word(self) -> str:
        """Return what names it to a step."""
        return self.uri

    @spoken()
    def predict(self, rows: Any, *, batch_size: int = 64) -> "np.ndarray":
        """Return the Model's answer to each row: a class, or a number in the label's own unit.

        Args:
            rows: a data frame, an Arrow table, a dict of columns or a list of dicts, with the columns that the Model
                reads; others play no part. Pictures are named by paths, or are their files' bytes.
            batch_size: rows at once; it changes speed and memory.

        Returns:
            [N], of the classes' own type, or float64.

        Raises:
            WrongInput: names all columns that are missing, or a value that can't be read.
        """
        import pyarrow as pa

        from carryover.api import serving

        values = serving.values(self._server, rows, batch_size=batch_size)
        if self.classes is None:
            return values
        best = pa.array(values.argmax(axis=1))
        return pa.array(list(self.classes)).take(best).to_numpy(zero_copy_only=False)

    @spoken()
    def predict_proba(self, rows: Any, *, batch_size: int = 64) -> "np.ndarray":
        """Return the probability of each class, float64[N, C], in the order of `classes`.

        Args:
            rows, batch_size: as in `predict`.

        Raises:
            WrongInput: as `predict`, and for a regression.
        """
        from carryover.api import serving

        if self.classes is None:
            raise WrongInput("predict_proba: a regression has no probabilities; use predict")
        return serving.values(self._server, rows, batch_size=batch_size)

    def evaluate(self, dataset: Any, **options: Any) -> "Evaluation":
        """Score it on a Dataset, or several; see `carryover.evaluate`."""
        from carryover.api.verbs import evaluate

        return evaluate(self, dataset, **options)

    def dump_backbone(self, **options: Any) -> "Backbone":
        """Write its branches as folders that transformers or timm opens; see `carryover.dump_backbone`."""
        from carryover.api.verbs import dump_backbone

        return dump_backbone(self, **options)

    def extend(self, dataset: Any, **settings: Any) -> "Model":
        """Train a new Model on a new Dataset, starting from this one; see `carryover.train`, `init_from`."""
        from carryover.api.training import train

        return train(dataset, init_from=self, **settings)

    @property
    @spoken()
    def run(self) -> "Run":
        """Return the run that made it, which can go on.

        Raises:
            WrongInput: when it is not in the store any more.
        """
        from carryover.api.run import run_of
        from carryover.checkpoint.home import RunHome

        return run_of(RunHome.at(self._found.card.checkpoint_uri))

    @property
    @spoken()
    def dataset(self) -> "Dataset":
        """Return what it was trained on.

        Raises:
            WrongInput: when that is not in the store any more.
        """
        from carryover.api.dataset import dataset_of
        from carryover.data.manifest import find_dataset

        card, places = find_dataset(self._found.card.dataset, store=self.store)
        if card is None:
            looked = " nor at ".join(places)
            raise WrongInput(f"the dataset of Model {self.digest} is not at {looked}", trouble="not-there")
        return dataset_of(card.location)

    @functools.cached_property
    def _found(self) -> "Found":
        from carryover.models.export import find_model

        return find_model(self.uri, store=self.store)

    @functools.cached_property
    def _server(self) -> "Scorer":
        # Loaded once, and kept as long as this object.
        from carryover.api import serving

        return serving.load(self.uri, store=self.store)

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items() if value is not None)
        told = f"{self.label}: {self.problem_type}" + (f"; {scores}" if scores else "")
        return f"Model({told}; {self.digest[:12]} at {cards.near(self.uri)})"

    def _repr_html_(self) -> str:
        tiles = [(name, value) for name, value in self.metrics.items() if value is not None]
        made = self.result
        again = f", attempts {made['attempts']}, lost steps {made['lost_steps']}" if "attempts" in made else ""
        facts = [
            ("tells", f"{self.label}, {self.problem_type}"),
            ("classes", cards.listed(self.classes or ())),
            ("reads", cards.listed(self.columns)),
            ("made by", f"run {self.run_key}, step {self.step:,} ({self.reason}){again}"),
            ("starts from", self.parent_digest[:12]),
            ("place", cards.near(self.uri)),
        ]
        return cards.Card("Model", "", self.digest, tiles, facts, self._curve(), self.report).html()

    def _curve(self) -> str:
        from carryover.api.sparks import spark
        from carryover.ground import storage
        from carryover.report.curve import read_curve

        # A Model may outlive its run, or be read by who may not read that.
        try:
            return spark(read_curve(storage.open_store(self._found.card.checkpoint_uri)))
        except (OSError, CarryoverError):
            return ""


@spoken()
def model_of(source: str, *, store: str, result: Mapping[str, Any] | None = None) -> Model:
    """Open a Model by any of its words.

    Args:
        result: of the step that made it just now.

    Raises:
        WrongInput: when there is none.
    """
    from carryover.ground import storage
    from carryover.steps.fit import used_columns
    from carryover.steps.model_source import open_model

    found, told = open_model(source, store=store), result or {}
    card, uri = found.card, found.folder.uri
    return Model(
        uri=uri,
        digest=card.digest,
        store=store_of(uri, "models") or store,
        label=card.schema.label,
        problem_type=card.schema.problem_type,
        classes=card.schema.classes,
        columns=tuple(used_columns(card)),
        metrics=dict(told.get("metrics") or {name: card.metrics[name] for name in card.metrics if "val_" in name}),
        run_key=card.run_key,
        step=card.step,
        reason=card.reason,
        parent_digest=str((card.parent or {}).get("digest", "")),
        report=str(told.get("report", "")) or _report(storage.normal(card.checkpoint_uri)),
        result=told,
    )


def _report(home: str) -> str:
    from carryover.ground import storage

    try:
        return storage.join(home, "report.html") if storage.open_store(home).exists("report.html") else ""
    except OSError:
        return ""
