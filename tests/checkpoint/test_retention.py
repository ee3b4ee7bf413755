"""Retention: what stays, what goes, and what a dead attempt left behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.retention import Keep, Point, what_to_keep
from carryover.checkpoint.verify import verify
from carryover.ground.storage import Store
from tests.checkpoint.support import content, numbers, plain, save, start, tensors_of


def _points(*scores: float | None) -> list[Point]:
    return [Point(number, score, frozenset()) for number, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "keep", "kept"),
    [
        ((0.1, 0.9, 0.5, 0.4), Keep(last=2, best=1), (1, 2, 3)),
        ((0.1, 0.9, 0.5, 0.4), Keep(last=1, best=2), (1, 2, 3)),
        ((0.1, 0.9, 0.5, 0.4), Keep(last=1, best=1, greater_is_better=False), (0, 3)),
        ((0.9, 0.9, 0.9), Keep(last=1, best=1), (0, 2)),
        ((None, None, None), Keep(last=1, best=2), (2,)),
        ((0.5, None), Keep(last=1, best=0), (1,)),
    ],
)
def test_last_and_best_stay(scores: tuple[float | None, ...], keep: Keep, kept: tuple[int, ...]) -> None:
    assert what_to_keep(_points(*scores), keep) == kept


@given(
    st.lists(st.one_of(st.none(), st.floats(-1, 1)), min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(0, 4),
    st.booleans(),
)
def test_newest_always_stays_and_no_more_than_asked(scores: list, last: int, best: int, greater: bool) -> None:
    kept = what_to_keep(_points(*scores), Keep(last=last, best=best, greater_is_better=greater))
    assert len(scores) - 1 in kept
    assert len(kept) <= last + best


def test_keeping_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Keep(last=0)


def test_only_kept_commits_have_their_objects(home: RunHome) -> None:
    writer = start(home)
    scores = [0.1, 0.8, 0.3, 0.2, 0.5]
    records = [save(writer, step, score=score, keep=Keep(last=2, best=1)) for step, score in enumerate(scores, 1)]
    assert [record.step for record in home.commits()] == [2, 4, 5]
    kept = {ref.digest for record in home.commits() for ref in record.objects}
    assert set(home.objects.names()) == kept
    assert content(home.load(records[1])) == plain(tensors_of(2))
    assert verify(home).problems == ()


def test_what_was_resumed_from_stays_as_long_as_the_attempt(home: RunHome) -> None:
    source = save(start(home), 1)
    writer = start(home)
    record = source
    for step in range(2, 6):
        record = save(writer, step, keep=Keep(last=1, best=0))
        assert record.kept == (source.number, record.number)
    assert content(home.load(source)) == plain(tensors_of(1))
    newest = save(start(home), 6, keep=Keep(last=1, best=0))
    assert newest.kept == (record.number, newest.number)
    assert source.table.digest not in home.objects.names()


def test_shared_pack_outlives_the_commit_that_wrote_it(local: RunHome) -> None:
    writer = start(local)
    backbone = save(writer, 1).objects
    for step in range(2, 6):
        save(writer, step, keep=Keep(last=1, best=0))
    assert set(backbone) & set(local.commits()[-1].objects)
    assert content(local.load_newest(pytest.fail)) == plain(tensors_of(5))


def test_next_attempt_sweeps_what_a_dead_one_left(home: RunHome) -> None:
    dead = start(home)
    save(dead, 1)
    left = home.objects.put_tensors({"model/half": numbers(3, 4)})
    writer = start(home)
    assert left.ref.digest in home.objects.names(), "nothing goes before the first own commit"
    save(writer, 2)
    assert not {ref.digest for ref in left.objects} & set(home.objects.names())
    assert verify(home).problems == ()


class Undeletable(Store):
    """A store whose objects can't be deleted, as with a bucket policy."""

    def delete(self, name: str) -> None:
        raise PermissionError(name)


def test_failing_removal_is_said_and_costs_nothing_else(local: RunHome, capsys: pytest.CaptureFixture) -> None:
    home = RunHome(Undeletable(local.store.uri))
    writer = start(home)
    for step in range(1, 6):
        save(writer, step, keep=Keep(last=1, best=0))
    assert "old checkpoints not removed yet: PermissionError" in capsys.readouterr().err
    assert content(home.load_newest(pytest.fail)) == plain(tensors_of(5))
    healed = start(local)
    save(healed, 6, keep=Keep(last=1, best=0))
    assert set(local.objects.names()) == {ref.digest for record in local.commits() for ref in record.objects}
