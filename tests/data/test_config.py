"""The recipe section `data` has AutoMM's names and defaults."""

import pytest

from carryover.data.config import DataConfig
from carryover.ground.config import build, flatten
from carryover.ground.errors import WrongInput


def test_names_and_defaults() -> None:
    assert flatten(DataConfig(), path="data") == {
        "data.mode": "snapshot",
        "data.replay.fraction": 0.0,
        "data.numerical.convert_to_text": False,
        "data.numerical.scaler_with_mean": True,
        "data.numerical.scaler_with_std": True,
        "data.categorical.convert_to_text": False,
        "data.categorical.convert_to_text_template": "latex",
        "data.categorical.minimum_cat_count": 100,
        "data.categorical.maximum_num_cat": 20,
        "data.image.missing_value_strategy": "zero",
        "data.text.normalize_text": False,
        "data.label.numerical_preprocessing": "standardscaler",
        "data.pos_label": None,
        "data.modality_dropout": 0.0,
        "data.mixup.turn_on": False,
        "data.mixup.mixup_alpha": 0.8,
        "data.mixup.cutmix_alpha": 1.0,
        "data.mixup.cutmix_minmax": None,
        "data.mixup.prob": 1.0,
        "data.mixup.switch_prob": 0.5,
        "data.mixup.mode": "batch",
        "data.mixup.label_smoothing": 0.1,
        "data.mixup.turn_off_epoch": 5,
        "data.record_samples": False,
    }


@pytest.mark.parametrize("given", ["None", "none", None])
def test_no_scaling_of_the_label_however_it_is_spelled(given: str | None) -> None:
    config = build(DataConfig, {"label": {"numerical_preprocessing": given}}, path="data")
    assert config.label.numerical_preprocessing is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"label": {"numerical_preprocessing": "robust"}}, "data.label.numerical_preprocessing: 'robust'"),
        ({"categorical": {"maximum_num_cat": 0}}, "data.categorical.maximum_num_cat: 0"),
        ({"mode": "increment"}, "data.mode: 'increment'"),
        ({"replay": {"fraction": 1.5}}, "data.replay.fraction: 1.5"),
        ({"numerical": {"scale_with_mean": True}}, "did you mean 'data.numerical.scaler_with_mean'"),
    ],
)
def test_wrong_values(values: dict, words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        build(DataConfig, values, path="data")


@pytest.mark.parametrize("given", [1, "1", True, 1.5])
def test_the_positive_class_keeps_its_type(given: object) -> None:
    found = build(DataConfig, {"pos_label": given}, path="data").pos_label
    assert (found, type(found)) == (given, type(given))
