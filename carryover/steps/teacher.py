"""Owns what a step decides about a teacher before a rank starts: which Model it is, and that it fits the data."""

from collections.abc import Mapping
from typing import Any

from carryover.data.manifest import DatasetCard
from carryover.ground.errors import WrongInput
from carryover.steps.fit import check_fit
from carryover.steps.model_source import open_model
from carryover.tasks.losses import OBJECTS
from carryover.train.distiller import TEACHER, DistillerConfig, check_digest, open_teacher, place_of, word_of


def named_teacher(given: Mapping[str, Any], *, store: str) -> dict[str, Any]:
    """Return a person's keys with the teacher, where there is one, by place and digest.

    Raises:
        WrongInput: when there is no such Model.
    """
    asked = given.get(TEACHER)
    if not asked:
        return dict(given)
    try:
        found = open_model(place_of(asked), store=store)
    except WrongInput as error:
        raise WrongInput(f"{TEACHER}: {error}", trouble=error.trouble) from None
    check_digest(found, asked)
    return {**given, TEACHER: word_of(found)}


def check_teacher(config: DistillerConfig, card: DatasetCard) -> None:
    """Raise WrongInput where the teacher of a run can't answer the rows that it is trained on."""
    if not config.teacher:
        return
    if card.schema.problem_type == OBJECTS:
        raise WrongInput(
            f"{TEACHER}: a detector can't be taught by another's boxes; leave it out", trouble="wrong-value"
        )
    config.soft_loss(classes=card.schema.classes is not None)
    try:
        check_fit(open_teacher(config.teacher).card, card, "train")
    except WrongInput as error:
        raise WrongInput(f"{TEACHER}: {str(error).removeprefix(f'{TEACHER}: ')}", trouble=error.trouble) from None
