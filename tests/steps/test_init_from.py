"""Runs that extend a Model: what they take from it, what they refuse, and that it stays as it was."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from carryover.data.manifest import DatasetCard, load_card
from carryover.ground.errors import WrongInput
from carryover.models.card import WEIGHTS
from carryover.models.export import Found, find_model, load_model
from carryover.steps.prepare_data import prepare_data
from carryover.steps.train_ddp import train_ddp
from carryover.train.parent import parent_from_json
from tests.support.tiny_bert import save_tiny_bert
from tests.train.attempts import SMALL, write_rows

# Nothing moves: what a run begins with is what it ends with.
STILL = {"optimization.learning_rate": 1e-30, "optimization.max_steps": 1}


@dataclass(frozen=True)
class Born:
    """A Model, new data in the same store, and what other keys it was made with."""

    folder: Path
    first: DatasetCard
    second: DatasetCard
    model: dict[str, Any]

    @property
    def store(self) -> str:
        return str(self.folder / "store")

    def extend(self, keys: dict[str, Any] | None = None, **flags: Any) -> dict[str, Any]:
        settings = {"dataset": self.second.at, "init_from": self.model["uri"], "store": self.store, **flags}
        return train_ddp(overrides=[f"{name}={json.dumps(value)}" for name, value in (keys or {}).items()], **settings)


def rows(folder: Path, name: str, seed: int, **settings: Any) -> DatasetCard:
    source = write_rows(folder / f"{name}.csv", 100, seed=seed)
    result = prepare_data(source=[str(source)], label="liked", store=str(folder / "store"), **settings)
    return load_card(result["uri"])


def weights(uri: str) -> dict[str, torch.Tensor]:
    return load_file(Path(find_model(uri).folder.uri) / WEIGHTS)


def logits(found: Found, count: int = 20) -> np.ndarray:
    """What a Model says to some texts."""
    import pyarrow as pa

    loaded = load_model(found, num_outputs=2)
    table = pa.table({"said": [f"good great {n} bad movie"[: 6 + n] for n in range(count)]})
    keys = np.arange(count, dtype=np.uint64)
    features = loaded.preprocessing(table, training=False, keys=keys)
    with torch.no_grad():
        return loaded.network({name: torch.from_numpy(value) for name, value in features.items()}).logits.numpy()


@pytest.fixture(scope="module")
def born(tmp_path_factory: pytest.TempPathFactory) -> Born:
    folder = tmp_path_factory.mktemp("born")
    first, second = rows(folder, "first", 0), rows(folder, "second", 1)
    asked = {**SMALL, "optimization.max_epochs": 1, "model.numerical_mlp.hidden_size": 24}
    overrides = [f"{name}={value}" for name, value in asked.items()]
    return Born(folder, first, second, train_ddp(dataset=first.at, store=str(folder / "store"), overrides=overrides))


def test_it_begins_with_the_model_and_leaves_it_alone(born: Born) -> None:
    before = {path: path.read_bytes() for path in Path(born.model["uri"]).rglob("*") if path.is_file()}
    result = born.extend(STILL)
    there, mine = weights(born.model["uri"]), weights(result["uri"])
    assert {name: value.shape for name, value in there.items()} == {name: value.shape for name, value in mine.items()}
    assert all(torch.equal(value, mine[name]) for name, value in there.items() if value.is_floating_point())
    assert {path: path.read_bytes() for path in before} == before


def test_the_preprocessing_is_the_models_and_not_that_of_the_new_data(born: Born) -> None:
    files = [find_model(uri).files() for uri in (born.model["uri"], born.extend(STILL)["uri"])]
    fitted = [{name: data for name, data in each.items() if name.startswith("preprocessors/")} for each in files]
    assert fitted[0] == fitted[1]


def test_another_parent_or_none_is_another_run(born: Born) -> None:
    keys = {name: value for name, value in SMALL.items() if name.startswith(("env.", "data."))}
    child = born.extend(STILL)
    assert born.extend(STILL)["run_key"] == child["run_key"]
    alone = born.extend({**STILL, **keys, "model.numerical_mlp.hidden_size": 24}, init_from="")
    assert alone["run_key"] != child["run_key"]


def test_it_learns_and_goes_on_without_its_parent(born: Born, tmp_path: Path) -> None:
    shutil.copytree(born.folder, tmp_path / "moved")
    store = str(tmp_path / "moved" / "store")
    model = find_model(f"{store}/models/{born.model['digest']}")
    flags = {"store": store, "dataset": f"{store}/datasets/{born.second.digest[:32]}"}
    result = born.extend({"optimization.max_epochs": 1}, init_from=model.folder.uri, **flags)
    assert not torch.equal(*(next(iter(weights(uri).values())) for uri in (result["uri"], model.folder.uri)))
    shutil.rmtree(Path(model.folder.uri))
    again = born.extend({"optimization.max_epochs": 2}, init_from="", run_key=result["run_key"], **flags)
    assert again["step_count"] == 2 * result["step_count"]
    assert again["parent_digest"] == born.model["digest"]
    # Its own keys hold where none is given: a scratch run would have another width.
    card = find_model(again["uri"]).card
    assert card.recipe["model.numerical_mlp.hidden_size"] == 24
    assert card.recipe["env.batch_size"] == SMALL["env.batch_size"]
    parent = parent_from_json(card.parent)
    assert parent is not None
    assert (parent.kind, parent.digest, parent.run_key) == ("extend", born.model["digest"], born.model["run_key"])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model.numerical_mlp.hidden_size": 32}, "model.numerical_mlp.hidden_size: Model .* has 24, asked for 32; a "),
        ({"data.categorical.minimum_cat_count": 7}, "data.categorical.minimum_cat_count: Model .* has 5, asked for 7"),
        ({"model.names": ["numerical_mlp"]}, "model.names: Model .* asked for"),
    ],
)
def test_what_a_model_has_fixed_is_not_asked_for_again(born: Born, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        born.extend(keys)


def test_data_that_does_not_fit_is_refused_with_all_reasons(born: Born, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "x,kind,liked\n" + "".join(f"{n},{'abc'[n % 3]},{('yes', 'perhaps', 'no')[n % 3]}\n" for n in range(120))
    )
    made = prepare_data(source=[str(tmp_path / "rows.csv")], label="liked", store=born.store)
    with pytest.raises(WrongInput, match=r"--init-from .*classes that the model does not know: 'perhaps'.*missing.* y"):
        born.extend(dataset=made["uri"])


def test_a_run_that_began_otherwise_is_not_this_one(born: Born) -> None:
    child = born.extend(STILL)
    with pytest.raises(WrongInput, match=f"that run started from nothing, not from {born.model['digest']}"):
        born.extend(run_key=born.model["run_key"], dataset=born.first.at)
    assert born.extend(run_key=child["run_key"])["digest"] == child["digest"]


@pytest.mark.slow
def test_adapters_are_put_into_a_model_and_merged_out_of_one(tmp_path: Path) -> None:
    lines = [f"{word} {n} movie,{liked}" for n in range(60) for word, liked in (("good", "yes"), ("bad", "no"))]
    (tmp_path / "rows.csv").write_text("\n".join(["said,liked", *lines]) + "\n")
    store = str(tmp_path / "store")
    data = prepare_data(source=[str(tmp_path / "rows.csv")], label="liked", store=store, column_types={"said": "text"})
    bert = str(save_tiny_bert(tmp_path / "bert"))
    keys = {**SMALL, "model.names": ["hf_text"], "model.hf_text.checkpoint_name": bert, "optimization.max_epochs": 1}

    def train(**more: Any) -> Found:
        asked = {**more.pop("keys", {})}
        overrides = [f"{name}={json.dumps(value)}" for name, value in asked.items()]
        return find_model(train_ddp(dataset=data["uri"], store=store, overrides=overrides, **more)["uri"])

    whole = train(keys=keys)
    shutil.rmtree(bert)
    adapted = train(init_from=whole.folder.uri, keys={**STILL, "optimization.peft": "lora"})
    assert np.array_equal(logits(whole), logits(adapted))
    assert any("lora_A" in name for name in weights(adapted.folder.uri))
    learned = train(
        init_from=adapted.folder.uri, keys={"optimization.learning_rate": 0.05, "optimization.max_steps": 9}
    )
    assert learned.card.recipe["optimization.peft"] == "lora"
    assert np.abs(logits(learned) - logits(whole)).max() > 1e-3
    merged = train(init_from=learned.folder.uri, keys={**STILL, "optimization.peft": None})
    assert not any("lora" in name for name in weights(merged.folder.uri))
    np.testing.assert_allclose(logits(merged), logits(learned), atol=1e-5)


def test_only_what_is_new_is_learned_and_some_of_the_old_again(born: Born, tmp_path: Path) -> None:
    old = (born.folder / "first.csv").read_text().splitlines()
    new = (born.folder / "second.csv").read_text().splitlines()
    (tmp_path / "all.csv").write_text("\n".join([*old, *new[1:]]) + "\n")
    both = load_card(prepare_data(source=[str(tmp_path / "all.csv")], label="liked", store=born.store)["uri"])
    keys = {"data.mode": "delta", "data.replay.fraction": 0.25, "optimization.max_epochs": 1}
    result = born.extend(keys, dataset=both.at)
    was = born.first.splits["train"].rows
    assert result["samples"] == both.splits["train"].rows - was + round(0.25 * was)
    # Once it is finished, it is given again without what it was made of.
    shutil.move(born.first.at, tmp_path / "away")
    assert born.extend(keys, dataset=both.at)["digest"] == result["digest"]
    with pytest.raises(WrongInput, match=r"data.mode delta: needs the dataset that Model .* was trained on"):
        born.extend({**keys, "seed": 1}, dataset=both.at)
    shutil.move(tmp_path / "away", born.first.at)


def test_where_nothing_is_new_the_model_is_given_again(born: Born, tmp_path: Path) -> None:
    result = born.extend({"data.mode": "delta"}, dataset=born.first.at, output=str(tmp_path / "out"))
    assert (result["uri"], result["reason"]) == (born.model["uri"], "nothing_new")
    shutil.copytree(tmp_path / "out", tmp_path / "moved")
    assert find_model(str(tmp_path / "moved")).card.digest == born.model["digest"]
    with pytest.raises(WrongInput, match=r"data.mode: 'delta' is not possible here: .* give --init-from"):
        born.extend({"data.mode": "delta"}, init_from="")


def test_new_classes_get_outputs_behind_the_old_ones(born: Born, tmp_path: Path) -> None:
    lines = [f"{n / 60:.3f},{(n * 7) % 5},{'abc'[n % 3]},{('yes', 'perhaps', 'no')[n % 3]}" for n in range(150)]
    (tmp_path / "rows.csv").write_text("\n".join(["x,y,kind,liked", *lines]) + "\n")
    types = {"x": "numerical", "y": "numerical"}
    made = prepare_data(source=[str(tmp_path / "rows.csv")], label="liked", store=born.store, column_types=types)
    with pytest.raises(WrongInput, match="'perhaps'; --grow-classes lets the model learn them"):
        born.extend(dataset=made["uri"])
    result = born.extend(STILL, dataset=made["uri"], grow_classes=True)
    card = find_model(result["uri"]).card
    assert (card.schema.classes, card.schema.problem_type) == (("no", "yes", "perhaps"), "multiclass")
    there, mine = weights(born.model["uri"]), weights(result["uri"])
    for name, value in there.items():
        grown = mine[name][: len(value)] if value.dim() else mine[name]
        assert torch.equal(value, grown), name
    heads = [name for name, value in mine.items() if value.shape != there[name].shape]
    assert len(heads) == 6
    assert all(len(mine[name]) == 3 for name in heads)
    learned = born.extend({"optimization.max_epochs": 2, "remedy.lwf": 1.0}, dataset=made["uri"], grow_classes=True)
    assert learned["metrics"]["val_accuracy"] is not None
    with pytest.raises(WrongInput, match="--grow-classes: there is no Model whose classes could grow"):
        born.extend(dataset=made["uri"], init_from="", grow_classes=True)


def test_the_optimizer_goes_on_where_it_is_carried_over(born: Born, capfd: pytest.CaptureFixture[str]) -> None:
    result = born.extend({"optimization.carry_optimizer": True, "optimization.max_epochs": 1})
    said = capfd.readouterr().err
    assert f"optimizer state of run {born.model['run_key']}, step {born.model['step_count']}" in said
    assert result["digest"] != born.extend({"optimization.max_epochs": 1})["digest"]
    with pytest.raises(WrongInput, match=r"optimization.carry_optimizer: there is no run to carry it over from"):
        born.extend({"optimization.carry_optimizer": True}, init_from="")


def test_a_remedy_needs_its_model_and_its_rows(born: Born, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"remedy.l2_sp: there is no Model to remember; name it by --init-from"):
        born.extend({"remedy.l2_sp": 0.1}, init_from="")
    shutil.copytree(born.folder, tmp_path / "moved")
    store = str(tmp_path / "moved" / "store")
    shutil.rmtree(f"{store}/datasets/{born.first.digest[:32]}")
    model, data = f"{store}/models/{born.model['digest']}", f"{store}/datasets/{born.second.digest[:32]}"
    # The dataset is still where the Model says it was.
    kept = born.extend({"remedy.ewc": 1.0, "optimization.max_steps": 2}, init_from=model, dataset=data, store=store)
    assert kept["reason"] == "max_steps"
