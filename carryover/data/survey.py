"""Owns the first pass: it settles everything that must be known of the whole data before a row is stored.

every batch --> row's own code (split.py), one byte a row, to a scratch file
            --> tallies of columns and label (tally.py)
at the end  --> column types, problem type, classes, which classes stay in train whole; or one clear error
                where the data follow a Model's or another Dataset's schema, these come from it (follow.py)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from carryover.data import columns, dense, dense_settle, images, problem, values
from carryover.data.columns import ColumnFacts, ColumnPlan
from carryover.data.dense import BoxTally, MaskTally, Truth
from carryover.data.follow import Asked, Followed, Following, Reference, wanted_of
from carryover.data.progress import Progress
from carryover.data.request import ROLES, Request
from carryover.data.schema import DENSE, Scalar, missing_column
from carryover.data.sources import Batch, SourceFile
from carryover.data.split import TRAIN, VALIDATION, codes, row_keys, too_small
from carryover.data.tally import BYTES_SAMPLE, ColumnTally, LabelTally, Sampler
from carryover.ground.console import say
from carryover.ground.errors import WrongInput


@dataclass(frozen=True)
class Survey:
    """What the first pass settled.

    Attributes:
        columns: all columns in the order of the first file, the label and unused ones among them.
        whole: label values whose rows all stay in train.
        file_rows: URI -> rows.
        followed: what the reference says of the data, where there is one.
        truth: what the label is where it is of pictures.
    """

    problem_type: str
    classes: tuple[Scalar, ...] | None
    columns: tuple[ColumnPlan, ...]
    whole: frozenset[Scalar]
    file_rows: Mapping[str, int]
    followed: Followed | None = None
    truth: Truth | None = None


def survey(request: Request, codes_path: Path) -> Survey:
    """Read everything once.

    Args:
        codes_path: where to write one byte a row, in reading order: the row's own split.

    Raises:
        WrongInput: whatever in the data cannot be used; one error, the first that is met.
    """
    problem.check_problem_type(request.problem_type)
    request.shares  # noqa: B018  impossible fractions are said before anything is read
    if request.target in request.unwanted:
        raise WrongInput(f"--column-type {request.target}=null: the label can't be left out", trouble="wrong-column")
    given = request.column_types.get(request.target, "")
    if given and request.problem_type and not request.reference and not _suits(given, request):
        raise WrongInput(
            f"--column-type {request.target}={given} does not suit --problem-type {request.problem_type}",
            trouble="wrong-column",
        )
    reading = _Reading(request)
    files = sum(map(len, request.files.values()))
    with open(codes_path, "wb") as sink, Progress("first pass", files=files) as progress:
        for role, file, batch in request.batches(progress):
            reading.add(role, file, batch, sink)
    reading.end_file()
    return reading.settle()


def _suits(given: str, request: Request) -> bool:
    """Tell whether a type given for the label goes with the problem type given, as far as labels of pictures go."""
    wanted = DENSE.get(request.problem_type, "")
    return given == wanted if wanted else given not in DENSE.values()


class _Reading:
    """The state of the first pass."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._shares = request.shares
        self._sampler = Sampler()
        self._tallies: dict[str, ColumnTally] = {}
        self._label = dense.tally_of(request.dense, request.target) if request.dense else LabelTally(request.target)
        reference = request.reference
        self._typed = {column.name: wanted_of(column) for column in reference.schema.columns} if reference else {}
        self._rows = np.zeros(3, dtype=np.int64)
        self._file: SourceFile | None = None
        self._names: dict[str, None] = {}
        self._first: tuple[SourceFile, list[str]] | None = None
        self._file_rows: dict[str, int] = {}
        self._notes: set[str] = set()

    def add(self, role: str, file: SourceFile, batch: Batch, sink: BinaryIO) -> None:
        """Take in one batch, and write its rows' codes."""
        if file is not self._file:
            self.end_file()
            self._file, self._names = file, {}
            self._file_rows[file.uri] = 0
            if self._request.target not in batch.columns and not self._request.reference:
                raise WrongInput(
                    f"{file.uri}: {missing_column(self._request.label, list(batch.names))} (--label)",
                    trouble="wrong-column",
                )
        self._names.update(dict.fromkeys(batch.names))
        if file.format != "jsonl":
            # These say all their columns at once, so a file that does not fit is found before it is read.
            self._same_columns()
        self._file_rows[file.uri] += batch.rows
        canonical = {name: values.canonical(array) for name, array in batch.columns.items()}
        if role == "source":
            told = {**canonical, **{name: values.canonical(array) for name, array in batch.identity.items()}}
            features = {name: array for name, array in told.items() if name != self._request.target}
            own = codes(row_keys(features, batch.rows), self._shares)
        else:
            own = np.full(batch.rows, ROLES[role], dtype=np.uint8)
        sink.write(own.tobytes())
        self._label.add(batch, own, given=role != "source")
        for note in batch.notes:
            if note not in self._notes:
                say(note)
            self._notes.add(note)
        self._tally(batch, canonical, own)

    def _tally(self, batch: Batch, canonical: Mapping[str, pa.Array], own: np.ndarray) -> None:
        places, priorities = self._sampler.choose(own)
        for name in batch.columns:
            if name not in self._tallies:
                self._tallies[name] = ColumnTally(name, self._typed.get(name, ""))
                self._tallies[name].skip(int(self._rows[TRAIN]))
            self._tallies[name].add(batch, canonical[name], own)
            self._tallies[name].add_sample(batch, places, priorities)
        rows = np.bincount(own, minlength=3)
        for name, tally in self._tallies.items():
            if name not in batch.columns:
                tally.skip(int(rows[TRAIN]))
        self._rows += rows

    def end_file(self) -> None:
        """Compare a file's columns, all known only now, with the first file's."""
        if self._file is not None:
            self._same_columns()

    def _same_columns(self) -> None:
        assert self._file is not None
        if self._first is None or self._first[0] is self._file:
            self._first = (self._file, list(self._names))
            return
        first, names = self._first
        extra = [name for name in self._names if name not in names]
        lacks = [name for name in names if name not in self._names]
        told = [f"lacks {_quoted(lacks)}"] if lacks else []
        told += [f"has {_quoted(extra)} besides"] if extra else []
        if told:
            raise WrongInput(
                f"{self._file.uri}: its columns differ from those of {first.uri}: it {' and '.join(told)}; "
                "all files need the same columns",
                trouble="unreadable-data",
            )

    def settle(self) -> Survey:
        """Return what the whole data says."""
        request = self._request
        if not any(self._file_rows[file.uri] for file in request.files["source"]):
            raise WrongInput(f"{request.files['source'][0].uri}: there are no rows", trouble="too-few-rows")
        names = self._first[1] if self._first else []
        columns.check_given(request.column_types, names, request.target)
        label = self._tallies.get(request.target)
        if label and "nested" in label.kinds and not request.reference:
            raise WrongInput(
                f"label column '{request.target}' holds lists or structs, which can't be a label; boxes are the label "
                "of --problem-type object_detection"
            )
        if request.reference:
            return self._settle_followed(request.reference, names)
        if not isinstance(self._label, LabelTally):
            return self._settle_dense(self._label, names)
        nothing = f"there is no column to learn from besides the label '{request.label}'"
        if not set(names) - request.unwanted - {request.label}:
            raise WrongInput(nothing)
        if self._label.missing:
            raise WrongInput(
                f"label column '{request.label}' has {self._label.missing} missing values "
                f"({'; '.join(self._label.missing_at)}); remove these rows or fill in the labels"
            )
        tally = self._tallies[request.label]
        plan, problem_type, counts = self._settle_label(tally.facts(), self._label)
        classes = None
        if problem_type != "regression":
            classes = problem.sorted_classes({value: 1 for value, row in counts.items() if row[:3].sum()})
        whole = self._whole(counts)
        plans = [plan if name == request.label else self._plan(name) for name in names]
        if all(plan.type == "null" for plan in plans if plan.name != request.label):
            raise WrongInput(f"{nothing}: in all others there is one value at most")
        return Survey(problem_type, classes, tuple(plans), whole, self._file_rows)

    def _settle_dense(self, label: BoxTally | MaskTally, names: list[str]) -> Survey:
        plans = [self._plan(name) for name in names if name != label.name]
        picture = dense_settle.picture_of(plans, label.name)
        truth = dense_settle.settle(label, picture=picture, ignore=self._request.ignore_label)
        dense_settle.say_classes(label, truth)
        physical = values.physical_type(self._tallies[label.name].facts().kinds)
        plan = dense_settle.label_plan(label.name, physical, truth, columns.STORED[truth.type])
        self._check_splits([])
        whole = {one.name: one for one in (*plans, plan)}
        problem_type = next(name for name, type in DENSE.items() if type == truth.type)
        ordered = tuple(whole[name] for name in names)
        return Survey(problem_type, truth.classes, ordered, frozenset(), self._file_rows, truth=truth)

    def _settle_followed(self, reference: Reference, names: list[str]) -> Survey:
        request = self._request
        asked = Asked(request.label, request.problem_type, request.column_types, request.ignore_label)
        label = self._label if request.target in names else None
        rows = sum(self._file_rows.values())
        found = Following(reference, asked, names, rows, self._tallies, label).settle()
        whole = self._whole(found.counts)
        truth = None
        if label and not isinstance(label, LabelTally):
            truth = dense_settle.truth_of(label, reference.schema, found.classes or ())
            dense_settle.say_classes(label, truth)
        return Survey(found.problem_type, found.classes, found.columns, whole, self._file_rows, found, truth)

    def _whole(self, counts: Mapping[Scalar, np.ndarray]) -> frozenset[Scalar]:
        """Return the classes whose rows all stay in train, after checking what that leaves of the splits."""
        whole = {value for value, row in counts.items() if row[:3].sum() and too_small(row[:3], self._shares)}
        self._check_splits([counts[value][:3] for value in whole])
        return frozenset(whole)

    def _check_splits(self, moved: list[np.ndarray]) -> None:
        """Raise WrongInput for an empty train or validation split.

        Args:
            moved: int64[3] for each class that stays in train whole, its rows by the code each has by itself.
        """
        rows = self._rows.copy()
        for counts in moved:
            rows -= counts
            rows[TRAIN] += counts.sum()
        total = sum(self._file_rows[file.uri] for file in self._request.files["source"])
        for name, code in (("train", TRAIN), ("validation", VALIDATION)):
            given = self._request.files[name] if name in ROLES else ()
            if not rows[code]:
                more = f"more rows, a larger --{name}-fraction, or rows of its own by --validation-source"
                remedy = f"rows in {given[0].uri}" if given else more
                raise WrongInput(
                    f"the {name} split is empty ({total} rows in the source); what would help: {remedy}",
                    trouble="too-few-rows",
                )

    def _plan(self, name: str) -> ColumnPlan:
        if name in self._request.unwanted:
            return ColumnPlan(name, "null", "null", "null")
        tally = self._tallies[name]
        facts = tally.facts()
        size = BYTES_SAMPLE if facts.kinds & columns.BYTES else columns.IMAGE_SAMPLE
        given = self._request.column_types.get(name) or self._request.implied.get(name)
        type = given or columns.infer_type(facts, lambda: images.share_opened(tally.lowest(size)))
        return columns.plan(facts, type)

    def _settle_label(self, facts: ColumnFacts, tally: LabelTally) -> tuple[ColumnPlan, str, dict[Any, np.ndarray]]:
        name, physical = facts.name, values.physical_type(facts.kinds)
        numeric = facts.kinds <= values.NUMERIC
        counts = tally.typed(physical)
        source = None if counts is None else {value: int(row[:3].sum()) for value, row in counts.items()}
        source = None if source is None else {value: rows for value, rows in source.items() if rows}
        given = self._given_problem()
        problem_type = problem.settle(given, source, label=name, stored=physical, numeric=numeric)
        if problem_type == "regression":
            columns.require_numbers(facts, f"label column '{name}'")
            stored = "int64" if physical in ("bool", "int64") else "double"
            return ColumnPlan(name, "numerical", physical, stored), problem_type, {}
        if counts is None:
            raise WrongInput(
                f"label column '{name}': the given validation or test rows have too many other classes",
                trouble="unknown-class",
            )
        _check_classes(name, counts)
        return ColumnPlan(name, "categorical", physical, physical), problem_type, counts

    def _given_problem(self) -> str:
        """Return the problem type asked for; a type given for the label column asks for one too."""
        asked, type = self._request.problem_type, self._request.column_types.get(self._request.label, "")
        implied = {"categorical": "classification", "numerical": "regression", "": ""}.get(type, "")
        if asked and implied and (asked == "regression") != (implied == "regression"):
            raise WrongInput(
                f"--column-type {self._request.label}={type} does not suit --problem-type {asked}",
                trouble="wrong-column",
            )
        return asked or implied


def _check_classes(label: str, counts: Mapping[Any, np.ndarray]) -> None:
    if not problem.all_finite(dict.fromkeys(counts, 1)):
        raise WrongInput(f"label column '{label}' has an infinite value, which is no class")
    for role in ("validation", "test"):
        unseen = {value: int(row[3 + ROLES[role]]) for value, row in counts.items() if not row[:3].sum()}
        unseen = {value: rows for value, rows in unseen.items() if rows}
        if unseen:
            shown = ", ".join(f"{value!r} ({rows} rows)" for value, rows in list(unseen.items())[:10])
            more = f" and {len(unseen) - 10} more" if len(unseen) > 10 else ""
            raise WrongInput(
                f"label column '{label}': the given {role} source has classes that train lacks: {shown}{more}; "
                "add rows of them to --source, or remove these",
                trouble="unknown-class",
            )


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
