"""Learning from another Model: its answers and the loss by numbers, and runs that know their teacher."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carryover.data.loader import MicroBatches, evaluation_micros, load
from carryover.data.manifest import DatasetCard, load_card
from carryover.data.rows import Rows
from carryover.ground.errors import WrongInput
from carryover.ground.storage import join, open_store
from carryover.models.export import find_model, load_model, write_model
from carryover.models.family import Outputs
from carryover.steps.preflight import preflight
from carryover.steps.prepare_data import prepare_data
from carryover.steps.teacher import check_teacher, named_teacher
from carryover.steps.train_ddp import train_ddp
from carryover.tasks.classification import ClassificationTask
from carryover.tasks.regression import RegressionTask
from carryover.train import recipe as recipes
from carryover.train.distiller import TEACHER, DistillerConfig
from carryover.train.lessons import lessons_of
from carryover.train.outcome import model_of
from carryover.train.parts import build_parts
from carryover.train.sections import Optimization
from carryover.train.teacher import DistilledLoss, Lesson, Teacher
from tests.train import test_families as families
from tests.train.attempts import SMALL, Killed, Run, dataset, write_rows

FUSED = {"model.names": ["numerical_mlp", "categorical_mlp", "fusion_mlp"]}
STUDENT = {"model.names": ["numerical_mlp"], "model.numerical_mlp.hidden_size": 8, "optimization.max_epochs": 1}
CPU = torch.device("cpu")


def model_in(folder: str, run: Run) -> str:
    """Write the Model of a finished run into a folder of its own; returns the word that a run keeps for it."""
    card, files, weights = model_of(run.home, run.finish())
    place = open_store(folder)
    write_model(place, card, files, weights)
    return f"{place.uri}#{card.digest}"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetCard, str, Path]:
    """A dataset, the word for a teacher that was trained on it, and a folder."""
    folder = tmp_path_factory.mktemp("taught")
    run = Run(dataset(folder), str(folder / "store"), {**FUSED, "optimization.max_epochs": 3}, folder / "scratch")
    run.go()
    return run.card, model_in(str(folder / "teacher"), run), folder


def test_loss_is_the_weighted_sum_by_hand() -> None:
    task = ClassificationTask("multiclass", "y", ("a", "b", "c"), None)
    config = DistillerConfig(teacher="t", hard_label_weight=0.3, soft_label_weight=2.0, temperature=4.0)
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
    answers = torch.tensor([[2.0, 0.0, -1.0], [1.0, 1.0, 5.0]])
    targets, auxiliary = torch.tensor([0, 2]), ((0.1, -logits),)
    outputs = Outputs(logits, auxiliary)
    loss = DistilledLoss(task.loss, config, task)(outputs, Lesson(targets, answers))
    mine, its = logits.numpy(), answers.numpy()
    for row in range(2):
        shares = np.exp(its[row] / 4) / np.exp(its[row] / 4).sum()
        soft = -(shares * (mine[row] / 4 - np.log(np.exp(mine[row] / 4).sum()))).sum()
        hard = np.log(np.exp(mine[row]).sum()) - mine[row, targets[row]]
        hard += 0.1 * (np.log(np.exp(-mine[row]).sum()) + mine[row, targets[row]])
        assert loss[row].item() == pytest.approx(0.3 * hard + 2.0 * soft, rel=1e-5)
    squared = DistillerConfig(teacher="t", hard_label_weight=0.0, soft_label_loss_type="mse", temperature=4.0)
    by_logits = DistilledLoss(task.loss, squared, task)(outputs, Lesson(targets, answers))
    np.testing.assert_allclose(by_logits.numpy(), ((mine - its) ** 2).mean(axis=1) / 16, rtol=1e-5)
    with pytest.raises(WrongInput, match=r"distiller\.soft_label_loss_type: cross_entropy is for classes"):
        DistillerConfig(soft_label_loss_type="cross_entropy").soft_loss(classes=False)


def test_answers_are_what_the_model_says_in_the_order_of_our_classes(taught: tuple[DatasetCard, str, Path]) -> None:
    card, word, folder = taught
    recipe = recipes.make({**STUDENT, TEACHER: word})
    parts = build_parts(recipe.model, recipe.data, card.schema, None, None, seed=0)  # pyright: ignore[reportArgumentType]
    # The same classes the other way round: the teacher's logits must change places.
    task = ClassificationTask("binary", "liked", ("yes", "no"), 1)
    made = lessons_of(
        parts.preprocessing,
        task,
        Optimization(),
        recipe.data.mixup,
        recipe.distiller,
        seed=0,
        device=CPU,
        precision="32",
    )
    rows = Rows.open(Path(Run(card, str(folder / "store"), STUDENT, folder / "scratch", "x").claim({}).rows["train"]))
    micros = list(evaluation_micros(rows=10, micro_size=10, rank=0, world=1))
    batch = next(load(micros, MicroBatches(rows, made.features, task.targets, training=False), workers=0))
    given = made.prepare(batch, 0)
    model = load_model(find_model(word.partition("#")[0]), num_outputs=2)
    arrays = model.preprocessing(rows.take(np.arange(10)), training=False, keys=np.zeros(10, dtype=np.uint64))
    with torch.no_grad():
        expected = model.network({name: torch.from_numpy(value) for name, value in arrays.items()}).logits
    assert torch.equal(given.targets.answers, expected.flip(1))
    assert torch.equal(given.targets.targets, batch.targets)
    assert set(given.features) == {"numerical_mlp/values"}


def test_numbers_come_in_the_unit_of_the_network_that_learns(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.csv", 60)
    lines = [line.replace("yes", "7").replace("no", "3") for line in source.read_text().splitlines()]
    source.write_text("\n".join(lines) + "\n")
    made = prepare_data(source=[str(source)], label="liked", problem_type="regression", store=str(tmp_path / "store"))
    card = load_card(made["uri"])
    names = {"model.names": ["numerical_mlp"], "optimization.max_epochs": 1}
    teacher = Run(card, str(tmp_path / "store"), names, tmp_path / "scratch")
    teacher.go()
    word = model_in(str(tmp_path / "teacher"), teacher)
    own = RegressionTask("liked", shift=-5.0, scale=2.0)
    its = Teacher(DistillerConfig(teacher=word), own, device=CPU, wide=False)
    model = load_model(find_model(word.partition("#")[0]), num_outputs=1)
    values = torch.randn(5, 2)
    with torch.no_grad():
        logits = model.network({"numerical_mlp/values": values}).logits.numpy()
    task = json.loads(model.files["preprocessors/task.json"])
    expected = (logits[:, 0] * task["scale"] + task["shift"] + 5.0) / 2.0
    np.testing.assert_allclose(its.answers({"numerical_mlp/values": values}).numpy(), expected, rtol=1e-5)
    loss = DistilledLoss(own.loss, DistillerConfig(teacher=word, hard_label_weight=0.0), own)
    given = loss(Outputs(torch.tensor([[1.0], [2.0]])), Lesson(torch.zeros(2), torch.tensor([4.0, 0.0])))
    assert given.tolist() == [9.0, 4.0]


def test_killed_run_with_a_teacher_goes_on_to_the_same_bits(
    taught: tuple[DatasetCard, str, Path], tmp_path: Path
) -> None:
    card, word, _ = taught
    settings = {**STUDENT, "optimization.max_epochs": 2, "optimization.log_every_n_steps": 1, TEACHER: word}

    def run(name: str, **more: Any) -> Run:
        return Run(card, str(tmp_path / name), {**settings, **more}, tmp_path / "scratch")

    whole, cut, alone = run("whole"), run("cut"), run("alone", **{TEACHER: ""})
    whole.go()
    alone.go()
    with pytest.raises(Killed):
        cut.go(kill_after=5)
    cut.go()
    assert cut.tensors() == whole.tensors()
    assert whole.tensors() != alone.tensors()
    # What trains is the student's own, and so is its Model.
    assert whole.tensors().keys() == alone.tensors().keys()


def test_a_teacher_counts_by_its_content_wherever_it_lies(
    taught: tuple[DatasetCard, str, Path], tmp_path: Path
) -> None:
    card, word, folder = taught
    place, _, digest = word.partition("#")
    moved = shutil.copytree(folder / "teacher", tmp_path / "moved")
    store = str(folder / "store")
    here = named_teacher({TEACHER: place}, store=store)
    there = named_teacher({TEACHER: str(moved)}, store=store)
    by_run = named_teacher({TEACHER: "run:run"}, store=store)
    assert here[TEACHER] == word and there != here
    known = [recipes.identity(recipes.make({**STUDENT, **keys})) for keys in (here, there, by_run)]
    assert known[0] == known[1] == known[2]
    assert known[0][TEACHER] == f"model:{digest}"
    old = recipes.make({**STUDENT, **here})
    new = recipes.make({**STUDENT, **there})
    was = recipes.identity(old)
    assert recipes.check_changes(old.flat(), new, run="r", was=was) == there
    with pytest.raises(WrongInput, match=r"distiller\.teacher: run r has .* this can't change"):
        recipes.check_changes(old.flat(), recipes.make(STUDENT), run="r", was=was)
    check_teacher(new.distiller, card)


def test_a_teacher_that_can_not_teach_is_one_clear_error(taught: tuple[DatasetCard, str, Path], tmp_path: Path) -> None:
    _, word, folder = taught
    store = str(folder / "store")
    with pytest.raises(WrongInput, match=r"distiller\.teacher: .*no Model there"):
        preflight(store=store, overrides=[f"{TEACHER}={tmp_path / 'nothing'}"])
    other = f"{word.partition('#')[0]}#{'0' * 32}"
    with pytest.raises(WrongInput, match=r"distiller\.teacher: .* holds Model .*0{32} is asked for"):
        named_teacher({TEACHER: other}, store=store)
    source = write_rows(tmp_path / "rows.csv", 80)
    source.write_text(source.read_text().replace("yes", "perhaps").replace("kind", "sort"))
    card = load_card(prepare_data(source=[str(source)], label="liked", store=join(str(tmp_path), "store"))["uri"])
    with pytest.raises(WrongInput, match=r"distiller\.teacher: .*does not know: 'perhaps'.*columns missing.*kind"):
        check_teacher(DistillerConfig(teacher=word), card)
    with pytest.raises(WrongInput, match=r"distiller\.rkd_angle_loss_weight: comparing features"):
        recipes.make({"distiller.rkd_angle_loss_weight": 1.0})


@pytest.mark.slow
def test_run_with_a_teacher_is_found_again_wherever_the_teacher_lies(
    taught: tuple[DatasetCard, str, Path], tmp_path: Path
) -> None:
    card, word, folder = taught
    settings = {**SMALL, **STUDENT, "optimization.max_epochs": 2}
    overrides = [f"{name}={json.dumps(value)}" for name, value in settings.items()]

    def train(teacher: str) -> dict[str, Any]:
        return train_ddp(
            dataset=card.at,
            store=str(folder / "store"),
            overrides=[*overrides, f"{TEACHER}={teacher}"],
            nproc_per_node=2,
        )

    first = train("run:run")
    again = train(str(shutil.copytree(folder / "teacher", tmp_path / "moved")))
    assert again["run_key"] == first["run_key"] and again["digest"] == first["digest"]
    assert again["attempts"] == 1
    model = find_model(first["uri"])
    assert model.card.recipe[TEACHER].endswith(word.partition("#")[2])


@pytest.mark.slow
def test_two_ranks_mix_and_are_taught_as_one_is(tmp_path: Path) -> None:
    # Images and texts learn from a Model of the images alone, which reads them in another size.
    case = families.CASES["clip"]
    card = families.prepared(case, tmp_path)
    shown = {**families.SMALL, **families.tiny_image(tmp_path / "checkpoints"), "model.timm_image.image_size": 24}
    teacher = Run(card, str(tmp_path / "teacher"), shown, tmp_path / "scratch")
    teacher.go()
    values = {
        **families.SMALL,
        **case.recipe(tmp_path / "checkpoints"),
        TEACHER: model_in(str(tmp_path / "model"), teacher),
        "data.mixup.turn_on": True,
        "env.num_workers": 2,
    }
    families.check_two_ranks(card, values, tmp_path)
