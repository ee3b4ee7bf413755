"""Owns the recipe section `data`: which rows are learned, and how columns become numbers, as AutoMM's users name it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carryover.data.mixup import MixupConfig
from carryover.ground.config import check, key

LABEL_SCALINGS = ("standardscaler", "minmaxscaler")
MISSING_IMAGES = ("zero", "skip")
SNAPSHOT, DELTA = "snapshot", "delta"
TEMPLATES = ("direct", "list", "text", "latex")


@dataclass(frozen=True)
class NumericalConfig:
    """Recipe section `data.numerical`: scaling of numerical columns, with the train split's statistics."""

    convert_to_text: bool = key(
        False, help="give numerical columns to the text models, as text of six digits", mutable=False
    )
    scaler_with_mean: bool = key(True, help="subtract the train split's mean from each numerical column")
    scaler_with_std: bool = key(True, help="divide each numerical column by the train split's standard deviation")


@dataclass(frozen=True)
class CategoricalConfig:
    """Recipe section `data.categorical`: which categories get an id of their own; the others share one."""

    convert_to_text: bool = key(False, help="give categorical columns to the text models, as text", mutable=False)
    convert_to_text_template: str = key(
        "latex",
        help="how a category is written: red; color: red; color is red; red &",
        allowed=", ".join(TEMPLATES),
        mutable=False,
    )
    minimum_cat_count: int = key(100, help="rows of the train split that a category needs", allowed="1 or more")
    maximum_num_cat: int = key(20, help="most frequent categories kept in each column", allowed="1 or more")

    def __post_init__(self) -> None:
        check(self.minimum_cat_count >= 1, "minimum_cat_count", self.minimum_cat_count, "1 or more")
        check(self.maximum_num_cat >= 1, "maximum_num_cat", self.maximum_num_cat, "1 or more")
        template, words = self.convert_to_text_template, f"one of {', '.join(TEMPLATES)}"
        check(template in TEMPLATES, "convert_to_text_template", template, words)


@dataclass(frozen=True)
class ImageConfig:
    """Recipe section `data.image`."""

    missing_value_strategy: str = key(
        "zero",
        help="a row whose image is missing or cannot be read: zero, it has no image; skip, in training the next row "
        "stands in its place",
        allowed=", ".join(MISSING_IMAGES),
    )

    def __post_init__(self) -> None:
        value = self.missing_value_strategy
        check(value in MISSING_IMAGES, "missing_value_strategy", value, f"one of {', '.join(MISSING_IMAGES)}")


@dataclass(frozen=True)
class LabelConfig:
    """Recipe section `data.label`: scaling of a numerical label (regression); predictions are scaled back."""

    numerical_preprocessing: str | None = key(
        "standardscaler", help="scaling of a regression label", allowed="standardscaler, minmaxscaler, None"
    )

    def __post_init__(self) -> None:
        value = self.numerical_preprocessing
        if value is not None and value.lower() == "none":
            # YAML spells it null, AutoMM's users write None.
            object.__setattr__(self, "numerical_preprocessing", value := None)
        allowed = f"one of {', '.join(LABEL_SCALINGS)}, None"
        check(value is None or value in LABEL_SCALINGS, "numerical_preprocessing", value, allowed)

    def shift_and_scale(self, statistics: Mapping[str, Any]) -> tuple[float, float]:
        """Return (shift, scale) of a regression's label: what is learned is (label - shift) / scale."""
        # A label that never changes is left in its own unit.
        if self.numerical_preprocessing == "standardscaler":
            return float(statistics["mean"]), float(statistics["std"]) or 1.0
        if self.numerical_preprocessing == "minmaxscaler":
            least, most = float(statistics["min"]), float(statistics["max"])
            return least, most - least or 1.0
        return 0.0, 1.0


@dataclass(frozen=True)
class TextConfig:
    """Recipe section `data.text`: what happens to every text before a family reads it."""

    normalize_text: bool = key(
        False, help="mend text that was decoded wrongly and write all of it in ASCII, in training and at inference"
    )


@dataclass(frozen=True)
class ReplayConfig:
    """Recipe section `data.replay`: what an extension sees again of the data that its parent learned."""

    fraction: float = key(
        0.0,
        help="with --init-from: share of the train rows of the Model's own dataset that is learned again, beside the "
        "new data; chosen by the seed",
        allowed="0 <= x <= 1",
        mutable=False,
    )

    def __post_init__(self) -> None:
        check(0 <= self.fraction <= 1, "fraction", self.fraction, "at least 0 and at most 1")


@dataclass(frozen=True)
class DataConfig:
    """Recipe section `data`."""

    mode: str = key(
        SNAPSHOT,
        help="snapshot: all train rows of the dataset; delta, with --init-from: only those that the Model's own "
        "dataset does not have",
        allowed=f"{SNAPSHOT}, {DELTA}",
        mutable=False,
    )
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    numerical: NumericalConfig = field(default_factory=NumericalConfig)
    categorical: CategoricalConfig = field(default_factory=CategoricalConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    label: LabelConfig = field(default_factory=LabelConfig)
    mixup: MixupConfig = field(default_factory=MixupConfig)
    pos_label: bool | int | float | str | None = key(
        None, help="the positive class of a binary problem; the second of the sorted classes where not given"
    )
    modality_dropout: float = key(
        0.0,
        help="share of each column's values that training leaves out at random, as if they were missing",
        allowed="0 <= x < 1",
        mutable=False,
    )
    record_samples: bool = key(
        False, help="keep, with each commit, which rows were seen; for counting that each came once", identity=False
    )

    def __post_init__(self) -> None:
        check(self.mode in (SNAPSHOT, DELTA), "mode", self.mode, f"one of {SNAPSHOT}, {DELTA}")
        dropout = self.modality_dropout
        check(0 <= dropout < 1, "modality_dropout", dropout, "at least 0 and below 1")
