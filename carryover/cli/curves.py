"""Owns `carryover curves`: the curves of runs, or of all generations of a model, as pictures and a page."""

import click

from carryover.cli.options import store_option


@click.command("curves")
@click.argument("sources", nargs=-1, required=True, metavar="RUN...")
@click.option("--output", default="curves", show_default=True, metavar="DIR", help="Folder for pictures and page.")
@click.option("--generations", is_flag=True, help="All runs that led to it too, one after the other: a model's life.")
@store_option
def command(sources: tuple[str, ...], output: str, generations: bool, store: str) -> None:
    """Draw the curves of a run as PNG and SVG; of several, over each other.

    RUN is a run's key or home, run:KEY, champion:NAME, or the URI of a Model. With --generations the runs that it was
    extended or transferred from come before it, and a page tells of each; what is gone is said.
    """
    from carryover.steps.training_pages import curves

    for name in curves(sources, store=store, output=output, generations=generations):
        click.echo(name)
