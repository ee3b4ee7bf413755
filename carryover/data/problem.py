"""Owns which problem a label poses: AutoMM's rules, and the checks that a given problem type must pass."""

from collections.abc import Mapping

import numpy as np

from carryover.data.schema import PROBLEM_TYPES, Scalar
from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput

# AutoGluon's constants: at most so many classes, and so many of the rows may hold different numbers.
MOST_CLASSES = 1000
LARGE_DATA = 1000
RATIO_LARGE, RATIO_SMALL = 0.05, 0.1
# More classes than this are not counted at all: such a label is an identifier or free text.
CLASS_LIMIT = 100_000


def check_problem_type(name: str) -> None:
    """Raise WrongInput unless `name` is a problem type, "classification" (binary or multiclass) or ""."""
    known = (*PROBLEM_TYPES, "classification", "")
    if name not in known:
        near = nearest(name, known)
        hint = f"did you mean '{near}'?" if near else f"use one of {', '.join(known[:-1])}"
        raise WrongInput(f"--problem-type: there is no problem type '{name}'; {hint}", trouble="wrong-value")


def infer(counts: Mapping[Scalar, int] | None, *, stored: str) -> str:
    """Return the problem type that a label poses by itself.

    Args:
        counts: value -> rows; None where there are more than `CLASS_LIMIT` values.
        stored: the label's Arrow type.
    """
    if counts is not None and len(counts) == 2:
        return "binary"
    if stored not in ("int64", "double"):
        return "multiclass"
    if counts is None or len(counts) > MOST_CLASSES:
        return "regression"
    rows = sum(counts.values())
    few = len(counts) / rows <= (RATIO_LARGE if rows > LARGE_DATA else RATIO_SMALL)
    whole = stored == "int64" or all(float(value).is_integer() for value in counts)
    return "multiclass" if few and whole else "regression"


def settle(given: str, counts: Mapping[Scalar, int] | None, *, label: str, stored: str, numeric: bool) -> str:
    """Return the problem type: the given one where it is possible, else the inferred one.

    Args:
        counts: as for `infer`; of the source's rows only, not of given validation or test rows.
        numeric: every label says a number.

    Raises:
        WrongInput: the label has one value only, or does not suit the given type.
    """
    if counts is not None and len(counts) < 2:
        only = next(iter(counts), None)
        raise WrongInput(f"label column '{label}' has only one value, {only!r}; a label needs at least two")
    inferred = infer(counts, stored=stored)
    if given == "classification":
        given = inferred if inferred != "regression" else "multiclass"
    problem = given or inferred
    if problem == "regression":
        if not numeric:
            raise WrongInput(
                f"label column '{label}' is not all numbers, so the problem type can't be regression; leave it out"
            )
        return problem
    if counts is None:
        raise WrongInput(
            f"label column '{label}' has more than {CLASS_LIMIT} values, so it can't be a class; "
            "name the right column, or give --problem-type regression for a number"
        )
    if problem == "binary" and len(counts) != 2:
        shown = ", ".join(repr(value) for value in list(counts)[:5])
        raise WrongInput(f"label column '{label}' has {len(counts)} values ({shown} ...), so the problem is not binary")
    if problem == "multiclass" and len(counts) == 2:
        raise WrongInput(f"label column '{label}' has two values; the problem type for that is binary")
    return problem


def sorted_classes(values: Mapping[Scalar, int]) -> tuple[Scalar, ...]:
    """Return the classes in order: numbers by size, text by code point, false before true."""
    return tuple(sorted(values))


def all_finite(values: Mapping[Scalar, int]) -> bool:
    """Tell whether no class is an infinite number."""
    return all(not isinstance(value, float) or bool(np.isfinite(value)) for value in values)
