"""Champions: one history, no lost decision, nobody promoted over a champion that it was not measured against."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover.carry import champion as champions
from carryover.carry.champion import History, Refused, history, promote, reject, resolve, rollback
from carryover.carry.decision import Contender
from carryover.checkpoint.layout import Damaged
from carryover.ground.errors import Superseded, WrongInput
from carryover.ground.storage import Store, open_store
from carryover.models.export import find_model
from tests.carry.small_models import small_model
from tests.checkpoint.test_log import LOST

# One process of three races: waits for the start, then decides until it has won a number, and says which.
RACER = """
import json, os, sys, time
from carryover.carry.champion import history, promote, reject
from carryover.carry.decision import Contender
from carryover.ground.errors import Superseded
from carryover.ground.storage import open_store
uri, start, me = sys.argv[1:]
store = open_store(uri)
model = Contender(f"{int(me):032x}", f"{uri}/models/{me}")
print("ready", flush=True)
while not os.path.exists(start):
    time.sleep(0.002)

def until_won(name):
    while True:
        try:
            return promote(store, name, model, against=history(store, name).digest).number
        except Superseded:
            pass

def once(name):
    try:
        return promote(store, name, model, against="").number
    except Superseded:
        return None

said = {"first": once("first"), "again": until_won("again")}
said["reject"] = reject(store, "reject", model, against="").number
print(json.dumps(said))
"""


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "s3":
        return open_store(request.getfixturevalue("s3_store_uri"))
    return open_store(str(tmp_path / "store") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def model(store: Store, number: int) -> Contender:
    uri = small_model(store, number)
    return Contender(find_model(uri).card.digest, uri)


def kinds(store: Store) -> list[str]:
    return [one.kind for one in history(store, "stars").decisions]


def champion_digest(store: Store) -> str:
    return history(store, "stars").digest


def test_a_history_from_none_to_rollback(store: Store) -> None:
    a, b, c = (model(store, number) for number in (1, 2, 3))
    assert history(store, "stars") == History("stars")
    assert champions.champion(store, "stars") is None
    first = promote(store, "stars", a, against="", reason="no baseline", metrics={"f1": 0.5, "mcc": float("nan")})
    assert (first.number, first.against_number, first.previous) == (0, None, "")
    assert first.metrics == {"f1": 0.5, "mcc": None}
    reject(store, "stars", b, against=a.digest, reason="gain -0.1")
    second = promote(store, "stars", c, against=a.digest, who="run-7")
    assert (second.number, second.against, second.against_number) == (2, a.digest, 0)
    assert resolve("champion:stars", store) == c.uri

    back = rollback(store, "stars", reason="wrong labels")
    assert (back.kind, back.model, back.against) == ("rollback", a, c.digest)
    assert resolve("champion:stars", store) == a.uri
    known = history(store, "stars")
    assert known.decisions == (first, known.decisions[1], second, back)
    assert [one.previous for one in known.decisions[1:]] == [one.digest for one in known.decisions[:-1]]
    with pytest.raises(WrongInput, match="none before"):
        rollback(store, "stars")
    assert kinds(store) == ["promote", "reject", "promote", "rollback"]


def test_what_was_refused_needs_force(store: Store) -> None:
    a, b = model(store, 1), model(store, 2)
    promote(store, "stars", a, against="")
    reject(store, "stars", b, against=a.digest, reason="forgets")
    with pytest.raises(Refused, match=r"rejected in record 1 \(forgets\).*--force"):
        promote(store, "stars", b, against=a.digest)
    assert reject(store, "stars", b, against=a.digest).number == 1, "once is enough"
    forced = promote(store, "stars", b, against=a.digest, force=True)
    assert forced.forced
    rollback(store, "stars")
    with pytest.raises(Refused, match="rolled back from in record 3"):
        promote(store, "stars", b, against=a.digest)
    with pytest.raises(Refused, match="to make it champion all the same"):
        rollback(store, "stars", to=b.digest)
    assert promote(store, "stars", b, against=a.digest, force=True).forced
    # The force took the refusal back: it is an ordinary champion now, to go back to as to any.
    c = model(store, 3)
    assert not promote(store, "stars", c, against=b.digest).forced
    assert rollback(store, "stars").model == b
    assert reject(store, "stars", b, against=b.digest).kind == "rollback", "the champion is left alone"
    assert history(store, "stars").refusal(b.digest) is None


def test_rollback_passes_those_refused_since_and_goes_where_it_is_told(store: Store) -> None:
    a, b, c, d = (model(store, number) for number in (1, 2, 3, 4))
    for before, one in (("", a), (a.digest, b), (b.digest, c)):
        promote(store, "stars", one, against=before)
    rollback(store, "stars", to="0")
    assert champion_digest(store) == a.digest
    promote(store, "stars", d, against=a.digest)
    assert rollback(store, "stars", to=b.digest[:12]).model == b, "it was passed over, never refused itself"
    rollback(store, "stars")
    assert champion_digest(store) == a.digest
    for wrong, said in (("9", "no champion of that number"), ("zz", "no champion"), (a.digest, "the champion already")):
        with pytest.raises(WrongInput, match=said):
            rollback(store, "stars", to=wrong)
    with pytest.raises(WrongInput, match="nothing to roll back"):
        rollback(store, "other")


def test_a_decision_made_against_another_champion_is_late(store: Store) -> None:
    a, b, c = (model(store, number) for number in (1, 2, 3))
    promote(store, "stars", a, against="")
    with pytest.raises(Superseded, match="measured against no champion, but record 0"):
        promote(store, "stars", b, against="")
    promote(store, "stars", b, against=a.digest)
    with pytest.raises(Superseded, match=f"against {a.digest}, but record 1 has made {b.digest} the champion"):
        promote(store, "stars", c, against=a.digest)
    # Late is not worse: measured against the champion of now, it may still win.
    assert promote(store, "stars", c, against=b.digest).number == 2


def test_a_retry_finds_its_own_decision_whatever_came_after(store: Store) -> None:
    a, b, c = (model(store, number) for number in (1, 2, 3))
    promote(store, "stars", a, against="", who="job-1")
    mine = promote(store, "stars", b, against=a.digest, who="job-2", once=True)
    promote(store, "stars", c, against=b.digest, who="job-3")
    assert promote(store, "stars", b, against=a.digest, who="job-2", once=True) == mine
    with pytest.raises(Superseded):
        promote(store, "stars", b, against=a.digest, who="job-4", once=True)
    assert len(history(store, "stars").decisions) == 3
    assert promote(store, "stars", c, against=b.digest).number == 2, "the champion already: nothing to write"


@pytest.mark.parametrize("answer", LOST.values(), ids=LOST)
def test_a_lost_acknowledgement_is_success(store: Store, answer: bool | Exception) -> None:
    class Lost(Store):
        """Does what it is asked, while the answer to `create` gets lost on the way."""

        def sub(self, name: str) -> Store:
            return Lost(self.at(name))

        def create(self, name: str, data: bytes) -> bool:
            super().create(name, data)
            if isinstance(answer, Exception):
                raise answer
            return answer

    made = promote(Lost(store.uri), "stars", model(store, 1), against="")
    assert history(store, "stars").decisions == (made,)


def test_a_store_that_fails_is_no_lost_race(store: Store) -> None:
    class Down(Store):
        def sub(self, name: str) -> Store:
            return Down(self.at(name))

        def create(self, name: str, data: bytes) -> bool:
            raise TimeoutError("no answer")

    with pytest.raises(TimeoutError):
        promote(Down(store.uri), "stars", model(store, 1), against="")
    assert kinds(store) == []


def test_what_was_changed_or_lost_is_never_believed(store: Store) -> None:
    for before, number in (("", 1), (model(store, 1).digest, 2)):
        promote(store, "stars", model(store, number), against=before)
    home = store.sub("champions/stars")
    names = ["0000000000.json", "0000000001.json"]
    assert home.names() == names
    whole = [home.read(name) for name in names]
    for at, data, said in (
        (1, whole[1].replace(b"promote", b"preside"), "content has changed"),
        (1, whole[1][:-20], "no record of a champion"),
        (1, whole[0], "holds promote 0"),
        (0, _other(store, whole[0]), "record 0, which was changed"),
    ):
        home.write(names[at], data)
        with pytest.raises(Damaged, match=said):
            history(store, "stars")
        home.write(names[at], whole[at])
    home.delete(names[0])
    with pytest.raises(Damaged, match=r"0000000000\.json: missing, though there are later"):
        resolve("champion:stars", store)


def _other(store: Store, data: bytes) -> bytes:
    """Another whole record of the same number."""
    elsewhere = store.sub("elsewhere")
    plain = json.loads(data)
    return promote(elsewhere, "stars", Contender(**plain["model"]), against="").data


@pytest.mark.parametrize("name", ["", "Stars", "a/b", "..", "a_b", "stars "])
def test_names_that_cannot_be(store: Store, name: str) -> None:
    with pytest.raises(WrongInput, match="made of a-z, 0-9 and '-'"):
        history(store, name)


def test_no_such_champion_says_which_there_are(store: Store) -> None:
    with pytest.raises(WrongInput, match="there is none yet: carryover promote NAME"):
        resolve("champion:stars", store)
    promote(store, "reviews", model(store, 1), against="")
    with pytest.raises(WrongInput, match="no champion of that name; there are reviews"):
        resolve("champion:stars", store)
    with pytest.raises(WrongInput, match="no Model's digest"):
        promote(store, "stars", model(store, 1), against="latest")


def test_a_store_that_was_moved_has_the_same_champion(tmp_path: Path) -> None:
    old = open_store(str(tmp_path / "old"))
    a = model(old, 1)
    promote(old, "stars", a, against="")
    (tmp_path / "old").rename(tmp_path / "new")
    new = open_store(str(tmp_path / "new"))
    assert resolve("champion:stars", new) == f"{new.uri}/models/{a.digest}"
    assert history(new, "stars").champion == promote(new, "stars", a, against="")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["promote", "force", "reject", "rollback"]), st.integers(1, 4)), max_size=14))
def test_whatever_is_decided_the_champion_is_never_a_refused_one(orders: list[tuple[str, int]]) -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    models = {number: model(store, number) for number in range(1, 5)}
    refused: set[str] = set()
    for order, number in orders:
        was, one = champion_digest(store), models[number]
        try:
            if order == "reject":
                reject(store, "stars", one, against=was)
                refused |= {one.digest} - {was}
            elif order == "rollback":
                rollback(store, "stars")
                refused.add(was)
                assert champion_digest(store) != was
                assert champion_digest(store) in {made.against for made in history(store, "stars").decisions}
            else:
                promote(store, "stars", one, against=was, force=order == "force")
                refused.discard(one.digest)
                assert champion_digest(store) == one.digest
        except WrongInput:
            assert champion_digest(store) == was, "an order that is refused changes nothing"
        assert champion_digest(store) not in refused
        known = history(store, "stars")
        assert {digest for digest in (made.digest for made in models.values()) if known.refusal(digest)} == refused


def race(store: Store, tmp_path: Path, count: int) -> list[dict]:
    """What came of processes that decide at the same moment: the number that each won, by race."""
    start = tmp_path / "start"
    command = [sys.executable, "-c", RACER, store.uri, str(start)]
    racers = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for number in range(count)
    ]
    try:
        for racer in racers:
            assert racer.stdout
            assert racer.stdout.readline() == "ready\n"
        start.touch()
        return [json.loads(racer.communicate(timeout=600)[0]) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store that processes share."""
    uri = request.getfixturevalue("s3_store_uri") if request.param == "s3" else str(tmp_path / "store")
    return open_store(uri)


@pytest.mark.timeout(900)
def test_sixteen_at_once(shared: Store, tmp_path: Path) -> None:
    said = race(shared, tmp_path, 16)
    for name, count in (("first", 1), ("again", 16), ("reject", 16)):
        made = history(shared, name).decisions
        written = sorted(one[name] for one in said if one[name] is not None)
        assert written == list(range(len(made))), "each number was won once, and each winner knows it"
        assert len(made) == len({one.model.digest for one in made}) == count
        if name == "again":
            assert [one.against for one in made] == ["", *[one.model.digest for one in made[:-1]]]
            assert [one.against_number for one in made] == [None, *range(15)]
