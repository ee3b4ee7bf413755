"""Owns `carryover doctor`: findings as a table on a terminal, as lines in a log, as JSON for machines."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from carryover.ground.errors import WrongInput

if TYPE_CHECKING:
    from carryover.steps.doctor_look import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@click.option("--store", default="", metavar="URI", help="Try a store: each call of a run, its conditions and speed.")
@click.option("--host", default="", envvar="KF_PIPELINES_ENDPOINT", metavar="URL", help="Look at a KFP server.")
@click.option("--namespace", default="", metavar="NS", help="Look at a cluster's namespace. In a pod: its own.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object instead of a table.")
def command(store: str, host: str, namespace: str, is_json: bool) -> None:
    """Look at this machine, a store, a KFP server and a cluster: what is wrong, and how to mend it.

    Exits with 0 where nothing failed, else with 2. Nothing is changed: what is written to a store is removed again.
    Secrets are never shown.
    """
    from carryover.steps.doctor import doctor

    looks = doctor(store=store, host=host, namespace=namespace)
    if is_json or sys.stdout.isatty():
        found = [one for look in looks for one in look]
        click.echo(json.dumps({"findings": [asdict(one) for one in found]}, indent=2)) if is_json else _table(found)
    else:
        found = []
        for look in looks:
            for one in look:
                found.append(one)
                click.echo(_line(one))
    failed = [one for one in found if one.state == "fail"]
    if failed:
        names = ", ".join(one.name for one in failed)
        trouble = next((one.trouble for one in failed if one.trouble), "internal")
        raise WrongInput(f"doctor: {len(failed)} of {len(found)} looks failed: {names}", trouble=trouble)


def _line(one: "Finding") -> str:
    mend = f"; {one.mend}" if one.mend else ""
    more = f" (carryover explain {one.trouble})" if one.trouble and one.state != "ok" else ""
    return f"{one.state:<5} {one.name:<18} {one.found}{mend}{more}"


def _table(found: Sequence["Finding"]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("look", no_wrap=True)
    table.add_column("found, and how to mend it", overflow="fold")
    for one in found:
        words = Text(one.found)
        if one.mend:
            words.append(f"\n{one.mend}", style="bold")
        if one.trouble and one.state != "ok":
            words.append(f"\ncarryover explain {one.trouble}", style="dim")
        table.add_row(Text(one.state, style=_COLOURS[one.state]), Text(one.name), words)
    Console().print(table)
