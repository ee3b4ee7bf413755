"""Owns found boxes: COCO's scores of each class, pictures with boxes, a table, and COCO's own list of results.

    predictions.parquet       row, image_id where there is one,
                              label [{class, bbox, crowd}], prediction [{class, bbox, score}]
    predictions.coco.json     [{image_id, category_id, bbox: [x, y, w, h], score}], with the ids of the source

`bbox` in the table is as `model.mmdet_image.output_bbox_format` asks: xyxy or xywh, in pixels of the stored picture.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from carryover.data.thumbnail import thumbnail
from carryover.models.columns import as_text
from carryover.report import pictures
from carryover.report.boxes import Box, Detected, Shot
from carryover.tasks.metrics import Scored
from carryover.tasks.task import Task
from carryover.train.kinds.kind import Pass
from carryover.train.kinds.stored import first_picture, identifier, named
from carryover.train.validate import Keeps

FILE = "predictions.coco.json"
# From this score on a found box is drawn: the many that a detector gives below it would hide the picture.
SHOWN_FROM = 0.3
_FORMAT = "output_bbox_format"


class Boxes:
    """See `kind.Kind`."""

    def keeps(self, task: Task) -> Keeps:
        return task

    def unread(self, task: Task) -> Callable[[pa.Table], np.ndarray]:
        return lambda rows: np.zeros((rows.num_rows, 0), np.float32)

    def shown(self, done: Pass, scored: Scored) -> Detected:
        coco, names = scored.coco, [as_text(value) for value in done.task.classes or ()]
        found, wrong, missed = _counts(scored)
        quality = np.where(found + wrong + missed > 0, 2 * found / np.maximum(2 * found + wrong + missed, 1), 1.0)
        shots = []
        for place, worst in pictures.chosen(quality):
            words = (
                f"{named(done, place)}: {int(found[place])} found, {int(missed[place])} missed, "
                f"{int(wrong[place])} false"
            )
            boxes = [*_true(scored.targets[place]), *_found(scored.predictions[place])]
            shots.append(Shot(thumbnail(first_picture(done, place)), words, worst, boxes))
        return Detected(names, coco.classes, coco.boxes, shots, SHOWN_FROM)

    def table(self, done: Pass) -> pa.Table:
        own = [as_text(value) for value in done.task.classes or ()]
        truth, values, form = done.truth, done.values, _format(done)
        columns: dict[str, Any] = {"row": pa.array(done.predicted.rows)}
        if name := identifier(done.card.schema):
            columns[name] = done.stored(name)
        crowd = pa.array(truth[truth[..., 4] >= 0][:, 5] > 0)
        score = pa.array(values[values[..., 4] >= 0][:, 4])
        columns["label"] = _lists(truth, truth[..., 4], own, form, ("crowd", crowd))
        columns["prediction"] = _lists(values, values[..., 5], own, form, ("score", score))
        return pa.table(columns).replace_schema_metadata({"bbox_format": form})

    def files(self, done: Pass) -> dict[str, bytes]:
        """Return COCO's list of results, where the source had ids of pictures and of classes."""
        schema = done.card.schema
        ids, name = schema.label_column.statistics.get("category_ids"), identifier(schema)
        if not ids or not name:
            return {}
        own = [ids.get(as_text(value)) for value in done.task.classes or ()]
        images, values = done.stored(name).to_pylist(), done.values
        listed = []
        for place, number in np.argwhere(values[..., 4] >= 0).tolist():
            x1, y1, x2, y2, score, label = values[place, number].tolist()
            # A row that could not be read was replaced by a neighbour, whose boxes are listed already.
            if done.predicted.rows[place] == place and own[int(label)] is not None:
                box = [x1, y1, x2 - x1, y2 - y1]
                listed.append({"image_id": images[place], "category_id": own[int(label)], "bbox": box, "score": score})
        return {FILE: json.dumps(listed).encode()}


def _format(done: Pass) -> str:
    formats = [part["config"].get(_FORMAT) for part in done.assembly["branches"]]
    return next((form for form in formats if form), "xyxy")


def _counts(scored: Scored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of each picture how many boxes were found, made up and missed, int64[N], at IoU 0.5 from SHOWN_FROM on."""
    found, wrong, wanted = np.zeros((3, len(scored.targets)))
    for one in scored.coco.matches():
        shown = one.score >= SHOWN_FROM
        found += np.bincount(one.image[shown & one.true[0]], minlength=len(found))
        wrong += np.bincount(one.image[shown & one.false[0]], minlength=len(found))
        wanted += one.wanted
    return found, wrong, wanted - found


def _true(boxes: np.ndarray) -> list[Box]:
    return [Box((x1, y1, x2, y2), int(label), crowd=crowd > 0) for x1, y1, x2, y2, label, crowd in boxes if label >= 0]


def _found(boxes: np.ndarray) -> list[Box]:
    kept = boxes[boxes[:, 4] >= SHOWN_FROM]
    return [Box((x1, y1, x2, y2), int(label), score=float(score)) for x1, y1, x2, y2, score, label in kept]


def _lists(
    boxes: np.ndarray, labels: np.ndarray, classes: list[str], form: str, extra: tuple[str, pa.Array]
) -> pa.Array:
    """Return boxes [N, K, 6] as a list of structs a row: class, bbox and one field more."""
    there = labels >= 0
    corners = boxes[there][:, :4].copy()
    if form == "xywh":
        corners[:, 2:] -= corners[:, :2]
    sides = pa.ListArray.from_arrays(
        pa.array(np.arange(len(corners) + 1, dtype=np.int32) * 4), pa.array(corners.ravel())
    )
    names = pa.array(classes, pa.string()).take(pa.array(labels[there].astype(np.int64)))
    each = pa.StructArray.from_arrays([names, sides, extra[1]], names=["class", "bbox", extra[0]])
    ends = np.concatenate([[0], there.sum(axis=1).cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), each)
