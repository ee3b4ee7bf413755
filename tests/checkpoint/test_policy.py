"""When a save is due, and what the recipe may say about it."""

import math

import pytest

from carryover.checkpoint.policy import CheckpointConfig, Due
from carryover.checkpoint.retention import Keep
from carryover.ground.config import build, fields_of
from carryover.ground.errors import WrongInput


def _due(config: CheckpointConfig, *, step: int, now: float) -> bool:
    due = Due(config, step=100, now=1000.0)
    return due.due(step=step, now=now)


@pytest.mark.parametrize(
    ("config", "step", "now", "expected"),
    [
        # Nothing measured yet: sqrt(2 * 0.05 * 3600) = 19 s.
        (CheckpointConfig(), 101, 1018.0, False),
        (CheckpointConfig(), 101, 1019.0, True),
        (CheckpointConfig(preemption_mtbf_seconds=36000), 101, 1059.0, False),
        (CheckpointConfig(preemption_mtbf_seconds=360000), 101, 1060.0, True),
        (CheckpointConfig(), 100, 2000.0, False),
        (CheckpointConfig(max_lost_seconds=5), 101, 1005.0, True),
        (CheckpointConfig(every_steps=10), 109, 5000.0, False),
        (CheckpointConfig(every_steps=10), 110, 1000.1, True),
        (CheckpointConfig(every_seconds=7), 101, 1006.9, False),
        (CheckpointConfig(every_seconds=7), 101, 1007.0, True),
        (CheckpointConfig(every_steps=10, every_seconds=7), 110, 1001.0, True),
        (CheckpointConfig(every_steps=10, every_seconds=7), 101, 1007.0, True),
    ],
)
def test_save_is_due(config: CheckpointConfig, step: int, now: float, expected: bool) -> None:
    assert _due(config, step=step, now=now) is expected


def _saved(due: Due, *, blocked: float, writing: float, now: float) -> float:
    """Return the interval after a save whose state was taken at `now`."""
    due.taken(step=int(now), now=now, blocked=blocked)
    due.written(seconds=writing)
    return due.interval


def test_interval_is_youngs_with_the_measured_cost() -> None:
    due = Due(CheckpointConfig(preemption_mtbf_seconds=1800, max_lost_seconds=1e9), step=0, now=0.0)
    assert _saved(due, blocked=0.1, writing=0.4, now=100.0) == pytest.approx(math.sqrt(2 * 0.5 * 1800))
    assert not due.due(step=101, now=100.0 + 42.4)
    assert due.due(step=101, now=100.0 + 42.5)


def test_a_kill_costs_no_more_than_was_asked() -> None:
    due = Due(CheckpointConfig(max_lost_seconds=60), step=0, now=0.0)
    assert _saved(due, blocked=1.0, writing=19.0, now=100.0) == 41.0
    # A save slower than the limit: the next one waits until it is written.
    assert _saved(due, blocked=1.0, writing=90.0, now=200.0) == 90.0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"every_steps": 0}, "checkpoint.every_steps: 0"),
        ({"every_seconds": -1}, "checkpoint.every_seconds: -1"),
        ({"preemption_mtbf_seconds": 0}, "checkpoint.preemption_mtbf_seconds: 0"),
        ({"give_up_seconds": 0}, "checkpoint.give_up_seconds: 0"),
        ({"max_lost_seconds": 0}, "checkpoint.max_lost_seconds: 0"),
        ({"keep_last": 0}, "checkpoint.keep_last: 0"),
        ({"keep_best": -1}, "checkpoint.keep_best: -1"),
        ({"keep_lst": 1}, "did you mean 'checkpoint.keep_last'"),
    ],
)
def test_wrong_values_are_named(values: dict, says: str) -> None:
    with pytest.raises(WrongInput, match=says):
        build(CheckpointConfig, values, path="checkpoint")


def test_no_key_can_change_a_result() -> None:
    keys = fields_of(CheckpointConfig)
    assert keys and all(info.mutable and not info.identity for info in keys.values())
    assert CheckpointConfig(keep_last=3).keep(greater_is_better=False) == Keep(3, 1, False)
