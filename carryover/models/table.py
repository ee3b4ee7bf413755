"""Owns how numbers and categories of a table become arrays, for every family that reads them.

numerical    "values" float32[B, N]   gaps filled with the mean, then (x - shift) / scale
categorical  "ids" int64[B, M]        a kept value's place; rare, unknown and missing share the last id
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Column
from carryover.ground.console import warn
from carryover.ground.digests import canonical
from carryover.models import columns, dump_samples

NUMBERS, CATEGORIES = "numerical.json", "categorical.json"


@dataclass(frozen=True)
class NumericalPreprocessor:
    """Gives "values" float32[B, N]: (x - shift) / scale, with `fill` where a number is missing.

    Attributes:
        columns: names, in the order of the array's second dimension.
        fill, shift, scale: one number a column.
    """

    columns: tuple[str, ...]
    fill: tuple[float, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        columns.require(rows, self.columns)
        values = np.stack([columns.numbers(rows, name) for name in self.columns], axis=1)
        values = np.where(np.isnan(values), np.asarray(self.fill), values)
        return {"values": ((values - np.asarray(self.shift)) / np.asarray(self.scale)).astype(np.float32)}

    def files(self) -> dict[str, bytes]:
        return {NUMBERS: canonical(asdict(self))}


def fit_numbers(read: Sequence[Column], data: DataConfig) -> NumericalPreprocessor:
    """Return the preprocessor of these numerical columns."""
    means = [float(column.statistics.get("mean") or 0.0) for column in read]
    scales = [_spread(column) if data.numerical.scaler_with_std else 1.0 for column in read]
    shifts = means if data.numerical.scaler_with_mean else [0.0] * len(read)
    return NumericalPreprocessor(tuple(column.name for column in read), tuple(means), tuple(shifts), tuple(scales))


def restore_numbers(files: Mapping[str, bytes]) -> NumericalPreprocessor:
    """Return the preprocessor that wrote `files`."""
    return NumericalPreprocessor(**{name: tuple(value) for name, value in json.loads(files[NUMBERS]).items()})


def _spread(column: Column) -> float:
    """Return the standard deviation after gaps were filled with the mean (imputer, then scaler); 1 instead of 0."""
    count, missing = int(column.statistics.get("count") or 0), int(column.statistics.get("missing") or 0)
    if count == 0:
        return 1.0
    spread = float(column.statistics.get("std") or 0.0) * (count / (count + missing)) ** 0.5
    return spread if spread > 0 else 1.0


@dataclass(frozen=True)
class CategoricalPreprocessor:
    """Gives "ids" int64[B, M]: a kept value's place in its column's list; rare, unknown and missing are the last id.

    Attributes:
        columns: names, in the order of the array's second dimension.
        values: each column's kept values as text, most frequent first.
    """

    columns: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    @cached_property
    def _places(self) -> list[dict[str, int]]:
        return [{value: place for place, value in enumerate(kept)} for kept in self.values]

    @property
    def sizes(self) -> list[int]:
        """Return the number of ids of each column, the last one included."""
        return [len(kept) + 1 for kept in self.values]

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        columns.require(rows, self.columns)
        ids = np.empty((rows.num_rows, len(self.columns)), dtype=np.int64)
        for index, (name, places) in enumerate(zip(self.columns, self._places, strict=True)):
            last = len(places)
            ids[:, index] = [last if text is None else places.get(text, last) for text in columns.texts(rows, name)]
        return {"ids": ids}

    def files(self) -> dict[str, bytes]:
        return {CATEGORIES: canonical(asdict(self))}


def fit_categories(read: Sequence[Column], data: DataConfig) -> CategoricalPreprocessor:
    """Return the preprocessor of these categorical columns; a column without a frequent value is warned about."""
    least, most = data.categorical.minimum_cat_count, data.categorical.maximum_num_cat
    kept = tuple(_kept(column, least=least, most=most) for column in read)
    for column, values in zip(read, kept, strict=True):
        if not values:
            warn(
                f"column '{column.name}': no category stands in {least} rows, so it tells the model nothing; "
                "data.categorical.minimum_cat_count can be lowered"
            )
    return CategoricalPreprocessor(tuple(column.name for column in read), kept)


def restore_categories(files: Mapping[str, bytes]) -> CategoricalPreprocessor:
    """Return the preprocessor that wrote `files`."""
    stored = json.loads(files[CATEGORIES])
    return CategoricalPreprocessor(tuple(stored["columns"]), tuple(tuple(kept) for kept in stored["values"]))


def samples(numbers: NumericalPreprocessor | None, categories: CategoricalPreprocessor | None) -> pa.Table:
    """Return made-up rows that these preprocessors read."""
    arrays: dict[str, pa.Array] = {}
    if numbers is not None:
        told = zip(numbers.columns, numbers.shift, numbers.scale, strict=True)
        for place, (name, middle, spread) in enumerate(told):
            arrays[name] = dump_samples.numbers(place, middle=middle, spread=spread)
    if categories is not None:
        for place, (name, kept) in enumerate(zip(categories.columns, categories.values, strict=True)):
            arrays[name] = dump_samples.categories(place, kept)
    return pa.table(arrays)


def _kept(column: Column, *, least: int, most: int) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for value, count in column.statistics.get("counts", {}).items():
        counts[columns.as_text(value)] = counts.get(columns.as_text(value), 0) + int(count)
    frequent = [value for value, count in counts.items() if count >= least]
    # Equal counts are told apart by the value itself, so that the ids never depend on the order of a file.
    return tuple(sorted(frequent, key=lambda value: (-counts[value], value))[:most])
