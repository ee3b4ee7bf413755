"""Resampled scores of boxes and masks against the metrics themselves, an older detector's boxes, the task matrix."""

import math
import time

import numpy as np
import pytest

from carryover.carry.answers import Answers, Frame, Said
from carryover.carry.bootstrap import FAST, RESAMPLES, differences, resampled
from carryover.carry.class_scores import constant, repeated
from carryover.carry.forgetting import Named, history
from carryover.carry.gate import compare
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.tasks.boxes import SUMMARY
from carryover.tasks.metrics import METRICS, REPORTED, Scored, find_metric, value

PICTURES = 24
SIZES = np.array([12.0, 50.0, 130.0])


def boxes(seed: int, *, classes: int = 3, noise: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """True boxes [N, M, 6] of all sizes with crowds, and found ones [N, K, 6]: shifted, of wrong classes, made up."""
    draw = np.random.default_rng(seed)
    true, found = np.full((PICTURES, 5, 6), -1.0), np.full((PICTURES, 130, 6), -1.0)
    for picture in range(PICTURES):
        for number in range(draw.integers(5)):
            corner, side = draw.uniform(0, 300, 2), draw.choice(SIZES)
            label, crowd = draw.integers(classes), draw.random() < 0.15
            true[picture, number] = (*corner, *(corner + side), label, crowd)
            if draw.random() < 0.8:
                shift = draw.normal(size=4) * noise * side / 100
                guess = label if draw.random() < 0.9 else draw.integers(classes)
                found[picture, number] = (*(np.array([*corner, *(corner + side)]) + shift), draw.random(), guess)
        many = 120 if picture == 3 else int(draw.integers(4))
        for number in range(5, 5 + many):
            corner = draw.uniform(0, 300, 2)
            side = draw.choice(SIZES)
            found[picture, number] = (*corner, *(corner + side), draw.random(), draw.integers(classes))
    return true, found


def pixels(seed: int, *, classes: int) -> np.ndarray:
    """Confusion matrices of pictures that have some of the classes each."""
    draw = np.random.default_rng(seed)
    counts = draw.integers(0, 40, (PICTURES, classes, classes)) * (draw.random((PICTURES, classes, 1)) < 0.5)
    return (counts + 60 * np.eye(classes) * (draw.random((PICTURES, classes, 1)) < 0.3)).astype(np.float64)


def scored(problem_type: str, seed: int = 0) -> Scored:
    if problem_type == "object_detection":
        return Scored(*boxes(seed), 3, 1)
    classes = 2 if problem_type == "binary masks" else 4
    return Scored(np.zeros(PICTURES, np.int64), pixels(seed, classes=classes), classes, 1)


CASES = [(name, "object_detection") for name in SUMMARY]
CASES += [(name, kind) for name in REPORTED["semantic_segmentation"] for kind in ("masks", "binary masks")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_picture_that_is_drawn_several_times_counts_as_often(name, kind):
    metric, one, draw = METRICS[name], scored(kind), np.random.default_rng(1)
    counts = [np.bincount(draw.integers(PICTURES, size=PICTURES), minlength=PICTURES) for _ in range(4)]
    counts = np.array([np.ones(PICTURES, int), *counts, 3 * np.eye(PICTURES, dtype=int)[5]])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = resampled(metric, one)(counts.astype(float))
    assert found[0] == pytest.approx(value(metric, one), rel=1e-12), "weights of 1 are COCO's own number"
    for row, got in zip(counts, found, strict=True):
        drawn = np.repeat(np.arange(PICTURES), row)
        part = Scored(one.targets[drawn], one.predictions[drawn], one.classes, one.positive)
        assert (got if math.isfinite(got) else math.nan) == pytest.approx(value(metric, part), nan_ok=True, abs=1e-9)


def test_all_resamples_of_a_detector_take_seconds():
    first, second = scored("object_detection"), Scored(*boxes(0, noise=12.0), 3, 1)
    assert {*SUMMARY, *REPORTED["semantic_segmentation"]} <= set(FAST)
    started = time.monotonic()
    found = differences(METRICS["map"], first, second)
    assert len(found) == RESAMPLES and np.isfinite(found).all()
    assert time.monotonic() - started < 60


def test_no_true_box_at_all_has_no_score():
    one = Scored(np.full((4, 1, 6), -1.0), boxes(0)[1][:4], 3, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert np.isnan(resampled(METRICS["map"], one)(np.ones((2, 4)))).all()
        assert np.isnan(resampled(METRICS["mar_10"], one)(np.ones((2, 4)))).all()


def answers() -> Answers:
    """A detector of three classes, and an older one that knew two of them in another order."""
    true, found = boxes(0)
    older = np.where(found[..., 5:] == 2, -1.0, found)
    older[..., 5] = np.select([older[..., 5] == 0, older[..., 5] == 1], [1, 0], -1)
    rows = np.arange(PICTURES)
    model = Said(rows, found, ("cat", "dog", "owl"), true, None, "object_detection")
    other = Said(rows, older, ("dog", "cat"), None, None, "object_detection")
    return Answers.of_models("new", "d", model, {"old": other}, model_digest="model")


def test_an_older_detector_finds_no_box_of_a_class_it_lacks():
    both = answers()
    mine, theirs = both.scored("model"), both.scored("old")
    assert theirs.coco.classes[:2] == pytest.approx(mine.coco.classes[:2])
    assert theirs.coco.classes[2, 0] == 0 < mine.coco.classes[2, 0]
    found = compare(find_metric("map", "object_detection"), both, model="model", baseline="old")
    assert found.better > 0 and found.low <= found.better <= found.high
    assert found.resamples == RESAMPLES


def schema(problem_type: str, statistics: dict) -> Schema:
    return Schema("y", problem_type, (), (Column("y", "boxes", "x", statistics),))


def test_the_task_matrix_of_boxes_has_the_precision_of_each_class_and_a_constant_that_finds_nothing():
    both = answers()
    metric = find_metric("map_50", "object_detection")
    stages = [Named("old", "there"), Named("model", "here")]
    made = history(metric, [both], [schema("object_detection", {})], stages=stages, trained=["", "d"])
    assert made.matrix.constant.tolist() == [0.0]
    assert made.matrix.scores[:, 0] == pytest.approx([value(metric, both.scored(one)) for one in ("old", "model")])
    assert made.to_json()["class_score"] == "AP"
    assert made.classes["owl"][1].scores[:, 0] == pytest.approx([0.0, both.scored("model").coco.classes[2, 0]])


def test_the_constant_of_masks_says_the_most_frequent_class_of_every_pixel():
    matrices = pixels(0, classes=3)
    said = Said(np.arange(PICTURES), matrices, (0, 3, 7), np.zeros(PICTURES), None, "semantic_segmentation")
    both = Answers.of_models("new", "d", said, {}, model_digest="model")
    flat = constant(schema("semantic_segmentation", {"pixels": {"0": 5, "3": 90, "7": 5, "255": 500}}), both.frame)
    whole = matrices.sum(axis=(0, 2))
    told = repeated(flat, both)
    assert value(METRICS["pixel_accuracy"], told) == pytest.approx(whole[1] / whole.sum())
    assert value(METRICS["iou"], told) == pytest.approx(whole[1] / whole.sum() / 3)
    with pytest.raises(WrongInput, match="no train rows"):
        constant(schema("semantic_segmentation", {}), Frame(("0", "1"), 1, "semantic_segmentation"))
