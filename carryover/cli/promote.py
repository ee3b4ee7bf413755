"""Owns `carryover promote`."""

from typing import Any

import click

from carryover.cli.options import output_options, store_option
from carryover.cli.params import StepCommand


@click.command("promote", cls=StepCommand)
@click.argument("name")
@click.option(
    "--model",
    required=True,
    metavar="URI",
    help="The Model: its folder or model.json, or run:KEY.",
)
@click.option(
    "--expect",
    "against",
    default=None,
    metavar="DIGEST",
    help="Only if this is the champion now; '' for none.  [default: whoever it is]",
)
@click.option("--force", is_flag=True, help="Also a Model that was rejected or rolled back from.")
@click.option("--reason", default="", metavar="TEXT", help="Words for the record.")
@click.option(
    "--accepted/--rejected",
    default=None,
    help="The verdict of a gate: to keep the champion is then no error; a rejected Model is remembered.",
)
@click.option("--owner", default="", metavar="ID", help="Who decides (a workflow's id), for its retries.")
@store_option
@output_options
def command(**arguments: Any) -> None:
    """Make a Model the champion of NAME.

    Exits with 76 when another champion than the expected one is there, and with 2 for a Model that was rejected or
    rolled back from.
    """
    from carryover.steps.promote import promote

    result = promote(**arguments)
    click.echo(f"champion {result['champion_digest'] or 'none'}  {result['champion_uri']}")
    click.echo(result["reason"])
