"""The learning rate: its shapes, and what becomes of it when a run goes on with other settings."""

import json
import math
from typing import Any

import pytest

from carryover.train.schedule import Curve, first_curve, next_curve
from carryover.train.sections import Optimization


def config(**values: Any) -> Optimization:
    return Optimization(**{"learning_rate": 1.0, "warmup_steps": 0.0, **values})


def rates(curve: Curve, steps: int) -> list[float]:
    return [curve.rate(step) for step in range(steps)]


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ("cosine_decay", [0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]),
        ("linear_decay", [1.0, 0.75, 0.5, 0.25]),
        ("polynomial_decay", [1.0, 0.8, 0.6, 0.4]),
        ("constant", [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_shapes(shape: str, want: list[float]) -> None:
    curve = first_curve(config(lr_schedule=shape, end_lr=0.2), 4)
    assert rates(curve, 4) == pytest.approx(want)
    # A step past the end (which a lowered limit can bring) is as low as the end, never below.
    assert curve.rate(9) == pytest.approx({"constant": 1.0, "polynomial_decay": 0.2}.get(shape, 0.0))


def test_the_power_of_a_polynomial() -> None:
    curve = first_curve(config(lr_schedule="polynomial_decay", end_lr=0.2, lr_power=2.0), 4)
    assert rates(curve, 4) == pytest.approx([0.2 + 0.8 * (1 - k / 4) ** 2 for k in range(4)])


def test_steps_fall_at_the_milestones() -> None:
    falls = {"lr_schedule": "multi_step", "lr_milestones": (2, 3), "lr_gamma": 0.5, "warmup_steps": 1}
    curve = first_curve(config(**falls), 10, at_epoch=lambda epoch: 2 * epoch)
    assert rates(curve, 10) == pytest.approx([1.0] * 4 + [0.5] * 2 + [0.25] * 4)
    kept = Curve(**json.loads(json.dumps(curve.as_json())))
    assert next_curve(kept, config(**falls), step=5, total=10, on_change="auto") is kept
    # Longer epochs (another batch size): drawn anew, the same curve by its epochs.
    longer = next_curve(kept, config(**falls), step=2, total=20, on_change="auto", at_epoch=lambda epoch: 4 * epoch)
    assert longer.drops == [8, 12]
    # After the end milestones count from there; a fall asked for later is a change by itself.
    again = next_curve(
        kept, config(**falls), step=10, total=20, on_change="auto", epoch=5, at_epoch=lambda epoch: 2 * epoch
    )
    assert (again.epoch, again.drops, again.rate(12)) == (5, [14, 16], 1.0)
    other = next_curve(kept, config(**{**falls, "lr_gamma": 0.1}), step=5, total=10, on_change="auto")
    assert other.rate(9) == pytest.approx(0.01)
    # What plays no part in a shape is no change of it.
    cosine = first_curve(config(), 10)
    assert next_curve(cosine, config(lr_gamma=0.7, lr_power=3.0), step=5, total=10, on_change="auto") is cosine


def test_a_curve_of_an_older_version_goes_on() -> None:
    curve = first_curve(config(lr_schedule="polynomial_decay", end_lr=0.1), 10)
    known = ("start", "end", "warmup", "peak", "floor", "shape", "asked")
    old = Curve(**{name: value for name, value in curve.as_json().items() if name in known})
    assert rates(old, 10) == rates(curve, 10)


@pytest.mark.parametrize(
    ("warmup", "steps"), [(0.25, 5), (0.21, 5), (5, 5), (1.0, 20), (1, 1), (99, 20), (0, 0), (0.0, 0)]
)
def test_warm_up_is_a_fraction_or_a_number_of_steps(warmup: float, steps: int) -> None:
    curve = first_curve(config(warmup_steps=warmup, lr_schedule="linear_decay"), 20)
    assert curve.warmup == steps
    found = rates(curve, 20)
    assert found[:steps] == pytest.approx([(k + 1) / steps for k in range(steps)])
    if steps < 20:
        assert found[steps] == 1.0
    assert all(rate > 0 for rate in found)


def test_a_curve_survives_json_and_goes_on_unchanged() -> None:
    curve = first_curve(config(warmup_steps=0.1), 30)
    kept = Curve(**json.loads(json.dumps(curve.as_json())))
    assert kept == curve
    assert next_curve(kept, config(warmup_steps=0.1), step=11, total=30, on_change="auto") is kept


def test_stretch_draws_the_same_curve_to_the_new_end() -> None:
    line = {"lr_schedule": "linear_decay", "warmup_steps": 2}
    curve = first_curve(config(**line), 10)
    longer = next_curve(curve, config(**line), step=6, total=18, on_change="auto")
    assert (longer.start, longer.end, longer.warmup) == (0, 18, 2)
    assert longer.rate(6) == pytest.approx(0.75)
    assert longer.rate(6) > curve.rate(6)
    faster = next_curve(curve, config(learning_rate=3.0, **line), step=6, total=10, on_change="auto")
    assert faster.rate(6) == pytest.approx(3 * curve.rate(6))
    back = next_curve(faster, config(**line), step=7, total=10, on_change="auto")
    assert back.rate(7) == curve.rate(7)


def test_after_the_end_it_warms_up_again() -> None:
    curve = first_curve(config(warmup_steps=0.2), 10)
    again = next_curve(curve, config(warmup_steps=0.2), step=10, total=30, on_change="auto")
    assert (again.start, again.end, again.warmup) == (10, 30, 4)
    assert [again.rate(step) for step in range(10, 14)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    early = next_curve(curve, config(warmup_steps=0.2), step=4, total=30, on_change="rewarm")
    assert (early.start, early.warmup) == (4, 6)
    stretched = next_curve(curve, config(warmup_steps=0.2), step=10, total=30, on_change="stretch")
    assert (stretched.start, stretched.warmup) == (0, 6)


def test_constant_holds_the_rate_of_this_moment() -> None:
    curve = first_curve(config(lr_schedule="linear_decay"), 10)
    held = next_curve(curve, config(lr_schedule="linear_decay"), step=4, total=20, on_change="constant")
    assert [held.rate(step) for step in range(4, 20)] == pytest.approx([0.6] * 16)
    # After the end the moment is the last real step, not the zero behind it.
    after = next_curve(curve, config(lr_schedule="linear_decay"), step=10, total=20, on_change="constant")
    assert after.rate(10) == pytest.approx(0.1)
    given = next_curve(curve, config(learning_rate=0.3), step=4, total=20, on_change="constant")
    assert given.rate(4) == given.rate(19) == 0.3
    kept = Curve(**json.loads(json.dumps(held.as_json())))
    assert next_curve(kept, config(lr_schedule="linear_decay"), step=9, total=20, on_change="constant") is kept


def test_one_step_and_one_epoch_are_different_words() -> None:
    """1 is a number of steps and 1.0 all of them: a change between the two is a change."""
    curve = first_curve(config(warmup_steps=1.0), 10)
    other = next_curve(curve, config(warmup_steps=1), step=3, total=10, on_change="auto")
    assert (curve.warmup, other.warmup) == (10, 1)
