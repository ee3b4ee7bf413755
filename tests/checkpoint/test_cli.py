"""`carryover checkpoint` as a person uses it."""

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import object_name
from carryover.checkpoint.retention import Keep
from carryover.cli.main import main
from tests.checkpoint.support import end, flip, save, spoil, start
from tests.support.last_words import only_error_of


@pytest.fixture
def filled(home: RunHome) -> RunHome:
    writer = start(home)
    for step, score in ((10, 0.5), (20, 0.75), (30, 0.7), (40, None)):
        save(writer, step, score=score, keep=Keep(last=2, best=1))
    end(writer, 40)
    return home


def _run(*arguments: str) -> int:
    try:
        main(["checkpoint", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_ls_lists_what_is_kept_in_columns(filled: RunHome, capsys: pytest.CaptureFixture) -> None:
    assert _run("ls", filled.store.uri) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == filled.store.uri
    assert lines[1].split() == "number kind attempt step epoch score size kept time note".split()
    assert [line.split()[:2] for line in lines[2:]] == [
        ["0", "claim"],
        ["2", "commit"],
        ["3", "commit"],
        ["4", "commit"],
        ["5", "finish"],
    ]
    at = lines[1].index("kind")
    assert all(line[at - 2 : at] == "  " and line[at].isalpha() for line in lines[2:])
    assert lines[3].split()[2:6] == ["1", "20", "2", "0.75"]


def test_ls_log_lists_every_record(filled: RunHome, capsys: pytest.CaptureFixture) -> None:
    assert _run("ls", "--log", filled.store.uri) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_show_says_what_is_in_a_checkpoint(filled: RunHome, capsys: pytest.CaptureFixture) -> None:
    assert _run("show", filled.store.uri) == 0
    out = capsys.readouterr().out
    assert "record   4 (commit)" in out and "step     40" in out and '"position": 320' in out
    assert "model        2  F32     4.0 kB" in out
    assert _run("show", filled.store.uri, "--number", "5") == 0
    out = capsys.readouterr().out
    assert "metric accuracy  0.5" in out and "tokenizer/vocab.txt" in out


def test_run_is_named_by_store_and_key_too(filled: RunHome, capsys: pytest.CaptureFixture) -> None:
    store = filled.store.uri.removesuffix("/runs/key")
    assert _run("ls", store, "--run-key", "key") == 0
    first = capsys.readouterr().out
    assert _run("ls", "--store", store, "--run-key", "key") == 0
    assert capsys.readouterr().out == first
    assert _run("ls", "run:key", "--store", store) == 0
    assert capsys.readouterr().out == first
    assert _run("ls", "run:other", "--store", store) == 2
    assert "other: there is no such run" in capsys.readouterr().err


def test_verify_passes_a_whole_run_and_fails_a_spoilt_one(filled: RunHome, capsys: pytest.CaptureFixture) -> None:
    assert _run("verify", filled.store.uri) == 0
    assert "6 records" in capsys.readouterr().out
    name = object_name(filled.commits()[0].table.digest)
    spoil(filled, name, flip)
    assert _run("verify", filled.store.uri) == 1
    captured = capsys.readouterr()
    assert f"damaged: {name}: content has changed" in captured.out
    assert only_error_of(captured.err)


def test_wrong_place_is_one_clear_error(local: RunHome, capsys: pytest.CaptureFixture) -> None:
    store = local.store.uri.removesuffix("/runs/key")
    for arguments, says in [
        (["ls", f"{store}/none"], "no run there"),
        (["ls", store], "it is a store with runs key: name one by --run-key"),
        (["show", store, "--run-key", "kex"], "no run there"),
        (["verify", "ftp://host/x"], "scheme 'ftp' is not supported"),
        (["verify", f"simplecache::{store}"], "chained URIs"),
        (["ls"], "name the run once"),
        (["ls", store, "--store", store], "name the run once"),
        (["ls", "--store", store], "give --run-key"),
        (["show", local.store.uri], "no checkpoint yet"),
        (["show", local.store.uri, "--number", "7"], "has no such record"),
    ]:
        assert _run(*arguments) == 2, arguments
        assert says in only_error_of(capsys.readouterr().err)


def test_a_key_that_there_is_not_names_those_that_there_are(local: RunHome, capsys: pytest.CaptureFixture) -> None:
    store = local.store.uri.removesuffix("/runs/key")
    for command in ("ls", "show", "verify", "prune"):
        assert _run(command, store, "--run-key", "no") == 2
        assert "/runs/no: no run there" in (said := only_error_of(capsys.readouterr().err))
        assert said.endswith("; its runs are key")
        assert _run(command, local.store.uri, "--run-key", "key") == 2
        assert f"{local.store.uri} is a run home itself: leave out --run-key" in capsys.readouterr().err


@pytest.mark.slow  # the client tries for ten seconds
def test_store_that_does_not_answer_is_one_clear_error(carryover_cli) -> None:
    nobody = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "none"}
    ended = carryover_cli("checkpoint", "ls", "s3://not-there/runs/key", env=nobody)
    assert ended.rc == 2
    assert "can't be read" in only_error_of(ended.stderr)
