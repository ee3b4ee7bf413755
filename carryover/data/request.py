"""Owns what a person asks of a dataset, and how all its sources are read in order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from carryover.data import readers
from carryover.data.follow import Reference
from carryover.data.progress import Progress
from carryover.data.schema import DENSE
from carryover.data.sources import TYPES, Batch, SourceFile
from carryover.data.split import TEST, TRAIN, VALIDATION, Fractions

ROLES = {"source": TRAIN, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class Request:
    """What a person asks of a dataset.

    Attributes:
        files: role ("source", "validation", "test") -> files, in order.
        problem_type: as `problem.check_problem_type` allows; "" to infer it.
        column_types: given types, which win over inferred ones.
        reference: whose schema the data follow; then what is given must agree with it. None to infer all.
        ignore_label: the id of pixels of masks that are of no class; None: 255.
    """

    files: Mapping[str, tuple[SourceFile, ...]]
    label: str
    problem_type: str = ""
    column_types: Mapping[str, str] = field(default_factory=dict)
    fractions: Fractions = field(default_factory=Fractions)
    reference: Reference | None = None
    ignore_label: int | None = None

    @property
    def dense(self) -> str:
        """Return the label's type where it is of pictures, "boxes" or "mask", else ""."""
        known = self.reference.schema.problem_type if self.reference else self.problem_type
        given = self.column_types.get(self.label, "")
        return DENSE.get(known, given if given in DENSE.values() and not self.reference else "")

    @property
    def implied(self) -> Mapping[str, str]:
        """Return the column types that the sources' formats say."""
        annotated = any(file.annotated for files in self.files.values() for file in files)
        return TYPES if annotated else {}

    @property
    def unwanted(self) -> frozenset[str]:
        """Return the columns given as null: they are not read, and say nothing about a row's split."""
        given = frozenset(name for name, type in self.column_types.items() if type == "null")
        return given | self.reference.unwanted if self.reference else given

    @property
    def target(self) -> str:
        """Return the column that is tallied as the label."""
        return self.reference.schema.label if self.reference else self.label

    @property
    def shares(self) -> Fractions:
        """Return which part of the source goes to each split."""
        given = {role: bool(self.files[role]) for role in ROLES}
        return self.fractions.shares(validation_given=given["validation"], test_given=given["test"])

    def batches(self, progress: Progress) -> Iterator[tuple[str, SourceFile, Batch]]:
        """Read everything, once, in order."""
        for role in ROLES:
            for file in self.files[role]:
                progress.file()
                nested = {self.target} if self.dense == "boxes" else ()
                for batch in readers.read(file, without=self.unwanted, nested=nested):
                    yield role, file, self._wanted(batch)
                    progress.add(batch.rows)

    def _wanted(self, batch: Batch) -> Batch:
        """Leave out the columns that a reference does not have: they must not move a row to another split either."""
        if self.reference is None:
            return batch
        wanted = self.reference.wanted
        return replace(batch, columns={name: array for name, array in batch.columns.items() if name in wanted})
