"""Owns the command `carryover prepare-data`."""

from typing import Any

import click

from carryover.cli.options import ManyValues, output_options, store_option
from carryover.ground.errors import WrongInput
from carryover.steps.prepare_data import prepare_data


@click.command("prepare-data", cls=ManyValues)
@click.option(
    "--source",
    multiple=True,
    required=True,
    metavar="URI",
    help="CSV, TSV, JSONL or Parquet: a file, a glob, or a folder; or a folder with a folder of images for each class "
    "(columns image and label). Local or in an object store. Several may be given; all need the same columns.",
)
@click.option("--label", required=True, metavar="COLUMN", help="The column to predict.")
@click.option(
    "--validation-source",
    multiple=True,
    metavar="URI",
    help="Rows for validation; none of --source is then taken for it. Several may be given.",
)
@click.option(
    "--test-source",
    multiple=True,
    metavar="URI",
    help="Rows for the test; none of --source is then taken for it. Several may be given.",
)
@click.option(
    "--problem-type",
    default="",
    metavar="TYPE",
    help="binary, multiclass, regression, or classification (either of the first two). Default: from the label.",
)
@click.option(
    "--column-type",
    "column_types",
    multiple=True,
    metavar="COLUMN=TYPE",
    help="categorical, numerical, text, image_path, image_bytes, or null to leave the column out. "
    "Default: from the values. Several may be given.",
)
@click.option("--train-fraction", default=0.8, show_default=True, help="Share of --source for training.")
@click.option("--validation-fraction", default=0.1, show_default=True, help="Share of --source for validation.")
@click.option("--test-fraction", default=0.1, show_default=True, help="Share of --source for the test; 0 is possible.")
@store_option
@output_options
def command(column_types: tuple[str, ...], **arguments: Any) -> None:
    """Turn source files into a Dataset: typed columns, splits, Parquet shards.

    A row's split depends on its own content alone, so new rows move no old ones, and equal rows are never in two
    splits. The same content gives the same Dataset, which is written once. Files are read twice, in pieces, so one
    may be larger than memory; shards wait in the folder for temporary files (TMPDIR) until all are whole.
    """
    result = prepare_data(column_types=dict(_pair(text) for text in column_types), **arguments)
    rows, columns = result["rows"], result["columns"]
    classes = f", {result['classes']} classes" if result["classes"] else ""
    click.echo(f"problem   {result['problem_type']}{classes}, label {result['label']}")
    click.echo("columns   " + ", ".join(f"{name}: {type}" for name, type in columns.items() if name != result["label"]))
    click.echo("rows      " + ", ".join(f"{name} {count:,}" for name, count in rows.items()))
    click.echo(f"digest    {result['digest']}{'' if result['changed'] else ' (unchanged)'}")
    click.echo(f"uri       {result['uri']}")


def _pair(text: str) -> tuple[str, str]:
    name, equals, type = text.rpartition("=")
    if not equals or not name:
        raise WrongInput(f"--column-type {text}: must be COLUMN=TYPE")
    return name, type
