"""`--param NAME=VALUE` of the steps' commands: one text for what a shell would repeat, switch or leave out."""

import click
import pytest

from carryover.cli.main import COMMANDS, command
from carryover.cli.params import StepCommand


def parsed(step: str, *words: str) -> dict:
    found = command.get_command(click.Context(command), step)
    assert isinstance(found, StepCommand)
    return found.make_context(step, list(words)).params


def refused(step: str, *words: str) -> str:
    with pytest.raises(click.UsageError) as error:
        parsed(step, *words)
    return error.value.format_message()


def test_lists_switches_and_what_is_empty():
    source = ["a [1], b.csv", "s3://b/c*.csv"]
    params = parsed(
        "prepare-data",
        '--param=source=["a [1], b.csv", "s3://b/c*.csv"]',
        *("--param", 'column-type={"zip": "categorical", "n": "null"}'),
        *("--param", "grow_classes=TRUE"),
        *("--param", "max-drift="),
        *("--param", "validation_source=[]"),
        *("--param", "label=--label"),
    )
    assert list(params["source"]) == source and params["column_types"] == ("zip=categorical", "n=null")
    assert params["grow_classes"] is True and params["max_drift"] is None and params["validation_source"] == ()
    assert params["label"] == "--label", "what is a value never becomes a flag"


def test_one_value_needs_no_list_and_stands_in_its_place():
    params = parsed(
        "evaluate", "--dataset=new", "--param", "dataset=old", "--param", "dataset=", "--param", "min_gain=0"
    )
    assert params["dataset"] == ("new", "old") and params["min_gain"] == 0
    assert parsed("evaluate", "--dataset", "new", "old", "--param", "confident=false")["confident"] is False


@pytest.mark.parametrize(("verdict", "accepted"), [("true", True), ("false", False), ("", None)])
def test_a_switch_with_two_names(verdict, accepted):
    params = parsed("promote", "--model=m", f"--param=accepted={verdict}", "--", "--param")
    assert params["accepted"] is accepted and params["name"] == "--param"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--param", "sorce=a"], "did you mean source?"),
        (["--param", "takeover"], "give NAME=VALUE"),
        (["--param", "param=x"], "no such flag"),
        (["--param", "source=[a, b]"], "several values are a JSON list"),
        (["--param", "source=[[1]]"], "no plain value"),
        (["--param", "grow_classes=yes"], "neither true nor false"),
        (["--param"], "give NAME=VALUE"),
    ],
)
def test_wrong_input(words, said):
    assert said in refused("prepare-data", *words)


def test_every_step_has_it():
    steps = [name for name in COMMANDS if isinstance(command.get_command(click.Context(command), name), StepCommand)]
    assert len(steps) == 9
