"""A stateful model of the log: writers, zombies, crashes at every write; no reachable state loses a committed step.

The faults planted at the end show that each invariant can fail: the same machine, over code that is wrong in one way.
"""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from carryover.checkpoint.retention import Keep
from carryover.ground import console
from tests.checkpoint.log_model import Fault, Process, Run
from tests.checkpoint.support import flip

VALUES = st.integers(0, 2)
KEEPS = st.builds(Keep, last=st.integers(1, 2), best=st.integers(0, 1))
SCORES = st.none() | st.sampled_from([0.1, 0.5])
OWNERS = st.sampled_from("abc")
# Most actions go well, or no history would ever grow.
FAULTS = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 9), st.sampled_from(["before", "after", "lost", "cut", "refused", "pause", "pause"])),
)


class Machine(RuleBasedStateMachine):
    """Everything that may happen to a run."""

    make: Callable[[str], Run] = Run
    damages = True

    def __init__(self) -> None:
        super().__init__()
        self.run = type(self).make(f"memory://{uuid.uuid4().hex}/run")

    @rule(owner=OWNERS, takeover=st.booleans(), fault=FAULTS, values=st.lists(VALUES, max_size=2), keep=KEEPS)
    def start(self, owner: str, takeover: bool, fault: Any, values: list[int], keep: Keep) -> None:
        self.run.start(owner, takeover=takeover, fault=self._fault(fault, owner, values, keep))

    @precondition(lambda self: self.run.processes)
    @rule(data=st.data(), value=VALUES, keep=KEEPS, score=SCORES, fault=FAULTS, values=st.lists(VALUES, max_size=3))
    def commit(self, data: Any, value: int, keep: Keep, score: float | None, fault: Any, values: list[int]) -> None:
        process = self._pick(data)
        fault = self._fault(fault, process.owner, values, keep)
        self.run.commit(process, value, keep=keep, score=score, fault=fault)

    @precondition(lambda self: self.run.holder)
    @rule(values=st.lists(VALUES, min_size=1, max_size=3), keep=KEEPS, score=SCORES)
    def commit_on(self, values: list[int], keep: Keep, score: float | None) -> None:
        process = self.run.holder
        assert process
        for value in values:
            self.run.commit(process, value, keep=keep, score=score, fault=None)

    @precondition(lambda self: self.run.processes)
    @rule(data=st.data(), value=VALUES, fault=FAULTS, values=st.lists(VALUES, max_size=2), keep=KEEPS)
    def finish(self, data: Any, value: int, fault: Any, values: list[int], keep: Keep) -> None:
        process = self._pick(data)
        self.run.finish(process, value, fault=self._fault(fault, process.owner, values, keep))

    @precondition(lambda self: self.run.processes)
    @rule(data=st.data())
    def crash(self, data: Any) -> None:
        self.run.processes.remove(self._pick(data))

    @rule(at=st.integers(0, 25), values=st.lists(VALUES, max_size=4), keep=KEEPS)
    def read_while_others_write(self, at: int, values: list[int], keep: Keep) -> None:
        writer = self.run.holder

        def meanwhile() -> None:
            for value in values:
                if writer in self.run.processes:
                    self.run.commit(writer, value, keep=keep, score=None, fault=None)

        self.run.read(Fault(at, "read", meanwhile))

    @precondition(lambda self: self.damages and self.run.files())
    @rule(which=st.integers(0, 20), gone=st.booleans())
    def damage(self, which: int, gone: bool) -> None:
        names = self.run.files()
        self.run.spoil(names[which % len(names)], (lambda _: None) if gone else flip)

    @invariant()
    def holds(self) -> None:
        self.run.check()

    def _pick(self, data: Any) -> Process:
        return data.draw(st.sampled_from(self.run.processes))

    def _fault(self, drawn: tuple[int, Any] | None, owner: str, values: list[int], keep: Keep) -> Fault | None:
        if drawn is None:
            return None

        def successor() -> None:
            # Its own owner's retry, which may start at any time, on a machine that knows nothing of the paused one.
            process = self.run.start(owner, takeover=True)
            for value in values:
                if process in self.run.processes:
                    self.run.commit(process, value, keep=keep, score=None, fault=None)

        return Fault(*drawn, successor)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "warn", lambda text: None)


def _run(
    examples: int, *, damages: bool = True, steps: int = 16, make: Callable[[str], Run] = Run, **more: Any
) -> None:
    machine = type("Machine", (Machine,), {"damages": damages, "make": staticmethod(make)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            **more,
        ),
    )


@pytest.mark.parametrize("damages", [False, True], ids=["whole", "damaged"])
def test_no_reachable_state_loses_a_committed_step(damages: bool) -> None:
    _run(150, damages=damages)
