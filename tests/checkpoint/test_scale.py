"""Nothing that a start or a save asks of its store grows with the history, or faster than the ranks; counted."""

from pathlib import Path
from typing import cast

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.log import Log
from carryover.ground.storage import Store, open_store
from tests.support.counting import Counted, CountingProxy
from tests.support.histories import Phases, lives, planted
from tests.support.s3_server import S3Server

SHORT, LONG = 10, 1_000
RANKS = (1, 2, 4)


def same(one: Phases, other: Phases) -> None:
    """Hold two histories against each other: equal calls, and bytes equal but for digits of numbers."""
    for name in one:
        short, long = one[name], other[name]
        assert short.calls == long.calls, name
        for less, more in ((short.all_up, long.all_up), (short.all_down, long.all_down)):
            assert abs(more - less) <= 40 * short.calls.total(), f"{name}: {less} bytes, then {more}"


def on_disk(folder: Path, records: int, ranks: int = 1) -> Phases:
    home = RunHome.open(open_store(str(folder)), "key")
    home.start({"recipe": {"seed": 1}})
    planted(home, records)
    store = Counted(home.store)
    return lives(RunHome(cast(Store, store)), store.tally, ranks=ranks)


def test_a_long_history_costs_what_a_short_one_does(tmp_path: Path) -> None:
    short, long = on_disk(tmp_path / "short", SHORT), on_disk(tmp_path / "long", LONG)
    same(short, long)
    assert not any(tally.calls["list"] for name, tally in long.items() if name != "first save")


def test_a_start_that_lists_all_of_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Log, "_newest_copied", lambda self: None)
    with pytest.raises(AssertionError, match="start: "):
        same(on_disk(tmp_path / "short", SHORT), on_disk(tmp_path / "long", LONG))


def test_each_rank_more_costs_the_same(tmp_path: Path) -> None:
    restores = [on_disk(tmp_path / str(ranks), SHORT, ranks)["restore"] for ranks in RANKS]
    calls = [tally.calls.total() for tally in restores]
    assert (calls[2] - calls[0]) == 3 * (calls[1] - calls[0])
    down = [tally.all_down for tally in restores]
    assert (down[2] - down[0]) == 3 * (down[1] - down[0])


@pytest.mark.slow
def test_over_the_wire_too(s3_server: S3Server, s3_store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 gives a thousand names a page: the whole log would be more than one here."""
    with CountingProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        found = []
        for records in (SHORT, LONG + SHORT):
            home = RunHome.open(open_store(f"{s3_store_uri}/{records}"), "key")
            home.start({"recipe": {"seed": 1}})
            planted(home, records)
            found.append(lives(home, proxy.tally, ranks=1))
            assert found[-1]["start"].calls["put-record"] == 1, "it is the proxy that is asked"
    same(*found)
