"""Owns what is known of a dataset's columns: names, types, statistics, the label and its classes.

    type         stored as (Arrow)                 statistics, of the train split
    numerical    int64 or double                   missing, count, mean, std (population), min, max; of finite values;
                                                   quantiles, of a sample (see statistics.py)
    categorical  string; the label in its own type missing, counts {text: rows}, most frequent first, distinct, exact
    text         string                            missing, count, mean_words, max_chars; quantiles of its words,
                                                   word_groups: words of a sample by a hash; see statistics.py
    image_path   list<binary>, null: not readable  missing, count, images, unreadable, most (images of a row)
    image_bytes  binary, or list<binary>           missing, count
    identifier   int64 or string                   missing, count; stored, never a feature
    boxes        list of structs, see rows.BOXES   missing (pictures without a box), count (pictures), boxes, most (of
                 label of object_detection         one picture), counts {class: boxes}, category_ids {class: id in the
                                                   source}, sizes {small, medium, large: boxes}, and
                                                   dropped {reason: boxes} of all splits
    mask         binary: a PNG of class ids, uint8 missing, count, pixels {id: pixels}, renamed {id in the source: id}
                 label of semantic_segmentation
    null         not stored                        none: all values missing, one value only, or not wanted

A box is in pixels of the picture as it is seen (its EXIF turn done), from its left upper corner: x1, y1 to x2, y2. In a
mask 255 is ignored. `sizes` are COCO's: a medium box has 32 x 32 to 96 x 96 pixels.

`counts` holds at most `COUNTS_KEPT` values. `exact` is false where a column had more distinct values than were kept in
memory (see tally.py): its counts are then lower bounds and `distinct` is null.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput

# Types of labels that belong to pictures, by problem type; they, identifiers and unused columns are no features.
DENSE = {"object_detection": "boxes", "semantic_segmentation": "mask"}
NO_FEATURES = ("null", "identifier", *DENSE.values())
COLUMN_TYPES = ("categorical", "numerical", "text", "image_path", "image_bytes", "identifier", "boxes", "mask", "null")
PROBLEM_TYPES = ("binary", "multiclass", "regression", *DENSE)
# A pixel of a mask with this id is of no class.
IGNORED_ID = 255
COUNTS_KEPT = 10_000

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Column:
    """One column: its name, its type (one of `COLUMN_TYPES`), how Arrow stores it, and statistics as JSON has them."""

    name: str
    type: str
    arrow: str
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "type": self.type, "arrow": self.arrow, "statistics": dict(self.statistics)}


@dataclass(frozen=True)
class Schema:
    """All columns of a dataset, the label among them, in the order of the source's first file.

    Attributes:
        problem_type: one of `PROBLEM_TYPES`.
        classes: the label's values in the train split, sorted; of boxes all that the source declares, in the order of
            their ids there; of masks the ids; None for regression.
    """

    label: str
    problem_type: str
    classes: tuple[Scalar, ...] | None
    columns: tuple[Column, ...]

    @property
    def label_column(self) -> Column:
        return self.column(self.label)

    def column(self, name: str) -> Column:
        """Return the column of that name.

        Raises:
            WrongInput: when there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise WrongInput(missing_column(name, [column.name for column in self.columns]))

    def features(self, type: str = "") -> tuple[Column, ...]:
        """Return the columns a model may read, all or those of one type; never the label, nor `NO_FEATURES`."""
        return tuple(
            column
            for column in self.columns
            if column.name != self.label and column.type not in NO_FEATURES and type in ("", column.type)
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "problem_type": self.problem_type,
            "classes": None if self.classes is None else list(self.classes),
            "columns": [column.to_json() for column in self.columns],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Schema":
        classes = value["classes"]
        return cls(
            label=value["label"],
            problem_type=value["problem_type"],
            classes=None if classes is None else tuple(classes),
            columns=tuple(
                Column(entry["name"], entry["type"], entry["arrow"], entry["statistics"]) for entry in value["columns"]
            ),
        )


def missing_column(name: str, names: list[str]) -> str:
    """Return the words for a column that is not there: the nearest name, else the first few."""
    near = nearest(name, names) or next((known for known in names if known.lower() == name.lower()), "")
    if near:
        return f"there is no column '{name}'; did you mean '{near}'?"
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"there is no column '{name}'; there are: {shown or 'none'}"
