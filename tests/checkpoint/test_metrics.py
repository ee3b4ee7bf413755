"""The curve in files of bounded size, held against one list of lines that each attempt cuts where it goes on from."""

import json
import random
from pathlib import Path

import pytest

from carryover.checkpoint import metrics
from carryover.checkpoint.metrics import OLDER, Segments, read_lines, segment, step_of
from carryover.ground.storage import Store, open_store


class Attempt:
    """One attempt: lines that it told, and a file of the home with each save."""

    def __init__(self, home: Store, number: int, step: int) -> None:
        self.home, self.number, self.step = home, number, step
        self.files = Segments(lambda place: segment(number, place))
        self.untold = [self.line("start")]
        self.sizes: list[int] = []

    def line(self, words: str) -> bytes:
        told = {"step": self.step, "attempt": self.number, "words": words}
        return json.dumps(told).encode()

    def trains(self, steps: int) -> None:
        for _ in range(steps):
            self.step += 1
            self.untold.append(self.line("trained"))

    def writes(self) -> list[bytes]:
        """Write what is new, before a commit's record: return it."""
        new, self.untold = self.untold, []
        self.files.add(b"".join(line + b"\n" for line in new))
        for name, data in self.files.content().items():
            self.home.write(name, data)
            self.sizes.append(len(data))
        return new

    def saved(self) -> None:
        """The record is there; its cost is told with the next one."""
        self.files.written()
        self.untold.append(self.line("saved"))


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_one_list_would_be(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SEGMENT_BYTES", 300)
    chance, home = random.Random(seed), open_store(str(tmp_path))
    told: list[bytes] = []  # the slow way: all lines, cut at each start, and written whole with each commit
    committed = 0
    for number in range(1, 8):
        told = [line for line in told if (step_of(line) or 0) <= committed]
        if chance.random() < 0.2:
            committed = 0 if not told else chance.choice([step_of(line) or 0 for line in told])
            told = [line for line in told if (step_of(line) or 0) <= committed]
        assert read_lines(home, before=number, upto=committed) == told
        one = Attempt(home, number, committed)
        for _ in range(chance.randrange(5)):
            one.trains(chance.randrange(1, 9))
            told += one.writes()
            if chance.random() < 0.8:
                one.saved()
                committed = one.step
    assert read_lines(home) == told


def test_a_save_writes_as_much_of_a_long_curve_as_of_a_short_one(tmp_path: Path) -> None:
    home = open_store(str(tmp_path))
    one = Attempt(home, 1, 0)
    for _ in range(500):
        one.trains(10)
        one.writes()
        one.saved()
    assert max(one.sizes) < metrics.SEGMENT_BYTES + 11 * 60
    assert 10 < len(home.names(metrics.FOLDER)) < 50
    assert [step_of(line) for line in read_lines(home) if b"trained" in line] == list(range(1, 5001))


def test_who_was_superseded_and_goes_on_harms_nobodys_lines(tmp_path: Path) -> None:
    home = open_store(str(tmp_path))
    zombie, heir = Attempt(home, 1, 0), Attempt(home, 2, 3)
    zombie.trains(3)
    kept = zombie.writes()
    heir.trains(2)
    kept += heir.writes()
    zombie.trains(400)
    zombie.writes()
    assert read_lines(home) == kept


def test_older_homes_are_read_and_gone_on_from(tmp_path: Path) -> None:
    home = open_store(str(tmp_path))
    old = [json.dumps({"step": step, "attempt": 1}).encode() for step in range(1, 9)]
    home.write(OLDER, b"\n".join(old))
    assert read_lines(home) == old == read_lines(home, before=2)
    heir = Attempt(home, 2, 5)
    heir.trains(2)
    assert read_lines(home, before=2, upto=5) == old[:5]
    assert heir.writes() == read_lines(home)[5:] and read_lines(home)[:5] == old[:5]


def test_what_is_none_of_ours_is_passed_over(tmp_path: Path) -> None:
    home = open_store(str(tmp_path))
    home.write(f"{metrics.FOLDER}/.DS_Store", b"{}")
    home.write(segment(1, 0), b'{"step": 4}\nno line of ours\n\n')
    home.write(segment(2, 0), b'[]\n{"step": 3}\n')
    assert read_lines(home) == [b"no line of ours", b"[]", b'{"step": 3}']
