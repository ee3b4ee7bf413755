"""Owns `carryover report`: the page of a training, made now."""

import click

from carryover.cli.options import store_option


@click.command("report")
@click.argument("source", metavar="RUN")
@click.option(
    "--output", default="", metavar="DIR", help="Write it there instead of into the run's folder; or a name with .html."
)
@store_option
def command(source: str, output: str, store: str) -> None:
    """Make the report of a training now: curves, attempts over the clock, what saves cost, what was lost.

    RUN is a run's key or home, run:KEY, champion:NAME, or the URI of a Model. The run may be running, finished or dead.
    """
    from carryover.steps.training_pages import report

    click.echo(f"report  {report(source, store=store, output=output)}")
