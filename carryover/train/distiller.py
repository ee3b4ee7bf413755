"""Owns the recipe section `distiller` and the word for a teacher. Torch-free; train/teacher.py lets it teach.

A teacher is named as a person names a Model. What a run keeps is `<uri>#<digest>`: the digest says which Model it is,
and is all of it that counts for the run's identity.
"""

from dataclasses import dataclass

from carryover.ground.config import check, key
from carryover.ground.errors import WrongInput
from carryover.models.card import is_model_digest
from carryover.models.export import Found, find_model

TEACHER = "distiller.teacher"
CROSS_ENTROPY, SQUARED = "cross_entropy", "mse"
LOSSES = ("", CROSS_ENTROPY, SQUARED)


@dataclass(frozen=True)
class DistillerConfig:
    """`distiller.*`: learning from the answers of another Model (Hinton et al., 2015)."""

    teacher: str = key(
        "",
        help="Model to learn from beside the labels, on the same label and columns that the data has; it counts by its "
        "content. Empty: none, and the other keys here do nothing.",
        allowed="a Model's URI or folder, run:KEY; #DIGEST after it demands that very Model",
        mutable=False,
    )
    hard_label_weight: float = key(
        0.1, help="Weight of the usual loss against the labels, with a teacher.", allowed=">= 0", mutable=False
    )
    soft_label_weight: float = key(
        1.0, help="Weight of the loss against the teacher's answers.", allowed=">= 0", mutable=False
    )
    soft_label_loss_type: str = key(
        "",
        help="Loss against the teacher's answers: cross_entropy of its probabilities, or mse of logits, or of numbers. "
        "Empty: cross_entropy for classes, mse for numbers.",
        allowed=f'"", {CROSS_ENTROPY}, {SQUARED}',
        mutable=False,
    )
    temperature: float = key(
        5.0,
        help="Both logits are divided by it in the loss against the teacher's answers; classes only. As in AutoMM, the "
        "loss is not multiplied by its square: soft_label_weight is all that weighs.",
        allowed="> 0",
        mutable=False,
    )

    def __post_init__(self) -> None:
        hard, soft = self.hard_label_weight, self.soft_label_weight
        check(hard >= 0, "hard_label_weight", hard, "0 or above")
        check(soft > 0 or (soft == 0 and hard > 0), "soft_label_weight", soft, "above 0, or 0 with hard_label_weight")
        known = ", ".join(word or '""' for word in LOSSES)
        check(self.soft_label_loss_type in LOSSES, "soft_label_loss_type", self.soft_label_loss_type, f"one of {known}")
        check(self.temperature > 0, "temperature", self.temperature, "above 0")

    def soft_loss(self, *, classes: bool) -> str:
        """Return the loss against the teacher's answers, by name.

        Raises:
            WrongInput: for cross-entropy of numbers.
        """
        asked = self.soft_label_loss_type
        if asked == CROSS_ENTROPY and not classes:
            raise WrongInput(
                f"distiller.soft_label_loss_type: {asked} is for classes; numbers have {SQUARED}", trouble="wrong-value"
            )
        return asked or (CROSS_ENTROPY if classes else SQUARED)


def digest_of(teacher: str) -> str:
    """Return the Model's digest in a teacher's word, "" where it has none."""
    digest = teacher.rpartition("#")[2]
    return digest if "#" in teacher and is_model_digest(digest) else ""


def place_of(teacher: str) -> str:
    """Return a teacher's word without the digest."""
    digest = digest_of(teacher)
    return teacher.removesuffix(f"#{digest}") if digest else teacher


def word_of(found: Found) -> str:
    """Return the word for a Model that was found."""
    return f"{found.folder.uri}#{found.card.digest}"


def open_teacher(teacher: str) -> Found:
    """Return the Model that a teacher's word with a digest names.

    Raises:
        WrongInput: when it is not there, or another one is.
    """
    try:
        found = find_model(place_of(teacher))
    except WrongInput as error:
        raise WrongInput(f"{TEACHER}: {error}", trouble=error.trouble) from None
    check_digest(found, teacher)
    return found


def check_digest(found: Found, teacher: str) -> None:
    """Raise WrongInput where a teacher's word demands another Model than was found."""
    digest = digest_of(teacher)
    if digest and found.card.digest != digest:
        raise WrongInput(f"{TEACHER}: {found.folder.uri} holds Model {found.card.digest}, and {digest} is asked for")
