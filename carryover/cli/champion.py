"""Owns `carryover champion`: who it is, and how it came to that."""

import click

from carryover.carry.decision import Decision
from carryover.cli.options import output_options, store_option
from carryover.cli.params import StepCommand


@click.command("champion", cls=StepCommand)
@click.argument("name")
@store_option
@output_options
def command(name: str, store: str, output: str, outputs_dir: str) -> None:
    """Show the champion of NAME and every decision that led there.

    Wherever a Model is asked for, champion:NAME stands for it.
    """
    from carryover.carry.champion import history
    from carryover.ground.storage import open_store
    from carryover.steps.champion import champion
    from carryover.steps.results import resolve_store

    # The history comes first: it is wanted most where the champion's own files are gone.
    known = history(open_store(resolve_store(store)), name)
    for decision in known.decisions:
        click.echo(_line(decision, now=decision == known.champion))
    result = champion(name=name, store=store, output=output, outputs_dir=outputs_dir)
    if not result["digest"]:
        click.echo("no champion yet")
        return
    click.echo(f"model    {result['model_uri']}")
    click.echo(f"dataset  {result['dataset_uri']}")


def _line(decision: Decision, *, now: bool) -> str:
    kind = f"{decision.kind}{' (forced)' if decision.forced else ''}"
    what = f"{kind:<16}  {decision.model.digest}  against {decision.against or 'none'}"
    reason = " ".join(decision.reason.split())
    return f"{'*' if now else ' '} {decision.number:>4}  {decision.time[:19]}  {what}  {reason}".rstrip()
