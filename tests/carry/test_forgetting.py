"""The task matrix: the paper's three numbers by hand, which stage learned a task, classes, what a constant scores."""

import math

import numpy as np
import pytest

from carryover.carry.answers import Answers, Frame
from carryover.carry.forgetting import (
    BY_DATASET,
    BY_ORDER,
    NOT_KNOWN,
    TaskMatrix,
    class_matrices,
    constant,
    learned,
    task_matrix,
)
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.tasks.metrics import find_metric

R = np.array([[0.9, 0.3, 0.1], [0.7, 0.8, 0.2], [0.6, 0.5, 0.9]])
B = np.array([0.2, 0.25, 0.05])


def test_the_papers_formulas_by_hand():
    matrix = TaskMatrix(R, B, (0, 1, 2))
    assert matrix.average == pytest.approx((0.6 + 0.5 + 0.9) / 3)
    assert matrix.backward_transfer == pytest.approx(((0.6 - 0.9) + (0.5 - 0.8)) / 2)
    assert matrix.forward_transfer == pytest.approx(((0.3 - 0.25) + (0.2 - 0.05)) / 2)
    assert matrix.forgetting == pytest.approx([0.3, 0.3, math.nan], nan_ok=True)
    # A later stage may know a task better than the one that learned it; forgetting counts from the best.
    risen = R.copy()
    risen[1, 0] = 0.95
    assert TaskMatrix(risen, B, (0, 1, 2)).forgetting[0] == pytest.approx(0.35)


def test_errors_are_turned_so_that_more_is_better():
    matrix = TaskMatrix(-R, -B, (0, 1, 2), greater_is_better=False)
    upright = TaskMatrix(R, B, (0, 1, 2))
    assert matrix.average == pytest.approx(-upright.average), "in the metric's own sense"
    assert matrix.backward_transfer == pytest.approx(upright.backward_transfer)
    assert matrix.forward_transfer == pytest.approx(upright.forward_transfer)
    assert matrix.forgetting == pytest.approx(upright.forgetting, nan_ok=True)


def test_stages_that_learned_more_than_one_task_or_none():
    one_stage = TaskMatrix(R[:1], B, (0, 0, 0))
    assert one_stage.average == pytest.approx(R[0].mean())
    assert math.isnan(one_stage.backward_transfer)
    assert math.isnan(one_stage.forward_transfer)
    two = TaskMatrix(R[:2], B, (0, 0, 1))
    assert two.backward_transfer == pytest.approx(((0.7 - 0.9) + (0.8 - 0.3)) / 2)
    assert two.forward_transfer == pytest.approx(0.1 - 0.05)
    unknown = TaskMatrix(R, B, (None, None, None))
    assert math.isnan(unknown.backward_transfer)
    assert math.isnan(unknown.forgetting[0])
    partly = TaskMatrix(R, B, (None, 1, 2))
    assert partly.backward_transfer == pytest.approx(0.5 - 0.8)


def test_a_missing_score_is_not_left_out_of_a_mean():
    holed = R.copy()
    holed[2, 0] = math.nan
    matrix = TaskMatrix(holed, B, (0, 1, 2))
    assert math.isnan(matrix.average)
    assert math.isnan(matrix.backward_transfer)
    assert matrix.forward_transfer == pytest.approx(0.1)


def test_which_stage_learned_a_task():
    found = learned(["x", "y", "z"], ["z", "x"])
    assert (found.stages, found.by) == ((2, 0), BY_DATASET)
    assert learned(["x", "x"], ["x"]).stages == (0,), "the first one that saw it"
    assert learned(["x", "y"], ["y", "other"]) == learned(["x", "y"], ["y", "more"])
    assert learned(["", ""], ["p", "q"]).by == BY_ORDER
    assert learned(["", "", ""], ["p", "q"]).by == NOT_KNOWN
    assert learned(["", "", ""], ["p", "q"]).stages == (None, None)


def tasks() -> list[Answers]:
    """Task 0 has classes a and b; task 1 has c too, which the first stage does not know."""
    frame = Frame(("a", "b", "c"))
    eye = np.eye(3)
    first, second = np.array([0, 0, 1, 1]), np.array([2, 2, 0, 1])
    said_first = {"s0": eye[[0, 0, 1, 1]], "s1": eye[[0, 2, 1, 2]]}
    said_second = {"s0": eye[[0, 1, 0, 1]], "s1": eye[[2, 2, 0, 0]]}
    return [Answers("t0", "0", frame, first, said_first), Answers("t1", "1", frame, second, said_second)]


CONSTANTS = [np.array([0.6, 0.4, 0.0]), np.array([0.2, 0.2, 0.6])]


def test_the_matrix_of_answers():
    matrix = task_matrix(
        find_metric("accuracy", "multiclass"), tasks(), stages=["s0", "s1"], learned=(0, 1), constants=CONSTANTS
    )
    assert matrix.scores.tolist() == [[1.0, 0.5], [0.5, 0.75]]
    assert matrix.constant.tolist() == [0.5, 0.5]
    assert matrix.backward_transfer == -0.5
    assert matrix.forward_transfer == 0.0
    assert matrix.to_json()["forgetting"][0] == 0.5


def test_per_class():
    found = class_matrices(tasks(), stages=["s0", "s1"], learned=(0, 1), constants=CONSTANTS)
    assert list(found) == ["a", "b", "c"]
    kept, a = found["a"]
    assert kept == [0, 1]
    assert a.scores.tolist() == [[1.0, 1.0], [0.5, 1.0]]
    assert a.constant.tolist() == [1.0, 0.0]
    assert a.backward_transfer == -0.5
    assert a.forward_transfer == 1.0
    # Only task 1 has rows of c: the first stage cannot know it, and nothing was there to forget.
    kept, c = found["c"]
    assert kept == [1]
    assert c.scores.tolist() == [[0.0], [1.0]]
    assert c.average == 1.0
    assert c.forward_transfer == -1.0
    assert math.isnan(c.backward_transfer)
    # Weighted by their rows, classes add up to the whole.
    shares = {"a": 0.25, "b": 0.25, "c": 0.5}
    recalls = {name: one.scores[1, kept.index(1)] for name, (kept, one) in found.items()}
    assert sum(shares[name] * recalls[name] for name in shares) == 0.75


def test_a_regression_has_no_classes_and_a_mean():
    truth = np.array([1.0, 3.0])
    answers = [Answers("t", "0", Frame(), truth, {"s": np.array([1.0, 1.0])})]
    schema = Schema("y", "regression", None, (Column("y", "numerical", "double", {"mean": 2.0}),))
    flat = constant(schema, Frame())
    matrix = task_matrix(find_metric("mae", "regression"), answers, stages=["s"], learned=(0,), constants=[flat])
    assert (matrix.scores.tolist(), matrix.constant.tolist()) == ([[1.0]], [1.0])
    assert class_matrices(answers, stages=["s"], learned=(0,), constants=[flat]) == {}


def test_what_a_constant_says():
    column = Column("y", "categorical", "string", {"counts": {"b": 3, "a": 1}})
    schema = Schema("y", "binary", ("a", "b"), (column,))
    assert constant(schema, Frame(("a", "b", "c"))).tolist() == [0.25, 0.75, 0.0]
    empty = Schema("y", "binary", ("a", "b"), (Column("y", "categorical", "string", {"counts": {}}),))
    with pytest.raises(WrongInput, match="has no train rows"):
        constant(empty, Frame(("a", "b")))
