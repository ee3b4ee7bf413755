"""Owns how far new data have moved from those that a Model or Dataset was made of, column by column.

    statistics of both train splits --> shares of the same bins --> PSI --> stable, shifted or drifted

    numerical     ten bins with equal shares of the reference's values
    categorical   the 20 most frequent values of the reference, and all others together; the label's classes
    text          ten bins of its number of words; and its words, in 256 groups by their hash: the larger one counts
    boxes         boxes of the 20 most frequent classes, and of all others together; pictures without a box
    mask          pixels of the 20 most frequent classes, and of all others together
    images        whether there is one
    in each       a bin for missing values

PSI, the population stability index, is the sum of (q - p) ln(q / p) over the bins, p and q being their shares before
and now. Below 0.1 nothing of note has changed, from 0.25 much has (Siddiqi, Credit Risk Scorecards, 2006). Few rows
give high values by chance: where nothing has changed, PSI / (1/n + 1/m) is about chi-squared with one degree less than
there are bins (Yurdakul, Statistical Properties of Population Stability Index, 2018). What 99 of 100 such samples stay
below is "chance", and a column below that is stable. Words are counted as if each was drawn by itself; boxes and pixels
are not, as one picture's are alike: for chance, pictures count.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from carryover.data.follow import Reference
from carryover.data.manifest import DatasetCard
from carryover.data.rows import row_groups
from carryover.data.schema import IGNORED_ID, Column, Schema
from carryover.data.statistics import QUANTILES, SAMPLED, STATISTICS, WORD_GROUPS
from carryover.ground.errors import WrongInput

SHIFTED, DRIFTED = 0.1, 0.25
BINS = 10
CATEGORIES = 20
CHANCE = 0.99
# Added to each bin's rows: an empty one would make the index infinite.
PRIOR = 0.5
OTHERS, MISSING = "(all others)", "(missing)"


class Bins(NamedTuple):
    """One thing that is compared: rows (or words) of each bin before and now, float64, and how many were looked at."""

    before: np.ndarray
    now: np.ndarray
    seen_before: float
    seen_now: float


@dataclass(frozen=True)
class Drift:
    """How far one column has moved.

    Attributes:
        psi: None where it could not be measured; `why` says why.
        chance: what the index stays below in 99 of 100 cases if nothing has changed.
        word: "stable", "shifted", "drifted" or "not measured".
        missing: share of missing values, before and now.
        unseen: share of the rows whose category the reference did not have; None for columns without categories.
        shares: what bins of the values hold, for the eye: (name, share before, share now); of text by words of a text.
    """

    column: str
    type: str
    psi: float | None
    chance: float | None
    word: str
    missing: tuple[float, float]
    unseen: float | None = None
    why: str = ""
    shares: tuple[tuple[str, float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "missing": list(self.missing), "shares": [list(share) for share in self.shares]}


def measure(reference: Reference, schema: Schema) -> tuple[Drift, ...]:
    """Return the drift of each feature column and of the label, the worst first, what was not measured last.

    Args:
        schema: of the new data, which follow the reference.
    """
    columns = [column for column in reference.schema.columns if column.type not in ("null", "identifier")]
    # Of images only the missing ones are told: not worth reading all of them again.
    old = [column for column in columns if column.type in ("numerical", "text") and _lacks(column)]
    renewed = _measured_again(old, reference.dataset)
    found = [
        _drift(column.type, column.name, renewed.get(column.name, column.statistics), schema.column(column.name))
        for column in columns
    ]
    return tuple(sorted(found, key=lambda drift: (drift.psi is None, -(drift.psi or 0.0))))


def check(drift: Sequence[Mapping[str, Any]], most: float) -> None:
    """Raise WrongInput that names the columns that moved further than `most`, chance taken into account.

    Args:
        drift: as `Drift.to_json` gives each.
    """
    far = [one for one in drift if one["psi"] is not None and one["psi"] > max(most, one["chance"])]
    if far:
        shown = ", ".join(f"{one['column']} {one['psi']:.3f}" for one in far)
        raise WrongInput(
            f"--max-drift {most:g}: these columns drifted further (PSI): {shown}; look at the data, or give a larger "
            "limit"
        )


def psi(before: np.ndarray, now: np.ndarray) -> float:
    """Return the population stability index of two counts of the same bins, float64[bins]."""
    used = (before + now) > 0
    p, q = before[used] + PRIOR, now[used] + PRIOR
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def chance(bins: Bins) -> float:
    """Return what the index of two samples of one distribution stays below with a probability of `CHANCE`."""
    # A bin that neither has can't differ.
    used = int(((bins.before + bins.now) > 0).sum())
    if used < 2:
        return 0.0
    from scipy.special import chdtri

    return float((1 / bins.seen_before + 1 / bins.seen_now) * chdtri(used - 1, 1 - CHANCE))


def _drift(type: str, name: str, before: Mapping[str, Any], column: Column) -> Drift:
    now = column.statistics
    missing = (_missing_share(type, before), _missing_share(type, now))
    rows, unseen = _rows(type, before), _unseen(type, before, now)
    if rows is None or not rows or not _rows(type, now):
        why = "there are no rows" if rows == 0 else "the reference was prepared before this was kept, and is gone"
        return Drift(name, type, None, None, "not measured", missing, unseen, why)
    compared = _bins(type, before, now)
    parts = [(psi(bins.before, bins.now), chance(bins)) for bins in compared]
    # The part that stands out most from what chance alone would bring.
    value, by_chance = max(parts, key=lambda part: (part[0] > part[1], part[0]))
    stable = value < SHIFTED or value <= by_chance
    word = "stable" if stable else "shifted" if value < DRIFTED else "drifted"
    shares = _shares(_bin_names(type, before), compared[0])
    return Drift(name, type, round(value, 4), round(by_chance, 4), word, missing, unseen, shares=shares)


def _shares(names: Sequence[str], bins: Bins) -> tuple[tuple[str, float, float], ...]:
    """Return each bin that holds anything, with its share of both sides."""
    p, q = bins.before / max(bins.before.sum(), 1.0), bins.now / max(bins.now.sum(), 1.0)
    every = zip(names, p.tolist(), q.tolist(), strict=True)
    return tuple((name, round(before, 4), round(now, 4)) for name, before, now in every if before or now)


def _bin_names(type: str, before: Mapping[str, Any]) -> list[str]:
    """Return what the bins of the first comparison are called, in their order."""
    if type in _CLASSES:
        return [*_kept_classes(type, before), OTHERS]
    if type == "categorical":
        return [*list(before["counts"])[:CATEGORIES], OTHERS, MISSING]
    if type not in ("numerical", "text"):
        return ["there", MISSING]
    ends = _edges(before)
    edges = [f"{edge:.6g}" for edge in ends.tolist()]
    if not edges:
        return ["any", MISSING]
    between = [f"above {low}, to {high}" for low, high in pairwise(edges)]
    first = f"up to {edges[0]}"
    if len(ends) > 1 and np.nextafter(ends[0], np.inf) == ends[1]:
        # The least value has a bin of its own, and what lies below it too; see `_edges`.
        first, between[0] = f"below {edges[1]}", edges[1]
    return [first, *between, f"above {edges[-1]}", MISSING]


def _bins(type: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Bins]:
    """Return what is compared in a column of this type."""
    if type in _CLASSES:
        return _class_bins(type, before, now)
    if type == "categorical":
        kept = list(before["counts"])[:CATEGORIES]
        return [_rows_of(type, before, now, _category_rows(before, kept), _category_rows(now, kept))]
    if type not in ("numerical", "text"):
        return [_rows_of(type, before, now, _present(before), _present(now))]
    edges = _edges(before)
    found = [_rows_of(type, before, now, _histogram(before, edges), _histogram(now, edges), most=SAMPLED)]
    if type == "text":
        words = [np.array(known["word_groups"], dtype=np.float64) for known in (before, now)]
        if words[0].any() and words[1].any():
            found.append(Bins(words[0], words[1], float(words[0].sum()), float(words[1].sum())))
    return found


def _class_bins(type: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Bins]:
    """Return what is compared of boxes or pixels: their classes, and for boxes how many pictures have none."""
    shares, seen = [], [float(known["count"]) for known in (before, now)]
    kept = _kept_classes(type, before)
    for known in (before, now):
        counts = {name: float(count) for name, count in known[_CLASSES[type]].items()}
        rows = np.array([*(counts.get(name, 0.0) for name in kept), 0.0])
        rows[-1] = sum(counts.values()) - rows.sum()
        # As many as there are pictures: then what is added to each bin weighs as in other columns.
        shares.append(rows / max(rows.sum(), 1.0) * known["count"])
    found = [Bins(shares[0], shares[1], seen[0], seen[1])]
    if type == "boxes":
        empty = [
            np.array([float(known["missing"]), float(known["count"] - known["missing"])]) for known in (before, now)
        ]
        found.append(Bins(empty[0], empty[1], seen[0], seen[1]))
    return found


def _kept_classes(type: str, before: Mapping[str, Any]) -> list[str]:
    order = sorted(before[_CLASSES[type]].items(), key=lambda item: (-item[1], item[0]))
    return [name for name, _ in order if name != str(IGNORED_ID) or type == "boxes"][:CATEGORIES]


def _rows_of(
    type: str,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    present: np.ndarray,
    present_now: np.ndarray,
    *,
    most: float = np.inf,
) -> Bins:
    """Return bins of rows, one for missing values added; `most` is the size of the sample that they were told by."""
    counts = [np.append(p, float(known["missing"])) for p, known in ((present, before), (present_now, now))]
    seen = [min(float(_rows(type, known) or 0), most) for known in (before, now)]
    return Bins(counts[0], counts[1], seen[0], seen[1])


def _present(known: Mapping[str, Any]) -> np.ndarray:
    return np.array([float(known["count"])])


def _edges(before: Mapping[str, Any]) -> np.ndarray:
    """Return where bins end: tenths of the reference's values. Each ends with a value of its own; the last one is open.

    Where the least tenth is one value alone, what lies below has a bin of its own.
    """
    points = np.asarray(before["quantiles"], dtype=np.float64)
    if not len(points):
        return np.empty(0)
    least = before.get("min", points[0])
    step = QUANTILES // BINS
    edges = np.unique(points[step - 1 :: step][: BINS - 1])
    return edges if edges[0] > least else np.concatenate([[np.nextafter(least, -np.inf)], edges])


def _histogram(known: Mapping[str, Any], edges: np.ndarray) -> np.ndarray:
    """Return how many of a column's values lie up to each edge, as far as its sample tells, and above the last."""
    places = np.searchsorted(edges, np.asarray(known["quantiles"], dtype=np.float64), side="left")
    shares = np.bincount(places, minlength=len(edges) + 1) / max(1, len(known["quantiles"]))
    return shares * known["count"]


