"""Owns `carryover rollback`."""

from typing import Any

import click

from carryover.cli.options import output_options, store_option


@click.command("rollback")
@click.argument("name")
@click.option(
    "--to",
    default="",
    metavar="DIGEST|NUMBER",
    help="An earlier champion: its digest or the beginning of it, or the number of a record that made one (carryover "
    "champion NAME lists them).  [default: the one before]",
)
@click.option("--reason", default="", metavar="TEXT", help="Words for the record.")
@click.option("--owner", default="", metavar="ID", help="Who decides (a workflow's id).")
@store_option
@output_options
def command(**arguments: Any) -> None:
    """Go back to an earlier champion of NAME; today's is not promoted again unless it is forced."""
    from carryover.steps.rollback import rollback

    result = rollback(**arguments)
    click.echo(f"champion {result['champion_digest']}  {result['champion_uri']}")
    click.echo(f"record {result['number']}: back from {result['withdrawn']}")
