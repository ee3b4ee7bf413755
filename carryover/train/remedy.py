"""Owns the recipe section `remedy`: what keeps a run that extends a Model from forgetting it. Torch-free.

    l2_sp, ewc      weights are pulled back to the Model's, in every step             train/pull.py
    lwf             the Model's own answers to the new rows are learned beside the labels    train/teacher.py
    wise_ft         the final weights are between the Model's and the new ones        train/wise.py

Others have keys elsewhere: `data.replay.fraction` trains on a sample of the old rows too, and `optimization.peft` lets
few weights move at all.
"""

from dataclasses import dataclass

from carryover.ground.config import check, key
from carryover.ground.errors import WrongInput
from carryover.tasks.losses import OBJECTS

AUTO = "auto"


@dataclass(frozen=True)
class RemedyConfig:
    """`remedy.*`: against forgetting; each needs a Model to extend (--init-from)."""

    l2_sp: float = key(
        0.0,
        help="L2-SP (Li et al., arXiv:1802.01483): half of this times the squared distance of each weight to the "
        "Model's is added to the loss. 0 is off; 0.01 is a start.",
        allowed=">= 0",
        mutable=False,
    )
    ewc: float = key(
        0.0,
        help="EWC (Kirkpatrick et al., arXiv:1612.00796): as l2_sp, with each weight's distance weighted by its Fisher "
        "information on the Model's own training rows, whose Dataset must be there still. 0 is off; 100 is a start.",
        allowed=">= 0",
        mutable=False,
    )
    ewc_rows: int = key(
        256, help="Rows that the Fisher information is estimated from, one backward pass each; ewc only.",
        allowed=">= 1", mutable=False,
    )  # fmt: skip
    lwf: float = key(
        0.0,
        help="Learning without forgetting (Li and Hoiem, arXiv:1606.09282): weight of a loss against the Model's own "
        "answers to the new rows, beside that against the labels. 0 is off; 1 is a start.",
        allowed=">= 0",
        mutable=False,
    )
    lwf_temperature: float = key(
        2.0, help="Both logits are divided by it in that loss; classes only.", allowed="> 0", mutable=False
    )
    wise_ft: float | str = key(
        1.0,
        help="WiSE-FT (Wortsman et al., arXiv:2109.01903): the final weights are this part of the new ones, and for "
        "the rest the Model's. auto: of 0, 0.1, ... 1 the part with the best mean of the scores on the validation "
        "rows of both, the new and the Model's own, whose Dataset must be there still. 1 is off.",
        allowed=f"0 to 1, {AUTO}",
        mutable=False,
    )

    def __post_init__(self) -> None:
        for name in ("l2_sp", "ewc", "lwf"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or above")
        check(self.ewc_rows >= 1, "ewc_rows", self.ewc_rows, "1 or more")
        check(self.lwf_temperature > 0, "lwf_temperature", self.lwf_temperature, "above 0")
        part = self.wise_ft
        check(part == AUTO if isinstance(part, str) else 0 <= part <= 1, "wise_ft", part, f"from 0 to 1, or {AUTO}")

    @property
    def asked(self) -> tuple[str, ...]:
        """Return the names of the remedies that are asked for."""
        found = [name for name in ("l2_sp", "ewc", "lwf") if getattr(self, name)]
        return (*found, *(["wise_ft"] if self.wise_ft != 1 else []))

    @property
    def old_rows(self) -> tuple[str, ...]:
        """Return the splits of the Model's own Dataset that are needed."""
        return (*(["train"] if self.ewc else []), *(["validation"] if self.wise_ft == AUTO else []))

    def check_problem(self, problem_type: str) -> None:
        """Raise WrongInput for a remedy that asks a Model for probabilities, which a detector does not give."""
        asking = next((name for name in ("ewc", "lwf") if getattr(self, name)), "")
        if asking and problem_type == OBJECTS:
            raise WrongInput(f"remedy.{asking}: needs probabilities, and a detector gives boxes; use l2_sp or wise_ft")

    def check_parent(self, *, extends: bool, teacher: bool) -> None:
        """Raise WrongInput for a remedy without a Model to remember, or for two teachers at once."""
        if self.asked and not extends:
            raise WrongInput(
                f"remedy.{self.asked[0]}: there is no Model to remember; name it by --init-from", trouble="wrong-flags"
            )
        if self.lwf and teacher:
            raise WrongInput(
                "remedy.lwf, distiller.teacher: both name what to learn from; give one of them", trouble="wrong-flags"
            )
