"""Owns the flags that every command takes: `--log-format` and `--debug`, also those of commands from entry points.

carryover --debug train-ddp ... = carryover train-ddp --debug ... = CARRYOVER_DEBUG=1 carryover train-ddp ...

A flag sets its variable, which is how it reaches the ranks and pods that the command starts.
"""

import contextlib
import os
from collections.abc import Iterator

import click

from carryover.ground.console import DEBUG_VARIABLE, FORMAT_VARIABLE, FORMATS, libraries_too


def with_everywhere(command: click.Command) -> click.Command:
    """Add the flags to a command, and to those below it; returns the command."""
    if not any(option.envvar == FORMAT_VARIABLE for option in command.params):
        command.params += [_log_format(), _debug()]
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        with_everywhere(below)
    return command


@contextlib.contextmanager
def variables_kept() -> Iterator[None]:
    """Leave the variables as they were, for whoever runs the command line inside another program."""
    before = {name: os.environ.get(name) for name in (FORMAT_VARIABLE, DEBUG_VARIABLE)}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _log_format() -> click.Option:
    def note(_: click.Context, __: click.Parameter, value: str | None) -> None:
        if value:
            os.environ[FORMAT_VARIABLE] = value
            libraries_too()

    return click.Option(
        ["--log-format"],
        type=click.Choice(FORMATS),
        envvar=FORMAT_VARIABLE,
        expose_value=False,
        is_eager=True,
        callback=note,
        help="How progress is told on stderr: a bar on a terminal and plain lines elsewhere (auto), always lines "
        "(text), or one JSON object a line (json).",
    )


def _debug() -> click.Option:
    def note(_: click.Context, __: click.Parameter, value: bool) -> None:
        if value:
            os.environ[DEBUG_VARIABLE] = "1"

    return click.Option(
        ["--debug"],
        is_flag=True,
        envvar=DEBUG_VARIABLE,
        expose_value=False,
        is_eager=True,
        callback=note,
        help="Show the traceback of an error.",
    )
