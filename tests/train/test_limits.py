"""When training is over, when it is looked at, and what a finished run says to new limits."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover.train.limits import Limits, is_finished
from carryover.train.state import RunState


def limits(**values: Any) -> Limits:
    defaults: dict[str, Any] = {
        "rows": 10, "batch_size": 2, "max_epochs": 3, "max_steps": -1, "patience": 2, "check_every": 0
    }  # fmt: skip
    return Limits(**{**defaults, "seconds": math.inf, **values})


def walk(of: Limits, steps: int) -> list[RunState]:
    """Return the states after each of the first `steps` optimizer steps."""
    state, found = RunState(), []
    for _ in range(steps):
        state.advance(min(of.batch_size, of.rows - state.position), of.rows)
        found.append(RunState.from_json(state.as_json()))
    return found


@pytest.mark.parametrize(
    ("check_every", "rows", "want"),
    [
        (1.0, 10, [5, 10, 15]),
        (0.5, 10, [3, 5, 8, 10, 13, 15]),
        (0.5, 9, [3, 5, 8, 10, 13, 15]),
        (0.25, 10, [2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15]),
        (0.34, 10, [2, 4, 5, 7, 9, 10, 12, 14, 15]),
        (0.01, 10, list(range(1, 16))),
        (1, 10, list(range(1, 16))),
        (4, 10, [4, 8, 12]),
        (7, 10, [7, 14]),
        (0, 10, []),
        (0.5, 1, [*range(1, 16)]),
    ],
)
def test_checks_are_due_at_these_steps(check_every: float, rows: int, want: list[int]) -> None:
    of = limits(check_every=check_every, rows=rows)
    assert [state.step for state in walk(of, 15) if of.check_due(state)] == want


def test_checks_in_every_second_epoch_only() -> None:
    of = limits(check_every=0.5, check_epochs=2)
    assert [state.step for state in walk(of, 20) if of.check_due(state)] == [8, 10, 18, 20]
    every = limits(check_every=4, check_epochs=2)
    assert [state.step for state in walk(every, 20) if every.check_due(state)] == [8, 16, 20]


def test_the_check_that_only_the_end_brings_may_be_left_out() -> None:
    ended = RunState(step=4, position=8, done="max_steps")
    assert limits(check_every=1.0).check_wanted(ended)
    assert not limits(check_every=1.0, final_check=False).check_wanted(ended)
    # One that is due is made in any case.
    assert limits(check_every=1.0, final_check=False).check_wanted(RunState(step=5, epoch=1, done="max_epochs"))


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 200),
    batch=st.integers(1, 70),
    epochs=st.integers(1, 4),
    most=st.one_of(st.just(-1), st.integers(1, 100)),
    parts=st.integers(1, 8),
)
def test_along_a_run_its_length_is_always_the_same(rows: int, batch: int, epochs: int, most: int, parts: int) -> None:
    of = limits(rows=rows, batch_size=batch, max_epochs=epochs, max_steps=most, check_every=1 / parts)
    total = of.total_steps(RunState())
    states = walk(of, total)
    assert [of.total_steps(state) for state in states] == [total] * total
    assert [bool(of.reached(state)) for state in states] == [False] * (total - 1) + [True]
    # Each state knows where the epochs begin that are still to come.
    starts = [0] + [state.step for state in states if not state.position]
    for state in states:
        ahead = range(state.epoch + 1, len(starts))
        assert [of.step_of_epoch(state, epoch) for epoch in ahead] == [starts[epoch] for epoch in ahead]
    whole = math.ceil(rows / batch)
    checks = sum(of.check_due(state) for state in states[:whole])
    # Once at each mark, the last of them the epoch's end; fewer only where an epoch has fewer steps or is cut.
    assert checks == min(parts, whole) or total < whole


def test_why_it_is_over() -> None:
    assert limits().reached(RunState(step=15, epoch=3)) == "max_epochs"
    assert limits(max_steps=15).reached(RunState(step=15, epoch=3)) == "max_steps"
    assert limits(max_steps=16).reached(RunState(step=14, epoch=2)) == ""


ASKED = {"max_epochs": 3, "max_steps": 12, "patience": 2, "time_limit": 60.0, "per_attempt": False}


@pytest.mark.parametrize(
    ("reason", "change", "finished"),
    [
        ("time_limit", {"per_attempt": True}, False),
        ("max_epochs", {}, True),
        ("max_epochs", {"max_epochs": 4}, False),
        ("max_epochs", {"max_epochs": 2}, True),
        ("max_epochs", {"max_steps": 99}, True),
        ("max_epochs", {"patience": 9}, True),
        ("max_epochs", {"time_limit": 600.0}, True),
        ("max_epochs", {"time_limit": None}, True),
        ("max_steps", {}, True),
        ("max_steps", {"max_steps": 13}, False),
        ("max_steps", {"max_steps": -1}, False),
        ("max_steps", {"max_steps": 5}, True),
        ("max_steps", {"max_epochs": 9}, True),
        ("early_stopping", {}, True),
        ("early_stopping", {"patience": 3}, False),
        ("early_stopping", {"patience": 1}, True),
        ("early_stopping", {"max_epochs": 4}, False),
        ("early_stopping", {"max_steps": -1}, False),
        ("early_stopping", {"time_limit": 600.0}, True),
        ("time_limit", {}, True),
        ("time_limit", {"time_limit": 61.0}, False),
        ("time_limit", {"time_limit": None}, False),
        ("time_limit", {"time_limit": 1.0}, True),
        ("time_limit", {"max_epochs": 9}, True),
    ],
)
def test_a_finished_run_under_new_limits(reason: str, change: dict, finished: bool) -> None:
    asked = {**ASKED, **change}
    new = limits(
        max_epochs=asked["max_epochs"],
        max_steps=asked["max_steps"],
        patience=asked["patience"],
        seconds=math.inf if asked["time_limit"] is None else asked["time_limit"],
        per_attempt=asked["per_attempt"],
    )
    assert new.asked() == asked
    assert is_finished({"reason": reason, "limits": ASKED}, new) is finished


def test_patience_begins_anew_when_there_is_more_to_do() -> None:
    state = RunState(step=15, epoch=3, bad_checks=2, done="early_stopping", limits=limits(check_every=1).asked())
    limits(check_every=1).renew(state)
    assert (state.done, state.bad_checks) == ("max_epochs", 2)
    state = RunState(step=5, epoch=1, bad_checks=2, done="early_stopping", limits=limits().asked())
    limits(check_every=1).renew(state)
    assert (state.done, state.bad_checks) == ("early_stopping", 2)
    limits(check_every=1, max_epochs=5).renew(state)
    assert (state.done, state.bad_checks) == ("", 0)
    assert state.limits["max_epochs"] == 5
    state.bad_checks = 2
    limits(check_every=1, max_epochs=5, patience=3).renew(state)
    assert (state.done, state.bad_checks) == ("", 2)
    # Without a validation split nothing can stop early.
    limits(check_every=0, max_epochs=5, patience=1).renew(state)
    assert state.done == ""


def test_time_used_counts_over_attempts() -> None:
    state = RunState(step=5, epoch=1, seconds=60.0)
    limits(seconds=60.0).renew(state)
    assert state.done == "time_limit"
    limits(seconds=61.0).renew(state)
    assert state.done == ""


def test_time_of_each_attempt_by_itself() -> None:
    state = RunState(step=5, epoch=1, seconds=60.0)
    each = limits(seconds=60.0, per_attempt=True, spent=60.0)
    each.renew(state)
    assert state.done == "" and each.deadline == 120.0
    assert state.limits["per_attempt"] is True


def test_scores_and_patience() -> None:
    state = RunState(step=1)
    assert state.record(0.5, greater_is_better=True)
    assert not state.record(0.5, greater_is_better=True)
    assert not state.record(float("nan"), greater_is_better=True)
    assert (state.score, state.best_score, state.best_step, state.bad_checks, state.checks) == (None, 0.5, 1, 2, 3)
    state.step = 4
    assert state.record(0.6, greater_is_better=True)
    assert (state.best_step, state.bad_checks, state.checked_step) == (4, 0, 4)
    assert state.record(0.1, greater_is_better=False)


def test_a_state_of_a_newer_version_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        RunState.from_json({**RunState().as_json(), "colour": 1})
