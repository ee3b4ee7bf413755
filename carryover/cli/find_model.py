"""Owns `carryover find-model`."""

from typing import Any

import click

from carryover.cli.options import output_options, store_option
from carryover.cli.params import StepCommand


@click.command("find-model", cls=StepCommand)
@click.option(
    "--model", required=True, metavar="URI", help="A Model: its folder or model.json, run:KEY, or champion:NAME."
)
@store_option
@output_options
def command(**arguments: Any) -> None:
    """Say which Model a word means now, and which Dataset it was trained on."""
    from carryover.steps.find_model import find_model

    result = find_model(**arguments)
    click.echo(f"digest   {result['digest']}")
    click.echo(f"model    {result['model_uri']}")
    click.echo(f"dataset  {result['dataset_uri']}")
