"""What the keys of `data` do to numbers, categories and the label; images and texts have areas of their own."""

import functools
import itertools
from typing import Any

import numpy as np

from carryover.data.manifest import DatasetCard
from carryover.data.mix import training_rows
from carryover.data.rows import Rows
from carryover.data.schema import Column, Schema
from carryover.tasks.task import make_task
from tests.effects.effect import Effect, Flat, preprocessing, recipe, scratch, table
from tests.effects.tabular import FUSED, KEYS, ROWS
from tests.support.tiny_bert import save_tiny_bert
from tests.train.attempts import dataset

_PRICE = Column("price", "numerical", "double", {"mean": 2.0, "std": 4.0, "min": 1, "max": 9})
_numbers = itertools.count()
NUMBER = Schema("price", "regression", None, (_PRICE,))
TEXT = {"model.hf_text.checkpoint_name": str(scratch() / "bert")}


def arrays(settings: Flat) -> dict[str, Any]:
    """Return what the models get of some rows in training."""
    made = preprocessing(settings)(ROWS, training=True, keys=KEYS)
    return {name: array.tolist() for name, array in made.items()}


@functools.cache
def tiny_bert() -> None:
    """Write the tiny encoder that `TEXT` names."""
    save_tiny_bert(scratch() / "bert")


def texts(settings: Flat) -> dict[str, Any]:
    """The same as `arrays`, with a text model at hand."""
    tiny_bert()
    return arrays(settings)


@functools.cache
def old_and_new() -> tuple[DatasetCard, DatasetCard]:
    """Return a dataset, and one that has its rows and more."""
    old = dataset(scratch() / "old", count=60)
    return old, dataset(scratch() / "new", count=90)


def learned(settings: Flat) -> list[float]:
    """Return the rows that an extension of a Model of the old dataset by the new one trains on."""
    (old, new), made = old_and_new(), recipe(settings)
    place = scratch() / f"mix-{next(_numbers)}"
    mixture = training_rows(new, made.data, place, parent=old, seed=made.seed)
    rows = Rows.open(mixture.path)
    return rows.take(np.arange(len(rows)))["x"].to_pylist()


def positive(settings: Flat) -> int | None:
    """Return which class is the positive one."""
    return make_task(table().schema, recipe(settings).data).positive


def scaled(settings: Flat) -> Any:
    """Return how a task writes down a label that is a number."""
    return make_task(NUMBER, recipe(settings).data).to_json()


EFFECTS: dict[str, Effect] = {
    "data.mode": Effect("delta", learned),
    "data.replay.fraction": Effect(0.5, learned),
    "data.numerical.scaler_with_mean": Effect(False, arrays, FUSED),
    "data.numerical.scaler_with_std": Effect(False, arrays, FUSED),
    "data.numerical.convert_to_text": Effect(True, texts, TEXT),
    "data.categorical.convert_to_text": Effect(True, texts, TEXT),
    "data.categorical.convert_to_text_template": Effect(
        "text", texts, {**TEXT, "data.categorical.convert_to_text": True}
    ),
    "data.categorical.minimum_cat_count": Effect(1000, arrays, FUSED),
    "data.categorical.maximum_num_cat": Effect(1, arrays, FUSED),
    "data.modality_dropout": Effect(0.5, arrays, FUSED),
    "data.label.numerical_preprocessing": Effect("minmaxscaler", scaled),
    "data.pos_label": Effect("no", positive),
}
