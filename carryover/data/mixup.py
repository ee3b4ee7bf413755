"""Owns the recipe section `data.mixup`: mixing pairs of images in training. Torch-free; train/mixup.py does it."""

from collections.abc import Iterable
from dataclasses import dataclass

from carryover.data.schema import Column
from carryover.ground.config import check, key
from carryover.ground.errors import WrongInput

MODES = ("batch", "pair", "elem")
_IMAGES = ("image_path", "image_bytes")


@dataclass(frozen=True)
class MixupConfig:
    """Recipe section `data.mixup`: Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) as timm has them."""

    turn_on: bool = key(
        False,
        help="mix each training image, and its label, with that of another row; other columns stay; for classes",
        mutable=False,
    )
    mixup_alpha: float = key(
        0.8, help="shape of the Beta distribution of an image's share; 0: no Mixup", allowed=">= 0", mutable=False
    )
    cutmix_alpha: float = key(
        1.0,
        help="the same for CutMix, which pastes a part of the other image; 0: no CutMix",
        allowed=">= 0",
        mutable=False,
    )
    cutmix_minmax: tuple[float, ...] | None = key(
        None,
        help="least and greatest side of the pasted part, as a part of the image; takes the place of cutmix_alpha",
        allowed="two numbers, 0 <= least < greatest <= 1",
        mutable=False,
    )
    prob: float = key(
        1.0, help="probability of mixing a micro-batch, or an element", allowed="0 < x <= 1", mutable=False
    )
    switch_prob: float = key(
        0.5, help="probability of CutMix where Mixup is on too", allowed="0 <= x <= 1", mutable=False
    )
    mode: str = key(
        "batch",
        help="what has a share of its own: a micro-batch, a pair of rows, or each row",
        allowed=", ".join(MODES),
        mutable=False,
    )
    label_smoothing: float = key(
        0.1,
        help="part of each target that is spread over all classes, while turn_on; in the place of "
        "optimization.label_smoothing",
        allowed="0 <= x < 1",
        mutable=False,
    )
    turn_off_epoch: int = key(
        5, help="epochs that are mixed; those after them see whole images", allowed="1 or more", mutable=False
    )

    def __post_init__(self) -> None:
        check(self.mixup_alpha >= 0, "mixup_alpha", self.mixup_alpha, "0 (off) or above")
        check(self.cutmix_alpha >= 0, "cutmix_alpha", self.cutmix_alpha, "0 (off) or above")
        sides = self.cutmix_minmax
        good = sides is None or (len(sides) == 2 and 0 <= sides[0] < sides[1] <= 1)
        check(good, "cutmix_minmax", sides, "two numbers from 0 to 1, the least side first, or null")
        check(0 < self.prob <= 1, "prob", self.prob, "above 0, at most 1")
        check(0 <= self.switch_prob <= 1, "switch_prob", self.switch_prob, "from 0 to 1")
        check(self.mode in MODES, "mode", self.mode, f"one of {', '.join(MODES)}")
        check(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "from 0 to below 1")
        check(self.turn_off_epoch >= 1, "turn_off_epoch", self.turn_off_epoch, "1 or more")
        mixes = self.mixup_alpha or self.cutmix_alpha or sides is not None
        words = "true with mixup_alpha or cutmix_alpha above 0, or with cutmix_minmax"
        check(bool(mixes) or not self.turn_on, "turn_on", self.turn_on, words)

    def check_columns(self, read: Iterable[Column]) -> None:
        """Raise WrongInput where it is on and none of the columns that the model reads is an image."""
        read = tuple(read)
        if self.turn_on and not any(column.type in _IMAGES for column in read):
            known = ", ".join(f"{column.name} ({column.type})" for column in read)
            raise WrongInput(f"data.mixup.turn_on: the model reads no image to mix, only {known}; set it to false")
