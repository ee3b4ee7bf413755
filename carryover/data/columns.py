"""Owns the column type rules, AutoMM's in AutoMM's order (its data/infer_types.py), with given types before them.

    null           no value in train, or one value only
    categorical    fewer distinct values (missing counts as one) than min(10 % of the rows, 20), and all of validation's
                   among train's
    numerical      every value says a number (true and false too)
    image_path     of up to 500 sampled values at least a tenth name an image that opens; "a.jpg;b.jpg" names two
    text           of up to 5000 sampled values more than 1 % differ, and they have 3 words or more on average
    image_bytes    bytes or lists of bytes, a tenth of which open as images
    categorical    everything else

Only given, or said by a source's format: identifier, boxes, mask. Not read: base64 images, PDF documents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from carryover.data import values
from carryover.data.rows import BOXES_ARROW
from carryover.data.schema import COLUMN_TYPES, DENSE, missing_column
from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput

CATEGORIES = 20
CATEGORY_RATIO = 0.1
TEXT_SAMPLE, TEXT_RATIO, TEXT_WORDS = 5000, 0.01, 3
IMAGE_SAMPLE, IMAGE_RATIO = 500, 0.1
# An image is stored itself, not its name.
STORED = {"image_path": "list<binary>", "boxes": BOXES_ARROW, "mask": "binary"}
LABELS = ("categorical", "numerical", *DENSE.values())
BYTES = frozenset({"bytes", "images"})


@dataclass(frozen=True)
class ColumnFacts:
    """What one pass over the data tells of a column; counts are of the train split unless said otherwise.

    Attributes:
        kinds: of all values of all splits, see values.py.
        distinct: distinct values, a missing one counted too; None where there are more than `CATEGORIES`.
        unseen: validation has a value that train has not (only known where `distinct` is).
        sampled, sample_distinct: size of the sample, and of the set of its values.
        mean_words: words in a distinct sampled value, on average.
        odd_value: the first value that is no number and where it stands, "" where there is none.
    """

    name: str
    kinds: frozenset[str]
    rows: int
    missing: int
    distinct: int | None
    unseen: bool
    sampled: int
    sample_distinct: int
    mean_words: float
    odd_value: str


@dataclass(frozen=True)
class ColumnPlan:
    """How a column is stored: its type, and its Arrow types on the way in and in the shards."""

    name: str
    type: str
    physical: str
    stored: str


def infer_type(facts: ColumnFacts, images: Callable[[], float]) -> str:
    """Return a column's type by the rules above.

    Args:
        images: gives the share of sampled values that open as images; asked only where the rules come to it.

    Raises:
        WrongInput: lists or bytes that nothing here can read.
    """
    if facts.kinds & {"nested"}:
        raise WrongInput(
            f"column '{facts.name}' holds lists or structs, which can't be read; "
            f"leave it out with --column-type {facts.name}=null"
        )
    if facts.missing == facts.rows or facts.distinct == 1:
        return "null"
    if facts.kinds & BYTES:
        return _bytes_type(facts, images)
    most = min(int(facts.rows * CATEGORY_RATIO), CATEGORIES)
    if facts.distinct is not None and facts.distinct < most and not facts.unseen:
        return "categorical"
    if facts.kinds <= values.NUMERIC:
        return "numerical"
    if images() >= IMAGE_RATIO:
        return "image_path"
    different = facts.sample_distinct / max(1, facts.sampled) > TEXT_RATIO
    return "text" if different and facts.mean_words >= TEXT_WORDS else "categorical"


def plan(facts: ColumnFacts, type: str) -> ColumnPlan:
    """Return how a feature column of this type is stored.

    Raises:
        WrongInput: a given type that the values do not allow.
    """
    physical = values.physical_type(facts.kinds)
    if type == "null":
        return ColumnPlan(facts.name, type, physical, "null")
    if physical == "null":
        raise WrongInput(f"column '{facts.name}' has no values that can be read, so it can't be {type}; it is null")
    if (type == "image_bytes") != (physical in ("binary", "list<binary>")):
        raise WrongInput(f"--column-type {facts.name}={type}: the column holds {_said(facts)}")
    if type == "numerical":
        require_numbers(facts, f"--column-type {facts.name}=numerical")
        return ColumnPlan(facts.name, type, physical, "int64" if physical in ("bool", "int64") else "double")
    if type == "identifier":
        return ColumnPlan(facts.name, type, physical, "int64" if physical == "int64" else "string")
    return ColumnPlan(facts.name, type, physical, physical if type == "image_bytes" else STORED.get(type, "string"))


def require_numbers(facts: ColumnFacts, what: str) -> None:
    """Raise WrongInput, with the first value that is none, unless every value says a number."""
    if not facts.kinds <= values.NUMERIC:
        raise WrongInput(f"{what}: not every value is a number: {facts.odd_value or _said(facts)}")


def check_given(given: Mapping[str, str], names: list[str], label: str) -> None:
    """Raise WrongInput for a given type of a column that is not there, or that is no type."""
    for name, type in given.items():
        if type not in COLUMN_TYPES:
            near = nearest(type, COLUMN_TYPES)
            hint = f"did you mean '{near}'?" if near else f"use one of {', '.join(COLUMN_TYPES)}"
            raise WrongInput(f"--column-type {name}={type}: there is no type '{type}'; {hint}")
        if name not in names:
            raise WrongInput(f"--column-type {name}={type}: {missing_column(name, names)}")
        if name == label and type not in LABELS:
            raise WrongInput(f"--column-type {name}={type}: the label can be one of {', '.join(LABELS)}")
        if name != label and type in DENSE.values():
            raise WrongInput(f"--column-type {name}={type}: only the label can be {type}, and the label is '{label}'")


def _bytes_type(facts: ColumnFacts, images: Callable[[], float]) -> str:
    if len(facts.kinds) == 1 and images() >= IMAGE_RATIO:
        return "image_bytes"
    raise WrongInput(
        f"column '{facts.name}' holds bytes that are no images, which can't be read; "
        f"leave it out with --column-type {facts.name}=null"
    )


def _said(facts: ColumnFacts) -> str:
    return " and ".join(sorted(facts.kinds)) or "nothing"
