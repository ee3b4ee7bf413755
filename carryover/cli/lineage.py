"""Owns `carryover lineage`: where a Model comes from, as text, JSON, a drawing or a page."""

import json

import click

from carryover.cli.options import store_option
from carryover.report.lineage import lineage_text
from carryover.steps.lineage import lineage


@click.command("lineage")
@click.argument("source", metavar="URI")
@click.option("--html", default="", metavar="FILE", help="Write a page here, complete in itself.")
@click.option("--svg", default="", metavar="FILE", help="Write the drawing alone here.")
@click.option("--json", "as_json", is_flag=True, help="Print the nodes as JSON, newest first.")
@store_option
def command(source: str, html: str, svg: str, as_json: bool, store: str) -> None:
    """Show what a Model or Backbone was made from, back to the first.

    URI is its folder or card, run:KEY or champion:NAME. Ancestors whose folders are gone are shown as the card
    remembers them.
    """
    found = lineage(source, store=store, html=html, svg=svg)
    if as_json:
        click.echo(json.dumps([known.to_json() for known in found], indent=1, ensure_ascii=False))
        return
    click.echo(lineage_text(found))
    for words, place in (("page", html), ("drawing", svg)):
        if place:
            click.echo(f"{words}  {place}")
