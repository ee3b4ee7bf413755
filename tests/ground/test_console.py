"""What lines look like, and that every command takes the flags that say so."""

import json
import os

import click
import pytest

from carryover.cli.everywhere import DEBUG_VARIABLE, FORMAT_VARIABLE
from carryover.cli.main import command
from carryover.ground import console


def every_command(group: click.Group, before: str = ""):
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        assert found, name
        yield before + name, found
        if isinstance(found, click.Group):
            yield from every_command(found, f"{before}{name} ")


def test_every_command_takes_them():
    found = dict(every_command(command))
    assert {"train-ddp", "checkpoint ls", "run", "compile"} <= set(found)
    for name, one in {**found, "": command}.items():
        flags = [flag for option in one.params for flag in option.opts]
        assert flags.count("--log-format") == 1 and flags.count("--debug") == 1, name


def test_a_line_of_json_has_its_fields(capsys, monkeypatch):
    monkeypatch.setenv(FORMAT_VARIABLE, "json")
    console.say("step 3/9", step=3, loss=0.25, label="ü\n")
    console.warn("look", loss=float("nan"), rate=float("inf"))
    console.fail("gone", trouble="store-lost")
    first, second, third = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {"level": "info", "message": "step 3/9", "step": 3, "loss": 0.25, "label": "ü\n"}
    assert (second["level"], second["message"]) == ("warning", "look")
    assert second["loss"] is None and second["rate"] is None
    assert (third["level"], third["message"], third["trouble"]) == ("error", "gone", "store-lost")


def test_a_bar_has_the_lines_printed_above_it(capsys):
    above: list[str] = []
    with console.shown_by(above.append):
        console.say("one")
        console.warn("two")
    console.say("three")
    assert above == ["one", "warning: two"] and capsys.readouterr().err == "three\n"


@pytest.mark.parametrize("words", [["champion", "x", "--log-format", "json"], ["--log-format=json", "champion", "x"]])
def test_all_of_stderr_is_json(carryover_cli, words):
    ended = carryover_cli(*words)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert lines and all({"time", "level", "message"} <= set(line) for line in lines)
    assert "champion 'x'" in lines[-1]["message"]


def test_an_error_is_json_too(carryover_cli):
    ended = carryover_cli("lineage", "nowhere", env={FORMAT_VARIABLE: "json", DEBUG_VARIABLE: "0"})
    assert ended.rc == 2
    assert json.loads(ended.stderr.splitlines()[0])["level"] == "error"


def test_a_format_that_is_none(carryover_cli):
    ended = carryover_cli("champion", "x", env={FORMAT_VARIABLE: "xml"})
    assert ended.rc == 2 and "'xml' is not one of 'auto', 'text', 'json'" in ended.stderr


def test_variables_are_left_as_they_were(capsys):
    from carryover.cli.main import main

    with pytest.raises(SystemExit):
        main(["lineage", "nowhere", "--log-format", "json", "--debug"])
    assert FORMAT_VARIABLE not in os.environ and DEBUG_VARIABLE not in os.environ
    assert "nowhere" in capsys.readouterr().err
