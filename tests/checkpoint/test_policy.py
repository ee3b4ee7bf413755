"""When a save is due, and what the recipe may say about it."""

import math
from typing import Any

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
        # Nothing measured yet: 0.05 s are 0.5 % of 10 s.
        (CheckpointConfig(), 101, 1009.9, False),
        (CheckpointConfig(), 101, 1010.0, True),
        (CheckpointConfig(preemption_mtbf_seconds=250), 101, 1004.9, False),
        (CheckpointConfig(preemption_mtbf_seconds=250), 101, 1005.0, True),
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


class Clock:
    """A loop of steps of a tenth of a second, and saves in it that cost what they are told to."""

    def __init__(self, *, over_network: bool = False, **config: Any) -> None:
        config = {"preemption_mtbf_seconds": 1e9, "max_lost_seconds": 1e9, **config}
        self.now, self.count, self.checks = 1000.0, 0, 0
        self.due = Due(CheckpointConfig(**config), step=0, now=self.now, over_network=over_network)
        self.steps(10)

    def steps(self, count: int, *, seconds: float = 0.1) -> None:
        for _ in range(count):
            self.now += seconds
            self.count += 1
            self.due.stepped(now=self.now, checks=self.checks)

    def save(self, *, blocked: float, longer: float = 0.0, writing: float = 1.0, as_others: bool = True) -> float:
        """Return the interval after a save beside which ten steps took so much longer, standing still included."""
        self.due.taken(step=self.count, now=self.now)
        self.due.blocked(blocked)
        self.steps(10, seconds=0.1 + longer / 10)
        self.due.written(seconds=writing, as_others=as_others)
        self.steps(1)
        return self.due.interval


def test_saves_cost_half_a_percent_of_the_time() -> None:
    assert Clock().save(blocked=0.1, longer=0.1) == pytest.approx(20)
    # The steps beside it count with it, where cores are scarce.
    assert Clock().save(blocked=0.1, longer=0.4) == pytest.approx(80)
    # What is slow for another reason in one save is not what the next ones cost.
    clock = Clock()
    assert [clock.save(blocked=0.1, longer=longer) for longer in (0.1, 9.0, 0.1)][-1] == pytest.approx(20)
    # Beside a save that this process wrote, steps tell nothing of the next ones.
    assert Clock().save(blocked=0.1, longer=0.9, as_others=False) == pytest.approx(20)


def test_a_step_with_a_validation_is_no_measure() -> None:
    clock = Clock()
    clock.due.taken(step=clock.count, now=clock.now)
    clock.due.blocked(0.1)
    clock.checks += 1
    clock.steps(1, seconds=30.0)
    clock.due.written(seconds=1.0)
    clock.steps(1)
    assert clock.due.interval == pytest.approx(20)


def test_never_rarer_than_youngs_interval() -> None:
    clock = Clock(preemption_mtbf_seconds=1800)
    assert clock.save(blocked=0.5) == pytest.approx(math.sqrt(2 * 0.5 * 1800))
    assert not clock.due.due(step=clock.count, now=clock.now - 1.1 + 42.4)
    assert clock.due.due(step=clock.count, now=clock.now + 42.5)


def test_saves_that_cost_nothing_are_not_made_all_the_time() -> None:
    assert Clock().save(blocked=0.001, writing=0.1) == 2.0
    assert Clock(over_network=True).save(blocked=0.001, writing=0.1) == 10.0
    assert Clock(over_network=True, max_lost_seconds=4).save(blocked=0.001, writing=0.5) == 3.5
    # Disk and network are the loader's too.
    assert Clock().save(blocked=0.001, writing=4.0) == 16.0


def test_a_kill_costs_no_more_than_was_asked() -> None:
    clock = Clock(max_lost_seconds=60)
    assert clock.save(blocked=1.0, writing=19.0) == 41.0
    # A save slower than the limit: the next one waits until it is written.
    assert clock.save(blocked=1.0, writing=90.0) == 90.0


def test_a_dropped_save_is_made_up_for_at_the_next_step() -> None:
    clock = Clock(every_steps=10)
    clock.due.taken(step=10, now=clock.now)
    clock.due.dropped()
    assert not clock.due.due(step=0, now=clock.now)
    assert clock.due.due(step=11, now=clock.now)


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
