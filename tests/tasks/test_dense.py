"""Boxes and masks: from stored labels to COCO's scores and IoU, with pictures of unequal size and number of boxes."""

import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from carryover.ground.errors import WrongInput
from carryover.models.family import Outputs
from carryover.tasks.detection import DetectionTask
from carryover.tasks.metrics import REPORTED, find_metric, score_all
from carryover.tasks.segmentation import SegmentationTask
from carryover.tasks.task import restore_task, task_files
from carryover.train.validate import Predicted, _joined

CAT_AND_DOG = DetectionTask("boxes", ("cat", "dog"))
THREE = SegmentationTask("mask", (0, 3, 7))


def box(left: float, top: float, right: float, bottom: float, name: str, crowd: bool = False) -> dict[str, Any]:
    return {"x1": left, "y1": top, "x2": right, "y2": bottom, "class": name, "crowd": crowd}


def png(ids: list[list[int]]) -> bytes:
    made = io.BytesIO()
    Image.fromarray(np.array(ids, np.uint8)).save(made, format="PNG")
    return made.getvalue()


def scores(task: Any, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """Score batches as a validation does: kept one by one, then joined."""
    kept = [task.kept(logits, targets) for logits, targets in parts]
    logits, targets = (_joined([part[place] for part in kept]).numpy() for place in (0, 1))
    predicted = Predicted(logits, targets, np.arange(len(logits)))
    metrics = [find_metric(name, task.problem_type) for name in REPORTED[task.problem_type]]
    return score_all(
        metrics,
        targets=task.truth(predicted.targets),
        predictions=task.predictions(predicted.logits),
        classes=task.classes,
    )


def test_boxes_become_targets_and_back_and_unknown_classes_are_named() -> None:
    rows = pa.table({"boxes": [[box(1, 2, 30, 40, "dog"), box(0, 0, 5, 5, "cat", crowd=True)], [], None]})
    targets = CAT_AND_DOG.targets(rows)
    assert targets.shape == (3, 2, 6)
    assert targets[0].tolist() == [[1, 2, 30, 40, 1, 0], [0, 0, 5, 5, 0, 1]]
    assert (targets[1:, :, 4] == -1).all()
    assert restore_task(task_files(CAT_AND_DOG)) == CAT_AND_DOG
    with pytest.raises(WrongInput, match=r"'fox' is no class of the model; classes are 'cat', 'dog'"):
        CAT_AND_DOG.targets(pa.table({"boxes": [[box(1, 2, 3, 4, "fox")]]}))


def test_found_boxes_score_as_coco_scores_them_and_batches_may_differ_in_boxes() -> None:
    one = [[10, 10, 110, 110, 0, 0]]
    two = [[0, 0, 50, 50, 1, 0], [60, 60, 90, 90, 0, 0], [100, 100, 200, 200, 1, 1]]
    # The cat of the first picture is found by IoU 0.8 (half of its AP's thresholds and more), the others as they are;
    # what is found in a crowd counts neither way.
    found = [
        (torch.tensor([[[10, 10, 90, 110, 0.9, 0], [0, 0, 0, 0, -1, -1]]]), torch.tensor([one])),
        (torch.tensor([[[0, 0, 50, 50, 0.8, 1], [100, 100, 180, 200, 0.7, 1]]]), torch.tensor([two])),
    ]
    told = scores(CAT_AND_DOG, [(logits.float(), targets.float()) for logits, targets in found])
    # cats: one of two found: recall 0.5 at IoU up to 0.8, so 51 of 101 recall levels; dogs: all.
    cats = 51 / 101
    assert told["map_50"] == pytest.approx((cats + 1) / 2)
    assert told["map"] == pytest.approx((cats * 7 / 10 + 1) / 2)
    assert told["mar_100"] == pytest.approx((0.5 * 7 / 10 + 1) / 2)
    assert told["map_small"] == 0 and math.isnan(told["mar_medium"]) is False


def test_a_detector_computes_its_own_loss() -> None:
    losses = torch.tensor([1.0, 3.0], dtype=torch.bfloat16)
    found = CAT_AND_DOG.loss(Outputs(torch.zeros(2), losses=losses), torch.zeros(2, 1, 6))
    assert found.tolist() == [1.0, 3.0] and found.dtype == torch.float32


def test_masks_of_unequal_size_are_scored_at_their_own_size_and_ignored_pixels_count_for_nothing() -> None:
    rows = pa.table({"mask": [png([[0, 3, 7], [255, 3, 3]]), png([[7], [7], [0]])]})
    targets = torch.from_numpy(THREE.targets(rows))
    assert targets.tolist() == [[[0, 1, 2], [-1, 1, 1], [-2, -2, -2]], [[2, -2, -2], [2, -2, -2], [0, -2, -2]]]
    first = torch.nn.functional.one_hot(torch.tensor([[0, 1, 2], [2, 1, 0]]), 3).permute(2, 0, 1).float()
    second = torch.nn.functional.one_hot(torch.tensor([[2], [2], [2]]), 3).permute(2, 0, 1).float()
    told = scores(THREE, [(first[None], targets[:1, :2]), (second[None], targets[1:])])
    # truth by told: 0: one right, one told 7; 3: two right, one told 0; 7: three right.
    assert told["pixel_accuracy"] == pytest.approx(6 / 8)
    assert told["iou"] == pytest.approx((1 / 3 + 2 / 3 + 3 / 4) / 3)
    assert told["dice"] == pytest.approx((2 / 4 + 4 / 5 + 6 / 7) / 3)
    assert restore_task(task_files(THREE)) == THREE
    with pytest.raises(WrongInput, match="id 9 is no class of the model; classes are 0, 3, 7"):
        THREE.targets(pa.table({"mask": [png([[9]])]}))


def test_two_classes_are_scored_by_the_second_and_learned_only_where_a_mask_counts() -> None:
    task = SegmentationTask("mask", (0, 1))
    truth = torch.from_numpy(task.targets(pa.table({"mask": [png([[0, 1], [1, 255]])]})))
    logits = torch.zeros(1, 2, 2, 2, requires_grad=True)
    task.loss(Outputs(logits), truth).sum().backward()
    assert logits.grad is not None
    assert (logits.grad[0, :, 1, 1] == 0).all() and (logits.grad[0, :, 0, 0] != 0).all()
    told = scores(task, [(torch.tensor([[[[0.0, 0], [1, 0]], [[0, 1], [0, 1]]]]), truth)])
    assert told == {"iou": 0.5, "dice": pytest.approx(2 / 3), "pixel_accuracy": pytest.approx(2 / 3)}
