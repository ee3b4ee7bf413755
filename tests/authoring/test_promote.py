"""The steps promote, rollback, champion and find-model: verdicts of a pipeline, orders of a person."""

import json
from pathlib import Path
from typing import Any

import pytest

from carryover.carry.champion import history
from carryover.ground.errors import Superseded, WrongInput
from carryover.ground.storage import Store, open_store
from carryover.models.export import find_model as open_found
from carryover.steps.champion import champion
from carryover.steps.find_model import find_model
from carryover.steps.promote import promote
from carryover.steps.rollback import rollback
from tests.carry.small_models import small_model
from tests.support import s3_server as s3


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store that processes share."""
    uri = request.getfixturevalue("s3_store_uri") if request.param == "s3" else str(tmp_path / "store")
    return open_store(uri)


def digest(uri: str) -> str:
    return open_found(uri).card.digest


def test_a_pipelines_verdicts(store: Store) -> None:
    a, b, c = (small_model(store, number) for number in (1, 2, 3))
    given: dict[str, Any] = {"name": "stars", "store": store.uri}
    none = champion(**given)
    assert (none["model_uri"], none["digest"], none["dataset_uris"], none["number"]) == ("", "", [], None)

    first = promote(**given, model=a, accepted=True, against="", reason="no baseline", owner="job-1")
    assert first["promoted"] and first["champion_uri"] == a
    assert promote(**given, model=a, accepted=True, against="", owner="job-1") == {
        **first,
        "seconds": pytest.approx(0, abs=9),
    }
    facts = champion(**given)
    assert (facts["model_uri"], facts["digest"], facts["dataset_digest"]) == (a, digest(a), f"{1:064x}")
    assert facts["dataset_uris"] == [f"{store.uri}/datasets/1"]

    bad = promote(**given, model=b, accepted=False, against=digest(a), reason="gain -0.10 < 0", owner="job-2")
    assert not bad["promoted"] and bad["champion_uri"] == a and "rejected (record 1): gain -0.10 < 0" in bad["reason"]
    again = promote(**given, model=b, accepted=True, against=digest(a), owner="job-3")
    assert not again["promoted"] and "was rejected in record 1" in again["reason"]
    nothing_new = promote(**given, model=a, accepted=False, against=digest(a), owner="job-4")
    assert not nothing_new["promoted"] and "is the champion already" in nothing_new["reason"]

    good = promote(**given, model=c, accepted=True, against=digest(a), owner="job-5")
    assert good["promoted"] and good["champion_digest"] == digest(c)
    late = promote(**given, model=b, accepted=True, against=digest(a), owner="job-6")
    assert not late["promoted"] and f"made {digest(c)} the champion" in late["reason"]
    assert [one.kind for one in history(store, "stars").decisions] == ["promote", "reject", "promote"]
    assert history(store, "stars").decisions[2].metrics == {"roc_auc": 0.3}

    back = rollback(**given, reason="labels were wrong")
    assert (back["champion_uri"], back["withdrawn"], back["number"]) == (a, digest(c), 3)
    # The next scheduled run finds the same finished training again: its Model is not promoted a second time.
    same = promote(**given, model=c, accepted=True, against=digest(a), owner="job-7")
    assert not same["promoted"] and "rolled back from in record 3 (labels were wrong)" in same["reason"]


def test_a_persons_orders_are_carried_out_or_fail(store: Store) -> None:
    a, b, c = (small_model(store, number) for number in (1, 2, 3))
    given: dict[str, Any] = {"name": "stars", "store": store.uri}
    promote(**given, model=a)
    with pytest.raises(Superseded):
        promote(**given, model=b, against="")
    assert promote(**given, model=b)["promoted"]
    assert not promote(**given, model=b)["promoted"], "it is the champion already"
    rollback(**given)
    with pytest.raises(WrongInput, match="only with --force"):
        promote(**given, model=b)
    assert promote(**given, model=b, force=True)["promoted"]
    rollback(**given, to="0")
    promote(**given, model=c)
    assert find_model(model="champion:stars", store=store.uri)["model_uri"] == c


def test_a_champion_of_another_store_is_copied(store: Store, tmp_path: Path) -> None:
    elsewhere = open_store(str(tmp_path / "elsewhere"))
    uri = small_model(elsewhere, 1)
    result = promote(name="stars", model=uri, store=store.uri)
    assert result["champion_uri"] == f"{store.uri}/models/{digest(uri)}"
    elsewhere.delete_folder("models")
    found = open_found(result["champion_uri"])
    assert found.card.at == result["champion_uri"] and len(found.read("model.ckpt/model.safetensors")) > 0


def test_a_champion_whose_files_are_gone_is_said(store: Store) -> None:
    a, b = small_model(store, 1), small_model(store, 2)
    for uri in (a, b):
        promote(name="stars", model=uri, store=store.uri)
    store.delete_folder(f"models/{digest(a)}")
    with pytest.raises(WrongInput, match="no Model there"):
        rollback(name="stars", store=store.uri)
    assert champion(name="stars", store=store.uri)["model_uri"] == b, "nothing was decided"
    store.delete_folder(f"models/{digest(b)}")
    with pytest.raises(WrongInput, match="no Model there"):
        champion(name="stars", store=store.uri)


def test_a_store_that_settles_no_races_is_refused(carryover_cli, tmp_path: Path) -> None:
    """A real one: rclone's S3 server ignores conditions, so that two runs would write over each other."""
    uri = small_model(open_store(str(tmp_path / "store")), 1)
    server = s3.start("rclone")
    try:
        place = f"s3://{s3.BUCKET}/careless"
        ended = carryover_cli("promote", "stars", "--model", uri, "--store", place, env=server.env)
        assert ended.rc == 2 and "ignores conditional writes" in ended.stderr, ended.stderr
        assert carryover_cli("champion", "stars", "--store", place, env=server.env).stdout == "no champion yet\n"
    finally:
        server.stop()


