"""Owns which split a row belongs to: a pure function of the row itself, so that new rows move no old one.

    u = keyed blake3 of the row's features, as a fraction of 1
    0 <= u < test: test        test <= u < test + validation: validation        the rest: train

The features are taken by name and in canonical form (values.py), missing ones left out, the label left out. So equal
rows stand in one split (none leaks from train to test), a corrected label moves no row, and neither does the order of
rows or columns, the file a row stands in, or a new column that is empty for old rows.

Within each class the thresholds are the same, so each class is split in the same proportions, in expectation. A class
too small to split stays in train whole: fewer rows than there are splits, or none that falls to train by itself. Only
when such a class grows past that do its held-out rows leave train, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from carryover.data.compute import pc
from carryover.ground.config import check
from carryover.ground.digests import Hasher

TRAIN, VALIDATION, TEST = 0, 1, 2
# Any fixed 32 bytes: they keep these hashes apart from every other use of blake3 here.
_KEY = b"carryover: split of a row, v1   "
_JOIN = pa.scalar(b"", pa.binary())
_END = pa.scalar(b"\x1e", pa.binary())


@dataclass(frozen=True)
class Fractions:
    """How much of the source goes to each split."""

    train: float = 0.8
    validation: float = 0.1
    test: float = 0.1

    def shares(self, *, validation_given: bool, test_given: bool) -> "Fractions":
        """Return the fractions that hold for the source, when splits that have a source of their own take none of it.

        Raises:
            WrongInput: fractions that are not possible together.
        """
        wanted = {"train": self.train}
        wanted |= {} if validation_given else {"validation": self.validation}
        wanted |= {} if test_given else {"test": self.test}
        for name, value in wanted.items():
            low = "above 0" if name != "test" else "from 0"
            check(
                0 <= value <= 1 and (value > 0 or name == "test"), f"--{name}-fraction", value, f"{low} and at most 1"
            )
        total = sum(wanted.values())
        if len(wanted) == 3:
            told = " + ".join(f"{value:g}" for value in wanted.values())
            check(abs(total - 1) < 1e-6, "--train-, --validation-, --test-fraction", told, "1 together")
        return Fractions(
            train=self.train / total,
            validation=wanted.get("validation", 0.0) / total,
            test=wanted.get("test", 0.0) / total,
        )

    @property
    def splits(self) -> int:
        """Return how many splits the source is cut into."""
        return sum(share > 0 for share in (self.train, self.validation, self.test))


def row_keys(features: Mapping[str, pa.Array], rows: int) -> np.ndarray:
    """Return uint64[rows], a hash of each row.

    Args:
        features: name -> canonical values (binary arrays, see values.canonical) or nulls.
    """
    parts = []
    for name in sorted(features):
        array = features[name]
        if array.null_count < rows:
            prefix = pa.scalar(name.encode() + b"\x1f", pa.binary())
            part = pc.binary_join_element_wise(prefix, array, _END, _JOIN)
            parts.append(pc.fill_null(part, b""))
    if not parts:
        parts = [pa.array([b""] * rows, pa.binary())]
    whole = pc.binary_join_element_wise(*parts, _JOIN) if len(parts) > 1 else parts[0]
    digests = b"".join(Hasher(row, key=_KEY).digest(8) for row in whole.to_pylist())
    return np.frombuffer(digests, dtype="<u8")


def codes(keys: np.ndarray, shares: Fractions) -> np.ndarray:
    """Return uint8[n], `TRAIN`, `VALIDATION` or `TEST` of each row, by its key alone."""
    places = (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53
    found = np.full(len(keys), TRAIN, dtype=np.uint8)
    found[places < shares.test + shares.validation] = VALIDATION
    found[places < shares.test] = TEST
    return found


def too_small(counts: np.ndarray, shares: Fractions) -> bool:
    """Tell whether a class stays in train whole.

    Args:
        counts: int[3], its rows by the code that each has by itself.
    """
    return bool(counts[TRAIN] == 0 or counts.sum() < shares.splits)
