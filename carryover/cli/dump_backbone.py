"""Owns `carryover dump-backbone`."""

from typing import Any

import click

from carryover.cli.options import output_options, store_option
from carryover.cli.params import StepCommand


@click.command("dump-backbone", cls=StepCommand)
@click.option(
    "--model",
    required=True,
    metavar="URI",
    help="A Model (its folder or model.json, run:KEY, champion:NAME); or a run, which may be alive: the URI of its "
    "home, STORE/runs/KEY, for the newest commit, URI@STEP or URI@best (or run:KEY@STEP, run:KEY@best) for that one.",
)
@store_option
@output_options
def command(**arguments: Any) -> None:
    """Write each branch of a trained network as a folder that transformers or timm opens without us.

    LoRA and IA3 adapters are merged into the weights. Each folder is opened again by its library and compared with
    what was trained; nothing is written unless they agree: bit for bit, or within float tolerance of merged adapters.
    """
    from carryover.steps.dump_backbone import dump_backbone

    result = dump_backbone(**arguments)
    for name, check in result["check"].items():
        said = "the same bits" if check["equal"] else f"differs by at most {check['max_difference']:.2g}"
        merged = f", {check['merged']} merged" if check["merged"] else ""
        click.echo(f"{name}: {said}{merged}")
    for name in ("uri", "digest", "bytes"):
        click.echo(f"{name}: {result[name]}")
