"""Owns what the first pass says of a label of boxes or masks at last: its classes, or why it cannot be used.

boxes   all classes that the source declares, in the order of its ids, then those that it only uses, sorted
masks   the ids of the source but the ignored one, sorted; nothing but 0 and 255: 255 is stored as 1
        where a schema is followed, classes, order and renamed ids are its own, and only boxes may get new classes
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carryover.data.columns import ColumnPlan
from carryover.data.dense import BoxTally, MaskTally, Truth
from carryover.data.problems import counted, raise_all
from carryover.data.schema import DENSE, IGNORED_ID, Scalar, Schema
from carryover.data.split import TRAIN
from carryover.ground.console import say
from carryover.ground.errors import WrongInput

PICTURES = ("image_path", "image_bytes")
_WORDS = {"boxes": "boxes", "mask": "pixels"}


@dataclass(frozen=True)
class Found:
    """Classes of a label that follows a schema, new ones last, and everything that speaks against it."""

    classes: tuple[Scalar, ...]
    grown: tuple[Scalar, ...]
    breaches: tuple[str, ...]


def picture_of(columns: Sequence[Any], label: str) -> str:
    """Return the one column that holds the pictures a label is of.

    Args:
        columns: each with a name and a type.

    Raises:
        WrongInput: there is none, or more than one.
    """
    found = [column.name for column in columns if column.type in PICTURES and column.name != label]
    if len(found) != 1:
        told = f"there are {', '.join(map(repr, found))}" if found else "there is none"
        raise WrongInput(
            f"label column '{label}': its boxes or masks are of one picture a row, so one column of pictures is needed "
            f"and {told}; --column-type COLUMN=image_path names one, COLUMN=null leaves one out"
        )
    return found[0]


def check(tally: BoxTally | MaskTally) -> None:
    """Raise WrongInput with everything that the first pass met in a label."""
    hint = "; [] stands for a picture without objects" if isinstance(tally, BoxTally) else ""
    words = [f"{tally.missing:,} values are missing ({'; '.join(tally.missing_at)}){hint}"] if tally.missing else []
    raise_all(f"label column '{tally.name}'", [*words, *tally.problems.words()])


def settle(tally: BoxTally | MaskTally, *, picture: str, ignore: int | None) -> Truth:
    """Return what a label is by itself.

    Args:
        picture: the column that it is of.
        ignore: the id of pixels that are of no class, None where none is named but 255.

    Raises:
        WrongInput: whatever of it cannot be used.
    """
    check(tally)
    if isinstance(tally, BoxTally):
        used = {name for name, row in tally.counts.items() if row[:3].sum()}
        classes = (*tally.declared, *sorted(used - set(tally.declared)))
        ids = _category_ids(classes, tally.declared)
        truth = Truth("boxes", tally.name, picture, classes, category_ids=ids)
    else:
        own = {int(id) for id, row in tally.counts.items() if row[:3].sum()}
        renamed = renamed_ids(own, ignore)
        kept = {renamed.get(id, id) for id in own} - {IGNORED_ID}
        truth = Truth("mask", tally.name, picture, tuple(sorted(kept)), renamed=renamed)
    _check_classes(tally, truth)
    return truth


def renamed_ids(ids: set[int], ignore: int | None) -> dict[int, int]:
    """Return id of the source -> id that is stored, for those that differ."""
    if ids == {0, IGNORED_ID} and ignore is None:
        say(f"masks have 0 and {IGNORED_ID} only: {IGNORED_ID} is stored as class 1")
        return {IGNORED_ID: 1}
    if ignore in (None, IGNORED_ID):
        return {}
    if IGNORED_ID in ids:
        say(f"masks have the ids {ignore} and {IGNORED_ID}: both are ignored")
    return {ignore: IGNORED_ID}


def follow(tally: BoxTally | MaskTally, schema: Schema, *, grow: bool, ignore: int | None) -> Found:
    """Hold a label against the schema that it follows."""
    classes = schema.classes or ()
    renamed = renamed_before(schema)
    known = {str(name) for name in classes} | ({str(IGNORED_ID)} if isinstance(tally, MaskTally) else set())
    unknown = {name: row for name, row in tally.counts.items() if _stored(name, renamed, tally) not in known}
    breaches = tally.problems.words()
    if tally.missing:
        breaches.append(
            f"label column '{tally.name}' has {tally.missing} missing values ({'; '.join(tally.missing_at)})"
        )
    if ignore is not None and renamed.get(ignore, ignore) != IGNORED_ID:
        breaches.append(f"--ignore-label {ignore}: not so in the schema")
    if unknown and not (grow and isinstance(tally, BoxTally)):
        listed = counted({name: int(row.sum()) for name, row in unknown.items()})
        how = "--grow-classes appends new ones" if isinstance(tally, BoxTally) else "a mask's can't grow"
        shown = ", ".join(map(repr, classes[:10])) + (" ..." if len(classes) > 10 else "")
        breaches.append(
            f"label column '{tally.name}' has unknown classes ({_WORDS[_type(tally)]}): {listed}; the classes are "
            f"{shown}; {how}"
        )
        return Found(classes, (), tuple(breaches))
    lone = {name: int(row.sum()) for name, row in unknown.items() if not row[:3].sum()}
    if lone:
        breaches.append(f"label column '{tally.name}' has new classes in given splits only: {counted(lone)}")
    order = list(tally.declared) if isinstance(tally, BoxTally) else []
    grown = tuple(sorted(unknown, key=lambda name: (order.index(name) if name in order else len(order), name)))
    return Found((*classes, *grown), grown, tuple(breaches))


def truth_of(tally: BoxTally | MaskTally, schema: Schema, classes: tuple[Scalar, ...]) -> Truth:
    """Return what a label is that follows a schema, once nothing speaks against it."""
    picture = picture_of(schema.columns, schema.label)
    before = schema.label_column.statistics.get("category_ids", {})
    declared = tally.declared if isinstance(tally, BoxTally) else {}
    ids = _category_ids(classes, {**before, **declared}) if isinstance(tally, BoxTally) else {}
    return Truth(DENSE[schema.problem_type], schema.label, picture, classes, ids, renamed_before(schema))


def renamed_before(schema: Schema) -> dict[int, int]:
    """Return how the ids of masks were renamed when a schema was made."""
    told = schema.label_column.statistics.get("renamed", {})
    return {int(old): new for old, new in told.items()}


def say_classes(tally: BoxTally | MaskTally, truth: Truth) -> None:
    """Say which classes a split lacks: pictures are split by what they are, and not by the classes in them."""
    back = {str(new): str(old) for old, new in truth.renamed.items()}
    rows = {name: tally.counts.get(back.get(str(name), str(name)), np.zeros(6)) for name in truth.classes}
    used = {name: row[:3] + row[3:] for name, row in rows.items()}
    for code, split in enumerate(("train", "validation", "test")):
        lacks = [repr(name) for name, row in used.items() if not row[code]]
        if lacks and any(row[code] for row in used.values()):
            shown = ", ".join(lacks[:10]) + (f" and {len(lacks) - 10} more" if len(lacks) > 10 else "")
            say(f"{split} has no {_WORDS[truth.type]} of {len(lacks)} class{'es' * (len(lacks) > 1)}: {shown}")


def label_plan(label: str, physical: str, truth: Truth, arrow: str) -> ColumnPlan:
    """Return how the label's column is stored.

    Raises:
        WrongInput: values of another kind.
    """
    if physical not in (("string",) if truth.type == "boxes" else ("string", "binary")):
        what = "lists of boxes, or their text" if truth.type == "boxes" else "names of masks, or their bytes"
        raise WrongInput(f"label column '{label}' holds {physical}; it must hold {what}")
    return ColumnPlan(label, truth.type, physical, arrow)


def _check_classes(tally: BoxTally | MaskTally, truth: Truth) -> None:
    """Raise WrongInput where there is nothing to learn, or a given split has classes that the source lacks."""
    words = _WORDS[truth.type]
    known = {str(name) for name in truth.classes}
    if isinstance(tally, MaskTally):
        known.add(str(IGNORED_ID))
        if len(truth.classes) < 2:
            only = ", ".join(map(repr, truth.classes)) or "none but the ignored one"
            raise WrongInput(
                f"label column '{tally.name}': masks have one class only ({only}); two are needed at least"
            )
    elif not sum(int(row[TRAIN] + row[3 + TRAIN]) for row in tally.counts.values()):
        raise WrongInput(
            f"label column '{tally.name}': there is no box in the train split; add pictures with boxes to --source"
        )
    unseen = {
        name: int(row[3:].sum())
        for name, row in tally.counts.items()
        if row[3:].sum() and _stored(name, truth.renamed, tally) not in known
    }
    if unseen:
        raise WrongInput(
            f"label column '{tally.name}': given validation or test sources have classes that --source lacks "
            f"({words}): {counted(unseen)}; add pictures of them to --source, or remove these",
            trouble="unknown-class",
        )


def _stored(name: str, renamed: Mapping[int, int], tally: BoxTally | MaskTally) -> str:
    """Return a class, as text, as it is stored."""
    return name if isinstance(tally, BoxTally) else str(renamed.get(int(name), int(name)))


def _category_ids(classes: Sequence[Scalar], known: Mapping[str, int | str | None]) -> dict[str, int | str]:
    """Return class -> id; those without one get the next free numbers, from 1."""
    names = [str(name) for name in classes]
    taken = [id for id in (known.get(name) for name in names) if isinstance(id, int)]
    free = itertools.count(max(taken, default=0) + 1)
    return {name: next(free) if (id := known.get(name)) is None else id for name in names}


def _type(tally: BoxTally | MaskTally) -> str:
    return "boxes" if isinstance(tally, BoxTally) else "mask"
