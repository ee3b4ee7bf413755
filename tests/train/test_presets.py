"""Presets: sets of keys by a name, under the keys that a person gives."""

from pathlib import Path

import pytest
import timm
import yaml

from carryover.ground.errors import WrongInput
from carryover.steps.preflight import preflight
from carryover.train import presets
from carryover.train import recipe as recipes
from carryover.train.recipe import Recipe

TEXT, IMAGE = "model.hf_text.checkpoint_name", "model.timm_image.checkpoint_name"


def made(recipe: str = "", *overrides: str) -> Recipe:
    return recipes.make(recipes.given(recipe, overrides))


def backbones(name: str) -> set[str]:
    return {value for key, value in presets.PRESETS[name].items() if key.endswith(".checkpoint_name")}


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_is_its_keys(name: str) -> None:
    settings = presets.PRESETS[name]
    one = made(f"presets: {name}")
    assert {key: one.flat()[key] for key in settings} == dict(settings)
    assert backbones(name) <= set(presets.BACKBONES)
    # Written out, or under another name, it is the same run.
    assert recipes.identity(one) == recipes.identity(made(yaml.safe_dump(dict(settings))))


def test_the_names_are_automms() -> None:
    of_columns = {"default", "medium_quality", "high_quality", "best_quality", "multilingual"}
    boxes = {f"object_detection{quality}" for quality in ("", "_medium_quality", "_high_quality", "_best_quality")}
    assert set(presets.PRESETS) == of_columns | boxes | {"semantic_segmentation"}
    assert made("presets: default").flat()[TEXT] == made("presets: high_quality").flat()[TEXT]
    assert set().union(*map(backbones, presets.PRESETS)) == set(presets.BACKBONES)
    known = timm.list_models(pretrained=True)
    assert {presets.PRESETS[name][IMAGE] for name in of_columns} <= set(known)


def test_a_persons_keys_win() -> None:
    found = made("presets: best_quality\noptim.lr: 3e-5\n", f"{TEXT}=x/y", "env.per_gpu_batch_size=2").flat()
    assert (found[TEXT], found["env.per_gpu_batch_size"]) == ("x/y", 2)
    assert found["optimization.learning_rate"] == 3e-5
    assert found[IMAGE] == presets.PRESETS["best_quality"][IMAGE]


def test_a_run_that_exists_keeps_its_keys_and_refuses_another_preset() -> None:
    old = made("presets: medium_quality").flat()
    again = recipes.make({**old, TEXT: "as/it/was"})
    assert again.flat()[TEXT] == "as/it/was"
    other = recipes.make({**old, **recipes.given("presets: best_quality")})
    with pytest.raises(WrongInput, match=rf"^{TEXT}: run r has .*ettin-encoder-32m.* asked for .*deberta-v3-large"):
        recipes.check_changes(old, other, run="r")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("best_qualty", "it must be one of medium_quality, .*; did you mean 'best_quality'\\?"),
        ("best_quality_hpo", "trying out hyperparameters is not there"),
        ("3", "it must be one of"),
    ],
)
def test_a_preset_that_is_not_there(name: str, words: str) -> None:
    with pytest.raises(WrongInput, match=f"^presets: .*{words}"):
        made("", f"presets={name}")


def test_preflight_shows_what_it_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preflight(store=str(tmp_path / "store"), recipe="{presets: best_quality, env: {per_gpu_batch_size: 4}}")
    said = "".join(capsys.readouterr())
    assert f"presets best_quality: {TEXT} = microsoft/deberta-v3-large (" in said
    assert "per_gpu_batch_size" not in said
