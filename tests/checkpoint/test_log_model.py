"""A stateful model of the log: writers, zombies, crashes at every write; no reachable state loses a committed step.

The faults planted at the end show that each invariant can fail: the same machine, over code that is wrong in one way.
"""

import os
import random
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from carryover.checkpoint import home, log, retention, store, writer
from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import OBJECTS
from carryover.checkpoint.retention import Keep, Point
from carryover.checkpoint.writer import Writer
from carryover.ground import console
from tests.checkpoint.log_model import Fault, FaultyStore, Process, Run
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
# What makes names of objects unique, the same again in every replay: removal goes by the order of names.
NAMES = random.Random()


class Machine(RuleBasedStateMachine):
    """Everything that may happen to a run."""

    make: Callable[[str], Run] = Run
    damages = True

    def __init__(self) -> None:
        super().__init__()
        NAMES.seed(0)
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

    def teardown(self) -> None:
        # fsspec's memory is one for the process, and looks through all of it at every call.
        memory = self.run.raw.fs
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]

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
def _quiet_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_save", lambda: NAMES.randbytes(16).hex())
    for module in (console, home, writer):
        monkeypatch.setattr(module, "warn", lambda text: None, raising=False)


def _run(examples: int, *, damages: bool = True, make: Callable[[str], Run] = Run, **more: Any) -> None:
    machine = type("Machine", (Machine,), {"damages": damages, "make": staticmethod(make)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=16,
            deadline=None,
            database=None,
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
            report_multiple_bugs=False,
            **more,
        ),
    )


@pytest.mark.parametrize("damages", [False, True], ids=["whole", "damaged"])
def test_no_reachable_state_loses_a_committed_step(damages: bool) -> None:
    _run(100, damages=damages)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("damages", [False, True], ids=["whole", "damaged"])
def test_no_reachable_state_loses_a_committed_step_at_length(damages: bool) -> None:
    _run(int(os.environ.get("CARRYOVER_MODEL_EXAMPLES", "400")), damages=damages)


class Overwriting(FaultyStore):
    """A store that ignores preconditions."""

    def create(self, name: str, data: bytes) -> bool:
        self.write(name, data)
        return True


