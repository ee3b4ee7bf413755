"""Tasks: classes and numbers to targets and back, losses by hand, kept in a Model and restored."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from carryover.data.config import DataConfig, LabelConfig
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models.family import Outputs
from carryover.tasks.losses import FocalLossConfig, make_loss
from carryover.tasks.task import make_task, restore_task, task_files

NUMBER = Column(
    "y", "numerical", "double", {"mean": 10.0, "std": 4.0, "min": 2.0, "max": 22.0, "count": 5, "missing": 0}
)


def classified(*classes, **data):
    kind = "binary" if len(classes) == 2 else "multiclass"
    column = Column("y", "categorical", "string", {})
    return make_task(Schema("y", kind, classes, (column,)), DataConfig(**data))


def regression(scaling: str | None):
    schema = Schema("y", "regression", None, (NUMBER,))
    return make_task(schema, DataConfig(label=LabelConfig(numerical_preprocessing=scaling)))


@pytest.mark.parametrize(
    ("classes", "stored"),
    [
        (("no", "yes"), pa.array(["yes", "no", "yes"])),
        ((0, 1), pa.array([1, 0, 1])),
        ((0, 1), pa.array([1.0, 0.0, 1.0])),
        ((0.5, 1.0), pa.array([1.0, 0.5, 1.0])),
        ((False, True), pa.array([True, False, True])),
        ((0, 1), pa.array(["1", "0", "1"])),
    ],
)
def test_classes_become_indices_however_stored(classes, stored):
    task = classified(*classes)
    assert task.targets(pa.table({"y": stored})).tolist() == [1, 0, 1]
    assert (task.num_outputs, task.positive) == (2, 1)


def test_unknown_and_missing_labels_are_named():
    task = classified("a", "b", "c")
    with pytest.raises(WrongInput, match="label 'y': 'd' is no class of the model; classes are 'a', 'b', 'c'"):
        task.targets(pa.table({"y": ["a", "d"]}))
    with pytest.raises(WrongInput, match="label 'y': a row has no value"):
        task.targets(pa.table({"y": ["a", None]}))


def test_positive_class():
    assert classified("no", "yes", pos_label="no").positive == 0
    assert classified(0, 1, pos_label=1).positive == 1
    assert classified("a", "b", "c").positive is None
    with pytest.raises(WrongInput, match="'maybe' is no class; it must be one of 'no', 'yes'"):
        classified("no", "yes", pos_label="maybe")
    with pytest.raises(WrongInput, match="multiclass has none"):
        classified("a", "b", "c", pos_label="a")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_classification_loss_is_per_sample_with_auxiliary_losses(dtype):
    task = classified("a", "b", "c")
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]], dtype=dtype)
    targets = torch.tensor([0, 1])
    plain = task.loss(Outputs(logits), targets)
    assert plain.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    by_hand = -torch.log_softmax(logits.double(), 1)[torch.arange(2), targets]
    assert torch.allclose(plain.double(), by_hand)
    both = task.loss(Outputs(logits, ((0.1, logits), (0.1, logits * 0))), targets)
    assert torch.allclose(both.double(), by_hand * 1.1 + 0.1 * np.log(3))


PLAIN = {"loss_func": "auto", "label_smoothing": 0.0, "focal": FocalLossConfig()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_focal_loss_and_label_smoothing(dtype):
    task = classified("a", "b", "c")
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]], dtype=dtype)
    targets = torch.tensor([0, 1])
    logs = torch.log_softmax(logits.double(), 1)
    known = logs[torch.arange(2), targets]
    focal = FocalLossConfig(alpha=(1.0, 4.0, 9.0), gamma=2.0)
    loss = make_loss(task, **{**PLAIN, "loss_func": "focal_loss", "focal": focal})
    by_hand = -((1 - known.exp()) ** 2) * known * torch.tensor([1.0, 4.0])
    assert torch.allclose(loss(Outputs(logits), targets).double(), by_hand)
    both = loss(Outputs(logits, ((0.5, logits),)), targets)
    assert torch.allclose(both.double(), 1.5 * by_hand)
    smooth = make_loss(task, **{**PLAIN, "label_smoothing": 0.3})
    assert torch.allclose(smooth(Outputs(logits), targets).double(), -0.7 * known - 0.3 * logs.mean(1))
    unfocused = make_loss(task, **{**PLAIN, "loss_func": "focal_loss", "focal": FocalLossConfig(gamma=0.0)})
    assert torch.allclose(unfocused(Outputs(logits), targets), task.loss(Outputs(logits), targets))


def test_bounded_numbers_through_a_sigmoid():
    task = make_task(Schema("y", "regression", None, (NUMBER,)), DataConfig(), loss_func="nn.BCEWithLogitsLoss")
    targets = task.targets(pa.table({"y": [2.0, 12.0, 22.0]}))
    assert np.allclose(targets, [0, 0.5, 1])
    logits = torch.tensor([[-1.0], [0.0], [2.0]])
    half = torch.sigmoid(logits[:, 0])
    by_hand = -(torch.from_numpy(targets) * half.log() + (1 - torch.from_numpy(targets)) * (1 - half).log())
    assert torch.allclose(make_loss(task, **PLAIN)(Outputs(logits), torch.from_numpy(targets)), by_hand)
    assert np.allclose(task.predictions(logits.numpy()), 2 + 20 * half.numpy())
    assert np.allclose(task.predictions(np.array([[1e4], [-1e4]])), [22, 2])
    assert restore_task(task_files(task)) == task
    # What a Model of the usual loss keeps is what it has always been.
    assert b"link" not in task_files(regression("minmaxscaler"))["preprocessors/task.json"]


@pytest.mark.parametrize(
    ("task", "asked", "words"),
    [
        ("number", {"loss_func": "focal_loss"}, "loss_func: focal_loss is for classes; regression has auto and bce"),
        ("number", {"label_smoothing": 0.1}, "label_smoothing: 0.1 is not possible; regression has no classes"),
        ("classes", {"loss_func": "bcewithlogitsloss"}, "loss_func: bcewithlogitsloss is for numbers; binary has"),
        ("classes", {"loss_func": "focal_loss", "label_smoothing": 0.1}, "label_smoothing: focal_loss has none"),
        (
            "classes",
            {"loss_func": "focal_loss", "focal": FocalLossConfig(alpha=(1.0,))},
            r"focal_loss.alpha: 1 weights for 2 classes \(a, b\)",
        ),
    ],
)
def test_a_loss_that_does_not_suit_the_task(task, asked, words):
    made = regression("standardscaler") if task == "number" else classified("a", "b")
    with pytest.raises(WrongInput, match=f"^optimization.{words}"):
        make_loss(made, **{**PLAIN, **asked})


def test_probabilities():
    probabilities = classified("a", "b").predictions(np.array([[1000.0, 0.0], [0.0, 0.0]], dtype=np.float32))
    assert probabilities.dtype == np.float64
    assert probabilities.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert classified("a", "b").predictions(np.empty((0, 2), np.float32)).shape == (0, 2)


@pytest.mark.parametrize(
    ("scaling", "scaled"), [("standardscaler", [0.0, 1.0]), ("minmaxscaler", [0.4, 0.6]), ("None", [10, 14])]
)
def test_regression_scales_there_and_back(scaling, scaled):
    task = regression(scaling)
    targets = task.targets(pa.table({"y": [10.0, 14.0]}))
    assert targets.dtype == np.float32
    assert np.allclose(targets, scaled)
    assert np.allclose(task.truth(targets), [10, 14])
    assert np.allclose(task.predictions(targets[:, None]), [10, 14])
    loss = task.loss(Outputs(torch.tensor([[0.5], [0.5]])), torch.from_numpy(targets))
    assert np.allclose(loss.numpy(), (0.5 - np.array(scaled)) ** 2)


def test_a_constant_label_is_not_divided_by_zero():
    column = Column("y", "numerical", "double", {"mean": 3.0, "std": 0.0, "min": 3.0, "max": 3.0})
    for scaling in ("standardscaler", "minmaxscaler"):
        task = make_task(
            Schema("y", "regression", None, (column,)), DataConfig(label=LabelConfig(numerical_preprocessing=scaling))
        )
        assert task.targets(pa.table({"y": [3.0, 4.0]})).tolist() == [0.0, 1.0]


def test_regression_refuses_gaps_and_classes():
    with pytest.raises(WrongInput, match="label 'y': a row has no finite number"):
        regression("standardscaler").targets(pa.table({"y": [1.0, None]}))
    with pytest.raises(WrongInput, match="regression has no classes"):
        make_task(Schema("y", "regression", None, (NUMBER,)), DataConfig(pos_label=1))


@pytest.mark.parametrize(
    "task", [classified("no", "yes"), classified(1, 2, 3), classified(0.5, 1.0), regression("minmaxscaler")]
)
def test_kept_and_restored(task):
    again = restore_task(task_files(task))
    assert again == task
    assert task_files(again) == task_files(task)


def test_importing_tasks_and_families_needs_no_torch():
    import subprocess
    import sys

    code = (
        "import sys, carryover.tasks.classification, carryover.tasks.regression, carryover.tasks.metrics\n"
        "import carryover.models.assembly, carryover.models.export\n"
        "from carryover.models.registry import FAMILIES\n"
        "[FAMILIES.load(name) for name in FAMILIES.names()]\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'scipy', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
