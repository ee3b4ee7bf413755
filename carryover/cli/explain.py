"""Owns `carryover explain`: what an error means, why it comes, and the way out."""

import shutil
import sys
import textwrap

import click

from carryover.ground import trouble_page
from carryover.ground.config import nearest
from carryover.ground.errors import WrongInput


@click.command("explain")
@click.argument("name", default="")
@click.option("--all", "whole", is_flag=True, help="Print every entry, as docs/troubleshooting.md.")
def command(name: str, whole: bool) -> None:
    """Say what the error NAME means, why it comes, and the way out; without a NAME, list all of them.

    The last line of an error names its entry: "more: carryover explain NAME".
    """
    if whole and name:
        raise WrongInput("--all: says every entry; leave out the name")
    if whole:
        click.echo(trouble_page.page(), nl=False)
        return
    entries = trouble_page.entries()
    if not name:
        for part, inside in trouble_page.by_part().items():
            click.echo(f"{part}:")
            for entry in inside:
                click.echo(_listed(entry))
        return
    if name not in entries:
        near = nearest(name, entries)
        meant = f"; did you mean '{near}'?" if near else "; carryover explain lists all"
        raise WrongInput(f"explain: there is no entry '{name}'{meant}", trouble="unknown-key")
    click.echo(_shown(entries[name], bold=sys.stdout.isatty()))


def _listed(entry: trouble_page.Entry) -> str:
    """Return a line of the list, wrapped where a person reads it."""
    line = f"  {entry.name:<26}{entry.title.replace('`', '')}"
    if not sys.stdout.isatty():
        return line
    return textwrap.fill(line, shutil.get_terminal_size().columns - 1, subsequent_indent=" " * 28)


def _shown(entry: trouble_page.Entry, *, bold: bool) -> str:
    """Return an entry as plain text: without the marks of its page, its words in lines of a terminal."""
    title = f"{entry.name}: {entry.title}"
    lines = [click.style(title, bold=True) if bold else title]
    for label, text in entry.parts.items():
        plain = text.replace("`", "")
        lines += ["", *textwrap.wrap(f"{label}: {plain}", 98, subsequent_indent="  ", break_on_hyphens=False)]
    return "\n".join(lines)
