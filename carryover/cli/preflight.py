"""Owns `carryover preflight`."""

import click

from carryover.cli.options import output_options, recipe_options, store_option
from carryover.cli.params import StepCommand


@click.command("preflight", cls=StepCommand)
@click.option("--source", multiple=True, metavar="URI", help="The data: file, folder or pattern. Several may be given.")
@click.option("--validation-source", multiple=True, metavar="URI", help="Data to validate on, where it is given apart.")
@click.option("--test-source", multiple=True, metavar="URI", help="Data to test on, where it is given apart.")
@click.option("--label", default="", metavar="COLUMN", help="The column that is to be predicted.")
@recipe_options
@store_option
@output_options
def command(
    source: tuple[str, ...],
    validation_source: tuple[str, ...],
    test_source: tuple[str, ...],
    label: str,
    recipe: str,
    overrides: tuple[str, ...],
    store: str,
    output: str,
    outputs_dir: str,
) -> None:
    """Check recipe, store, credentials and sources in seconds, before anything costs money."""
    from carryover.steps.preflight import preflight

    result = preflight(
        source=source,
        validation_source=validation_source,
        test_source=test_source,
        label=label,
        recipe=recipe,
        overrides=overrides,
        store=store,
        output=output,
        outputs_dir=outputs_dir,
    )
    click.echo(f"preflight: all is well ({result['seconds']:.1f} s)")
