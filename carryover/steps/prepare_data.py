"""Owns the step prepare-data: source files in, a typed and split Dataset in the store out."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from carryover.data import drift, sources
from carryover.data.manifest import CARD, DatasetCard
from carryover.data.portrait import find_portrait
from carryover.data.prepare import prepare
from carryover.data.problem import check_problem_type
from carryover.data.request import Request
from carryover.data.split import Fractions
from carryover.ground import storage
from carryover.ground.config import check
from carryover.ground.console import warn
from carryover.ground.errors import WrongInput
from carryover.report.dataset import dataset_page
from carryover.report.remarks import GRAVE, remarks
from carryover.steps.reference import reference
from carryover.steps.results import resolve_store, write_result

# The data card as people read it.
PAGE = "dataset.html"


def prepare_data(
    *,
    source: Sequence[str],
    label: str = "",
    store: str = "",
    output: str = "",
    outputs_dir: str = "",
    validation_source: Sequence[str] = (),
    test_source: Sequence[str] = (),
    problem_type: str = "",
    column_types: Mapping[str, str] | None = None,
    train_fraction: float = 0.8,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    schema_from: str = "",
    grow_classes: bool = False,
    max_drift: float | None = None,
    image_root: str = "",
    ignore_label: int | None = None,
) -> dict[str, Any]:
    """Turn source files into a Dataset: column types, problem type, splits, typed shards.

    Args:
        source: URIs, globs or folders of CSV, TSV, JSONL or Parquet files, all with the same columns; a folder with a
            folder of images for each class (columns "image" and "label"); or COCO's instances files, a VOC root, its
            Annotations or lists (columns "image", "image_id" and "rois").
        label: the column to predict; may be left out with schema_from, and for COCO and VOC.
        validation_source, test_source: where given, that split is these rows, and takes none of `source`.
        problem_type: "binary", "multiclass", "regression", "classification" (one of the first two), "" to infer it;
            "object_detection" (of COCO and VOC by itself), "semantic_segmentation", which are never inferred.
        column_types: column -> type, for columns whose type should not be inferred; "null" leaves a column out.
        schema_from: a Model or Dataset (URI, run:KEY) whose label, types, problem and classes the data follow.
        grow_classes: classes that it does not have are appended to its own; else they are an error.
        max_drift: the greatest PSI of a column, against the train split of schema_from, that is still accepted.
        image_root: URI of the folder of the pictures that COCO or VOC name; "" to look beside the annotations.
        ignore_label: the id of mask pixels that are of no class; they are stored as 255. None: 255 alone is.

    Returns:
        uri, digest, changed (whether it was written now), rows of each split, what was inferred, report (the data card
            as a page: its URI), seconds; of boxes and masks also the label's statistics (schema.py); with
        schema_from also whom it follows, grown classes and the drift of each column, the worst first.

    Raises:
        WrongInput: whatever in the data or the arguments cannot be used, one line, nothing is written; or a column
            that drifted too far (the Dataset is there then and its page, and no artifact).
    """
    started = time.monotonic()
    given = {"source": source, "validation": validation_source, "test": test_source}
    if not source:
        raise WrongInput("--source: nothing to read; give a file, a glob or a folder")
    for flag, value in (("--grow-classes", grow_classes), ("--max-drift", max_drift is not None)):
        if value and not schema_from:
            raise WrongInput(f"{flag}: needs --schema-from, the Model or Dataset to compare with")
    check(max_drift is None or max_drift > 0, "--max-drift", max_drift, "above 0, e.g. 0.25")
    check_problem_type(problem_type)
    home = storage.open_store(resolve_store(store))
    follows = reference(schema_from, store=home.uri, grow=grow_classes) if schema_from else None
    files = sources.find_all({role: _listed(uris) for role, uris in given.items()}, image_root=image_root)
    every = [file for found in files.values() for file in found]
    label, problem_type = sources.implied(every, label, problem_type)
    if not (label or schema_from):
        raise WrongInput("--label: empty; name the column to predict")
    fractions = Fractions(train_fraction, validation_fraction, test_fraction)
    request = Request(files, label, problem_type, dict(column_types or {}), fractions, follows, ignore_label)
    _check_ignored(request)
    # A store that cannot be written is said now, and not after an hour of reading.
    home.probe()
    prepared = prepare(request, home)
    card = prepared.card
    # Before drift is held against its limit: the page shows what has moved.
    report = _write_page(card, output)
    if max_drift is not None:
        drift.check(card.lineage["drift"], max_drift)
    if output:
        storage.open_store(output).write(CARD, card.to_bytes())
    result = {
        "step": "prepare-data",
        "uri": card.at,
        "digest": card.digest,
        "changed": prepared.changed,
        "rows": card.rows(),
        "label": card.schema.label,
        "problem_type": card.schema.problem_type,
        "classes": None if card.schema.classes is None else len(card.schema.classes),
        "columns": {column.name: column.type for column in card.schema.columns},
        **({"label_statistics": dict(card.schema.label_column.statistics)} if request.dense else {}),
        **card.lineage,
        "report": report,
        "seconds": round(time.monotonic() - started, 3),
    }
    return write_result(result, output, outputs_dir)


def _write_page(card: DatasetCard, output: str) -> str:
    """Write the data card as a page, into the Dataset's own folder and where asked; return the last place."""
    with TemporaryDirectory(prefix="carryover-card-") as scratch:
        portrait = find_portrait(card, Path(scratch))
    page = dataset_page(card, portrait).encode()
    for one in remarks(card, portrait):
        if one.weight == GRAVE:
            warn(f"{one.column}: {one.words}" if one.column else one.words)
    places = [storage.open_store(place) for place in (card.location or card.at, output) if place]
    for place in places:
        # What is asked for again changes nothing.
        if not place.exists(PAGE) or place.read(PAGE) != page:
            place.write(PAGE, page)
    return storage.join(output or card.location or card.at, PAGE)


def _check_ignored(request: Request) -> None:
    ignored = request.ignore_label
    check(ignored is None or 0 <= ignored <= 255, "--ignore-label", ignored, "from 0 to 255")
    if ignored is not None and request.dense != "mask":
        raise WrongInput("--ignore-label: is for masks, --problem-type semantic_segmentation")


def _listed(uris: Sequence[str]) -> Sequence[str]:
    """Take one URI for a list of one: a string is a sequence too, of its letters."""
    return [uris] if isinstance(uris, str) else uris
