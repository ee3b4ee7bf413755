"""Owns the verbs that do not train: prepare, evaluate, dump_backbone, and open for what is there already.

Each calls the step of its name (carryover/steps), with the same defaults and the same errors, and returns an object.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from carryover.api import places
from carryover.api.backbone import Backbone, backbone_of
from carryover.api.dataset import Dataset, dataset_of
from carryover.api.evaluation import Evaluation, evaluation_of
from carryover.api.model import model_of
from carryover.api.run import run_of
from carryover.api.saying import spoken
from carryover.api.tables import is_table, source_of
from carryover.ground import storage
from carryover.ground.errors import WrongInput

Place = str | os.PathLike[str]


@spoken()
def prepare(
    source: Any,
    label: str = "",
    *,
    store: Place = "",
    output: Place = "",
    validation_source: Any = (),
    test_source: Any = (),
    problem_type: str = "",
    column_types: Mapping[str, str] | None = None,
    train_fraction: float = 0.8,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    schema_from: Any = None,
    grow_classes: bool = False,
    max_drift: float | None = None,
    image_root: Place = "",
    ignore_label: int | None = None,
) -> Dataset:
    """Turn rows into a Dataset: typed columns, splits, Parquet shards; the same content is written once.

    Args:
        source: a file, a glob or a folder (CSV, TSV, JSONL, Parquet, a folder with a folder of images for each class,
            COCO, VOC), or several; or rows in memory: a data frame (pandas 2.2, polars), an Arrow table, a dict of
            columns, a list of dicts. Rows in memory are first written into the store, named by their content.
        label: the column to predict; not needed with schema_from, nor of COCO and VOC.
        store: where all that lasts is kept. "": that of schema_from, else `./.carryover`.
        output: a folder that gets the card, its page and result.json too.
        validation_source, test_source: like `source`; that split is these rows then, and takes none of `source`.
        problem_type: "binary", "multiclass", "regression", "classification" (one of the first two), "" to infer it;
            "object_detection" and "semantic_segmentation" are never guessed.
        column_types: column -> type, for columns whose type should not be inferred; "null" leaves a column out.
        train_fraction, validation_fraction, test_fraction: shares of `source`, 1 together; a split that is given by
            itself takes none.
        schema_from: a Model or Dataset (or its URI, "run:KEY", "champion:NAME") whose label, types, problem and classes
            the data follow.
        grow_classes: classes that it does not have are appended to its own; else they are an error.
        max_drift: the greatest PSI of a column, against the train split of schema_from, that is still accepted.
        image_root: folder of the pictures that COCO or VOC name; "" to look beside the annotations.
        ignore_label: the id of mask pixels that are of no class; None: 255.

    Raises:
        WrongInput: whatever in the data or the arguments can't be used, one line; nothing is written then.
    """
    from carryover.steps.prepare_data import PAGE, prepare_data
    from carryover.steps.results import resolve_store

    home = places.store_among(store, schema_from)
    if any(is_table(one) for given in (source, validation_source, test_source) for one in _several(given)):
        home = resolve_store(home)
    result = prepare_data(
        source=_sources(source, store=home, what="source"),
        label=label,
        store=home,
        output=os.fspath(output),
        validation_source=_sources(validation_source, store=home, what="validation_source"),
        test_source=_sources(test_source, store=home, what="test_source"),
        problem_type=problem_type,
        column_types=column_types,
        train_fraction=train_fraction,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        schema_from=places.word(schema_from, what="schema_from"),
        grow_classes=grow_classes,
        max_drift=max_drift,
        image_root=os.fspath(image_root),
        ignore_label=ignore_label,
    )
    page = storage.join(storage.normal(os.fspath(output)), PAGE) if output else ""
    return dataset_of(result["uri"], result, report=page)


@spoken()
def evaluate(
    model: Any,
    dataset: Any,
    *,
    baseline: Any = None,
    stage: Any = (),
    min_gain: float | None = None,
    max_forgetting: float | None = None,
    confident: bool = False,
    split: str = "test",
    metric: str | Sequence[str] = (),
    batch_size: int = 64,
    zero_shot: str = "",
    class_name: Sequence[str] = (),
    prompt: Sequence[str] = (),
    store: Place = "",
    output: Place = "",
) -> Evaluation:
    """Score a Model on Datasets: metrics, predictions, a report; hold it against a baseline.

    Args:
        model: a Model, or its URI, "run:KEY", "champion:NAME"; None with zero_shot.
        dataset: a Dataset or its URI, or several; for the gate the first is the new one, the others are old.
        baseline: the Model whose place this one would take.
        stage: earlier Models, the oldest first, for the task matrix; `model` is the last stage.
        min_gain: least gain over the baseline on the first Dataset. None: not asked.
        max_forgetting: most loss against the baseline on any other Dataset. None: not asked.
        confident: whether the 95 % interval must hold both too.
        split: rows to score on: "train", "validation" or "test".
        metric: name or names; the usual ones of the problem type where none is given. The first is the main one.
        batch_size: rows at once; it changes speed and memory, not the scores.
        zero_shot: a CLIP or SigLIP checkpoint instead of a Model, which tells images by their classes' names.
        class_name: with zero_shot, "CLASS=WORDS" each.
        prompt: with zero_shot, texts about an image, {} for the class.
        store: where the evaluation is kept. "": the store of the Model, else of the Dataset, else `./.carryover`.
        output: a folder that gets the report, the predictions and result.json too.

    Raises:
        WrongInput: whatever can't be scored, all reasons at once.
    """
    from carryover.steps import evaluate as step

    result = step.evaluate(
        model=places.word(model, what="model", verb="carryover.train(dataset)"),
        dataset=places.words(dataset, what="dataset"),
        zero_shot=zero_shot,
        class_name=class_name,
        prompt=prompt,
        baseline=places.word(baseline, what="baseline"),
        stage=places.words(stage, what="stage"),
        min_gain=min_gain,
        max_forgetting=max_forgetting,
        confident=confident,
        store=places.store_among(store, model, *_several(dataset)),
        output=os.fspath(output),
        split=split,
        metric=[metric] if isinstance(metric, str) else metric,
        batch_size=batch_size,
    )
    return evaluation_of(result)


@spoken()
def dump_backbone(model: Any, *, store: Place = "", output: Place = "") -> Backbone:
    """Write each branch of a trained network as a folder that transformers or timm opens without us.

    Args:
        model: a Model or a Run, or a word for one: a URI, "run:KEY", "run:KEY@STEP", "run:KEY@best", "champion:NAME".
        store: where the Backbone is kept. "": the store of the Model, else `./.carryover`.
        output: a folder that gets it too.

    Raises:
        WrongInput: when there is nothing to dump.
        CarryoverError: when the dump, opened again, is not what was trained; nothing is published then.
    """
    from carryover.steps import dump_backbone as step

    result = step.dump_backbone(
        model=places.word(model, what="model"),
        store=places.store_among(store, model),
        output=os.fspath(output),
    )
    return backbone_of(result["uri"], result)


@spoken()
def open(uri: Place, *, store: Place = "") -> Any:
    """Open what is there already: yesterday's Dataset, Model, Backbone or Run.

    Args:
        uri: its folder or card, or a folder with its card (an artifact); a run's home; "run:KEY" (a Run),
            "champion:NAME" (a Model).
        store: what run: and champion: are looked up in. "": `./.carryover`.

    Returns:
        a Dataset, Model, Backbone or Run: whichever it is.

    Raises:
        WrongInput: when there is nothing of ours.
    """
    from carryover.checkpoint.home import RunHome
    from carryover.steps.results import resolve_store

    place = os.fspath(uri)
    if place.startswith("run:"):
        home = RunHome.open(storage.open_store(resolve_store(os.fspath(store))), place.removeprefix("run:"))
        if not home.exists():
            where = storage.split(storage.split(home.store.uri)[0])[0]
            raise WrongInput(f"{place}: there is no such run in {where}", trouble="no-such-run")
        return run_of(home)
    if place.startswith("champion:"):
        return model_of(place, store=resolve_store(os.fspath(store)))
    folder, name = storage.split(place) if place.endswith(".json") else (storage.normal(place), "")
    there = storage.open_store(folder)
    for card, opened in _CARDS.items():
        if name == card or (not name and there.exists(card)):
            return opened(place)
    if not name and (there.exists("run.json") or RunHome(there).exists()):
        return run_of(RunHome.at(place))
    raise WrongInput(f"{place}: neither a Dataset, a Model, a Backbone nor a run is there", trouble="not-there")


_CARDS = {
    "dataset.json": dataset_of,
    "model.json": lambda uri: model_of(uri, store=""),
    "backbone.json": backbone_of,
}


def _several(given: Any) -> Sequence[Any]:
    """Return one or several as a list: rows in memory, a path and a result are one."""
    if isinstance(given, (list, tuple)) and not is_table(given):
        return given
    return [given]


def _sources(given: Any, *, store: str, what: str) -> list[str]:
    return [
        os.fspath(one) if isinstance(one, (str, os.PathLike)) else source_of(one, store=store, what=what)
        for one in _several(given)
        if not (isinstance(one, str) and not one)
    ]