def _category_rows(known: Mapping[str, Any], kept: Sequence[str]) -> np.ndarray:
    counts = [float(known["counts"].get(value, 0)) for value in kept]
    return np.array([*counts, sum(known["counts"].values()) - sum(counts)])


def _unseen(type: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
    """Return the share of values whose category is new; None where the reference's were too many to know them all."""
    if type == "boxes":
        known, held = before.get("category_ids", before["counts"]), now["counts"]
    elif type == "categorical" and before.get("distinct") == len(before["counts"]):
        known, held = before["counts"], now["counts"]
    else:
        return None
    rows = sum(held.values())
    return sum(count for value, count in held.items() if value not in known) / rows if rows else 0.0


def _rows(type: str, known: Mapping[str, Any]) -> int | None:
    """Return the rows of the train split, None where statistics of before do not say enough."""
    if _lacks_keys(type, known):
        return None
    if type == "boxes":
        return known["count"]
    return known["missing"] + (sum(known["counts"].values()) if type == "categorical" else known["count"])


def _missing_share(type: str, known: Mapping[str, Any]) -> float:
    rows = _rows(type, known)
    return round(known["missing"] / rows, 4) if rows else 0.0


# Where the statistics of a label of pictures have its classes.
_CLASSES = {"boxes": "counts", "mask": "pixels"}
_NEEDED = {"numerical": {"quantiles"}, "text": {"quantiles", "word_groups"}, "categorical": {"counts"}}
_LENGTHS = {"quantiles": (0, QUANTILES), "word_groups": (WORD_GROUPS,)}


def _lacks_keys(type: str, known: Mapping[str, Any]) -> bool:
    needed = _NEEDED.get(type, {"count"}) | {"missing"}
    return not needed <= known.keys() or any(
        len(known[name]) not in _LENGTHS[name] for name in needed & _LENGTHS.keys()
    )


def _lacks(column: Column) -> bool:
    return _lacks_keys(column.type, column.statistics)


def _measured_again(columns: Sequence[Column], dataset: DatasetCard | None) -> dict[str, dict[str, Any]]:
    """Return column -> its statistics as they are kept today, from the Dataset's rows where it is still there."""
    if not columns or dataset is None:
        return {}
    names = [column.name for column in columns if column.name in {one.name for one in dataset.schema.columns}]
    kept = {column.name: STATISTICS[column.type]() for column in columns if column.name in names}
    with tempfile.TemporaryDirectory(prefix="carryover-drift-") as scratch:
        for table in row_groups(dataset, "train", Path(scratch), columns=names):
            for name, statistic in kept.items():
                statistic.add(table[name].combine_chunks())
    return {name: statistic.to_json() for name, statistic in kept.items()}