def test_the_command_line(carryover_cli, store: Store, tmp_path: Path) -> None:
    a, b = small_model(store, 1), small_model(store, 2)
    place = ("--store", store.uri)
    ended = carryover_cli("champion", "stars", *place, "--outputs-dir", tmp_path / "outputs")
    assert (ended.rc, ended.stdout) == (0, "no champion yet\n"), ended.stderr
    assert (tmp_path / "outputs" / "model_uri").read_text() == ""
    ended = carryover_cli("promote", "stars", "--model", a, *place, "--reason", "the first")
    assert ended.rc == 0 and "promoted as the first (record 0)" in ended.stdout, ended.stderr
    ended = carryover_cli("promote", "stars", "--model", b, *place, "--expect", "", "--output", tmp_path / "out")
    assert ended.rc == 76 and ended.stderr.startswith("error: champion 'stars'"), ended.stderr
    verdict = ("--accepted", "--expect", digest(a), "--outputs-dir", tmp_path / "outputs")
    ended = carryover_cli("promote", "stars", "--model", b, *place, *verdict)
    assert ended.rc == 0, ended.stderr
    assert (tmp_path / "outputs" / "promoted").read_text() == "true"
    assert carryover_cli("rollback", "stars", *place, "--reason", "wrong\nlabels").rc == 0
    ended = carryover_cli("promote", "stars", "--model", b, *place)
    assert ended.rc == 2 and "(wrong labels); it is promoted only with --force" in ended.stderr.replace("\n", " ")
    ended = carryover_cli("champion", "stars", *place, "--output", tmp_path / "out")
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["0", "1"] and lines[2].startswith("*    2  ")
    assert lines[2].endswith(f"rollback          {digest(a)}  against {digest(b)}  wrong labels")
    assert lines[3] == f"model    {a}"
    assert json.loads((tmp_path / "out" / "result.json").read_text())["digest"] == digest(a)
    ended = carryover_cli("find-model", "--model", "champion:starts", *place)
    assert ended.rc == 2 and "no champion of that name; there are stars" in ended.stderr
