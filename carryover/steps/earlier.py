"""Owns the Models that evaluate compares with, a baseline and earlier stages: found, checked, and asked.

--baseline, --stage --open_earlier--> Earlier --check_earlier--> --ask--> what each said of every Dataset

Every Model is loaded once, whatever it is needed for, and one at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from carryover.carry.answers import Said
from carryover.data.manifest import DatasetCard
from carryover.data.schema import Scalar
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.models.card import ModelCard
from carryover.models.export import Found
from carryover.steps.fit import check_fit, kind_of
from carryover.steps.model_source import open_model
from carryover.tasks.metrics import SEGMENTATION


@dataclass(frozen=True)
class Earlier:
    """Models to compare with; stages from the oldest on, the evaluated Model not among them."""

    baseline: Found | None = None
    stages: tuple[Found, ...] = ()

    @property
    def models(self) -> list[tuple[str, Found]]:
        """Return every Model once, with what it is called."""
        named = [("stage Model", stage) for stage in self.stages]
        if self.baseline:
            named.append(("baseline Model", self.baseline))
        return list({found.card.digest: (name, found) for name, found in named}.values())


def open_earlier(baseline: str, stages: Sequence[str], *, store: str) -> Earlier:
    """Find the Models to compare with.

    Raises:
        WrongInput: names the flag whose Model is not there.
    """
    found = _open("--baseline", baseline, store) if baseline else None
    return Earlier(found, tuple(_open("--stage", stage, store) for stage in stages))


def _open(flag: str, source: str, store: str) -> Found:
    try:
        return open_model(source, store=store)
    except WrongInput as error:
        raise WrongInput(f"{flag}: {error}", trouble=error.trouble) from None


def check_earlier(earlier: Earlier, model: ModelCard, cards: Sequence[DatasetCard], split: str) -> None:
    """Check that what the Models say can be compared; a class that an earlier one lacks is no reason why not.

    Raises:
        WrongInput: names the Model, the Dataset and every reason.
    """
    stages = [*(stage.card.digest for stage in earlier.stages), model.digest]
    twice = next((digest for digest in stages if stages.count(digest) > 1), "")
    if twice:
        raise WrongInput(
            f"--stage: Model {twice} is given twice; --model is the last stage, give the earlier ones only",
            trouble="wrong-flags",
        )
    for name, found in earlier.models:
        mine, theirs = model.schema, found.card.schema
        if kind_of(mine) != kind_of(theirs):
            raise WrongInput(
                f"{name} {found.card.digest} is of problem type {theirs.problem_type}, Model {model.digest} of "
                f"{mine.problem_type}: their scores can't be compared"
            )
        if mine.problem_type == SEGMENTATION and mine.classes != theirs.classes:
            raise WrongInput(
                f"{name} {found.card.digest} tells the ids {_listed(theirs.classes)} apart, Model {model.digest} "
                f"{_listed(mine.classes)}: pixels are compared between Models of the same classes only"
            )
        for card in cards:
            check_fit(found.card, card, split, name=name, new_classes=True)


def _listed(classes: Sequence[Scalar] | None) -> str:
    return ", ".join(map(str, classes or ()))


def ask(
    earlier: Earlier, model: ModelCard, cards: Sequence[DatasetCard], split: str, *, batch_size: int, scratch: Path
) -> dict[str, list[Said]]:
    """Return what every earlier Model says, by its digest, one a Dataset; the evaluated Model is not asked again."""
    from carryover.train.scoring import Scorer

    found = {}
    for name, other in earlier.models:
        if other.card.digest == model.digest:
            continue
        say(f"asking {name} {other.card.digest}")
        scorer = Scorer.of(other, batch_size=batch_size)
        found[other.card.digest] = [
            scorer.said(scorer.predict(card, split, scratch=scratch, labels=False), labels=False) for card in cards
        ]
    return found