class DataLater(FaultyStore):
    """A writer whose data follow the record."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._later: list[tuple[str, bytes]] = []

    def write(self, name: str, data: bytes | bytearray | memoryview) -> None:
        if name.startswith(f"{OBJECTS}/"):
            self._later.append((name, bytes(data)))
        else:
            super().write(name, data)

    def create(self, name: str, data: bytes) -> bool:
        created = super().create(name, data)
        while self._later:
            super().write(*self._later.pop())
        return created


class PrunesFirst(Writer):
    """A writer that makes room before its new commit exists."""

    def _append_commit(self, body: Any, digests: frozenset[str], keep: Keep, **others: Any) -> Any:
        points = [*self._points, Point(self._head.number + 1, body["score"], digests)]
        kept = retention.what_to_keep(points, keep)
        needed = (self._finished or frozenset()).union(*(point.objects for point in points if point.number in kept))
        old = {name for point in self._points if point.number not in kept for name in point.objects}
        retention.remove(self.home.objects, old, needed=needed)
        return super()._append_commit(body, digests, keep, **others)


def _unclaimed(run: RunHome, **bid: Any) -> Writer | None:
    """Start as a resume does that only looks for the newest checkpoint."""
    head = run.log.head()
    if head.number < 0:
        return claim(run, **bid)
    return Writer(run, head=head, attempt=head.attempt, resumed_from=run.newest_whole(head))


Patch = pytest.MonkeyPatch


def _without_nonce(patch: Patch) -> None:
    patch.setattr(log, "secrets", SimpleNamespace(token_hex=lambda count: "0" * count * 2))
    patch.setattr(log, "datetime", SimpleNamespace(now=lambda zone: datetime(2026, 1, 1, tzinfo=zone)))


# What is wrong -> how it comes to be wrong, and what the model says then.
PLANTED: dict[str, tuple[Callable[[str], Run], Callable[[Patch], None], str]] = {
    "preconditions are ignored": (
        partial(Run, store_class=Overwriting),
        lambda _: None,
        "a record was changed|has committed|has finished|the chain",
    ),
    "the record comes before the data": (partial(Run, store_class=DataLater), lambda _: None, "not there"),
    "the prune comes before the record": (partial(Run, writer_class=PrunesFirst), lambda _: None, "not there"),
    "no claim": (
        partial(Run, claim=_unclaimed),
        lambda _: None,
        "two starts hold one claim|has committed|has finished",
    ),
    "a removal is damage": (
        Run,
        lambda p: p.setattr(log.Log, "has_grown", lambda self, head: False),
        "damage reported|can always be read|can always be started",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, plant, says = PLANTED[fault]
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=says):
        _run(3000, damages=False, make=make, phases=(Phase.generate,), derandomize=True)


# Single events, at every one of their writes: what the machine above comes across too rarely to rely on.


def _start_overtaken(make: Callable[[str], Run] = Run) -> None:
    for at in range(6):
        run = make(f"memory://{uuid.uuid4().hex}/run")
        run.start("a", takeover=True)
        run.start("b", takeover=True, fault=Fault(at, "pause", partial(run.start, "b", takeover=True)))
        run.check()


def _removal_overtaken(make: Callable[[str], Run] = Run) -> None:
    for at in range(12):
        run = make(f"memory://{uuid.uuid4().hex}/run")

        def successor(run: Run = run) -> None:
            process = run.start("a", takeover=True)
            assert process
            # What the other one is about to remove is what this one saves.
            run.commit(process, 0, keep=Keep(last=1), score=None, fault=None)

        process = run.start("a", takeover=True)
        assert process
        run.commit(process, 0, keep=Keep(last=1), score=None, fault=None)
        run.commit(process, 1, keep=Keep(last=1), score=None, fault=Fault(at, "pause", successor))
        run.check()


def _answers_lost(make: Callable[[str], Run] = Run) -> None:
    for at in range(10):
        run = make(f"memory://{uuid.uuid4().hex}/run")
        process = run.start("a", takeover=True)
        assert process
        for value, fault in ((0, None), (1, Fault(at, "cut")), (2, None)):
            run.commit(process, value, keep=Keep(last=1), score=None, fault=fault)
            run.check()


def _everything_spoilt_once(make: Callable[[str], Run] = Run) -> None:
    for which in range(10):
        run = make(f"memory://{uuid.uuid4().hex}/run")
        process = run.start("a", takeover=True)
        assert process
        for value in (0, 1):
            run.commit(process, value, keep=Keep(last=2), score=None, fault=None)
        names = run.files()
        run.spoil(names[which % len(names)], flip)
        run.check()


def _believes_any_answer(self: Writer, kind: log.Kind, body: Any) -> tuple[log.Record, bool]:
    record = self.home.log.append(self._head, kind=kind, attempt=self.attempt, body=body)
    self._head = self._head.after(record)
    return record, True


@pytest.mark.parametrize("events", [_start_overtaken, _removal_overtaken, _answers_lost, _everything_spoilt_once])
def test_each_write_of_single_events(events: Callable[[], None]) -> None:
    events()


@pytest.mark.parametrize(
    ("events", "plant", "says"),
    [
        (_start_overtaken, _without_nonce, "two starts hold one claim"),
        (_removal_overtaken, lambda p: p.setattr(store, "_save", lambda: "0" * 32), "not there"),
        (_answers_lost, lambda p: p.setattr(log.Log, "_earlier_try", lambda self, record: None), "was told that"),
        (_answers_lost, lambda p: p.setattr(Writer, "_append", _believes_any_answer), "another save was acknowledged"),
        (
            _everything_spoilt_once,
            lambda p: p.setattr(store, "_check", lambda ref, size, found: None),
            "not the newest",
        ),
    ],
    ids=["no nonce", "equal content, equal name", "a lost answer is another's", "any answer is ours", "no digests"],
)
def test_planted_fault_is_found_at_one_write(
    events: Callable[[], None], plant: Callable[[Patch], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=says):
        events()
