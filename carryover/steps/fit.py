"""Owns whether a Dataset can be scored by a Model, told from their cards alone."""

from carryover.data.manifest import DatasetCard
from carryover.data.schema import Schema
from carryover.ground.errors import WrongInput
from carryover.models.card import ModelCard
from carryover.models.columns import as_text
from carryover.tasks.metrics import CLASSIFICATION


def check_fit(
    model: ModelCard, dataset: DatasetCard, split: str, *, name: str = "Model", new_classes: bool = False
) -> None:
    """Check that a Dataset can be scored by a Model.

    Args:
        name: what the Model is called in the error.
        new_classes: whether the Dataset may have classes that the Model does not know.

    Raises:
        WrongInput: names every reason why it cannot.
    """
    mine, theirs = model.schema, dataset.schema
    reasons = [why] if (why := why_no_split(dataset, split)) else []
    if theirs.label != mine.label:
        reasons.append(f"its label is '{theirs.label}', the model's is '{mine.label}'")
    elif kind_of(theirs) != kind_of(mine):
        reasons.append(
            f"its problem type is {theirs.problem_type}, the model's is {mine.problem_type}; "
            f"prepare it with --problem-type {kind_of(mine)}"
        )
    elif mine.classes is not None and theirs.classes is not None and not new_classes:
        known = {as_text(value) for value in mine.classes}
        unknown = [value for value in theirs.classes if as_text(value) not in known]
        if unknown:
            reasons.append(f"classes that the model does not know: {', '.join(map(repr, unknown[:20]))}")
    stored = {column.name for column in theirs.columns if column.type != "null"}
    missing = [column for column in used_columns(model) if column not in stored]
    if missing:
        reasons.append(
            f"columns missing that the model reads: {', '.join(missing)} "
            "(a column without values, or with one value only, needs --column-type NAME=TYPE in prepare-data)"
        )
    if reasons:
        raise WrongInput(f"{dataset.at or 'dataset'} does not fit {name} {model.digest}: {'; '.join(reasons)}")


def kind_of(schema: Schema) -> str:
    """Return the problem type, one word for those that differ in the number of classes only."""
    return "classification" if schema.problem_type in CLASSIFICATION else schema.problem_type


def check_split(dataset: DatasetCard, split: str) -> None:
    """Check that a split can be scored.

    Raises:
        WrongInput: when it is not there, or has no rows.
    """
    if why := why_no_split(dataset, split):
        raise WrongInput(f"{dataset.at or 'dataset'}: {why}")


def why_no_split(dataset: DatasetCard, split: str) -> str:
    """Return why a split cannot be scored, "" where it can."""
    if split not in dataset.splits:
        return f"there is no split '{split}'; there are {', '.join(dataset.splits)}"
    if dataset.splits[split].rows:
        return ""
    filled = [name for name, part in dataset.splits.items() if part.rows]
    return f"split '{split}' has no rows; there are rows in {', '.join(filled)}"


def used_columns(model: ModelCard) -> list[str]:
    """Return the columns that a Model reads, each once."""
    return list(dict.fromkeys(name for branch in model.assembly["branches"] for name in branch["columns"]))
