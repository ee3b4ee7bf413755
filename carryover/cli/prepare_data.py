"""Owns the command `carryover prepare-data`."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from carryover.cli.options import output_options, store_option
from carryover.cli.params import StepCommand
from carryover.ground.errors import WrongInput
from carryover.steps.prepare_data import prepare_data

SHOWN = 20


@click.command("prepare-data", cls=StepCommand)
@click.option(
    "--source",
    multiple=True,
    required=True,
    metavar="URI",
    help="CSV, TSV, JSONL or Parquet: a file, a glob, or a folder; a folder with a folder of images for each class "
    "(columns image and label); COCO's instances .json; a VOC root, its Annotations or one of its lists. Local or in "
    "an object store. Several may be given; all need the same columns.",
)
@click.option(
    "--label",
    default="",
    metavar="COLUMN",
    help="The column to predict. Not needed with --schema-from, nor of COCO and VOC (rois).",
)
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
    help="binary, multiclass, regression, or classification (either of the first two). Default: from the label. "
    "object_detection (of COCO and VOC by itself) and semantic_segmentation are never guessed.",
)
@click.option(
    "--column-type",
    "column_types",
    multiple=True,
    metavar="COLUMN=TYPE",
    help="categorical, numerical, text, image_path, image_bytes, identifier (kept, never learned from), boxes or mask "
    "(labels), or null to leave the column out. "
    "Default: from the values. Several may be given.",
)
@click.option("--train-fraction", default=0.8, show_default=True, help="Share of --source for training.")
@click.option("--validation-fraction", default=0.1, show_default=True, help="Share of --source for validation.")
@click.option("--test-fraction", default=0.1, show_default=True, help="Share of --source for the test; 0 is possible.")
@click.option(
    "--schema-from",
    default="",
    metavar="URI",
    help="Follow the schema of this Model (URI, folder or run:KEY) or Dataset: label, column types, problem type and "
    "classes in their order. All that does not fit is listed in one error; how far each column drifted is shown.",
)
@click.option(
    "--grow-classes",
    is_flag=True,
    help="With --schema-from: append classes that it does not have to its own, instead of an error.",
)
@click.option(
    "--max-drift",
    type=float,
    default=None,
    metavar="PSI",
    help="With --schema-from: fail when a column's drift is above this, and above chance. 0.1 is little, 0.25 much.",
)
@click.option(
    "--image-root",
    default="",
    metavar="URI",
    help="Folder of the pictures that COCO or VOC name. Default: looked for beside the annotations.",
)
@click.option(
    "--ignore-label",
    type=int,
    default=None,
    metavar="ID",
    help="Id of mask pixels that are of no class; they are stored as 255. Default: only 255 is ignored.",
)
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
    _show_columns({name: type for name, type in columns.items() if name != result["label"]})
    click.echo("rows      " + ", ".join(f"{name} {count:,}" for name, count in rows.items()))
    _show_label(result.get("label_statistics"))
    _show_drift(result.get("drift", ()))
    click.echo(f"digest    {result['digest']}{'' if result['changed'] else ' (unchanged)'}")
    click.echo(f"uri       {result['uri']}")
    if report := result.get("report"):
        click.echo(f"report    {report}")


def _show_columns(types: Mapping[str, str]) -> None:
    """Show the columns that are learned from by their type, and which are left out."""
    word = "columns"
    for type in dict.fromkeys(types.values()):
        names = [name for name, other in types.items() if other == type]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        told = "left out" if type == "null" else type
        click.echo(f"{word:9} {told} ({len(names)}): {', '.join(names[:SHOWN])}{more}")
        word = ""


def _show_label(told: Mapping[str, Any] | None) -> None:
    """Show the train split's boxes or pixels of each class."""
    if not told:
        return
    if "boxes" in told:
        sizes = ", ".join(f"{count:,} {size}" for size, count in told["sizes"].items())
        click.echo(
            f"boxes     {told['boxes']:,} in {told['count']:,} pictures of train, {told['missing']:,} without; {sizes}"
        )
    counts = told.get("counts") or told.get("pixels") or {}
    total = sum(counts.values())
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{name}: {count:,} ({count / total:.1%})" for name, count in ranked[:SHOWN]]
    more = [f"and {len(ranked) - SHOWN} more"] if len(ranked) > SHOWN else []
    click.echo(f"{'classes' if 'boxes' in told else 'pixels':9} " + ", ".join([*shown, *more]))
    for reason, count in told.get("dropped", {}).items():
        click.echo(f"dropped   {count:,} boxes {reason}")


def _show_drift(drift: Sequence[Mapping[str, Any]]) -> None:
    """Show which columns moved how far, the worst first."""
    if not drift:
        return
    width = max(len(one["column"]) for one in drift[:SHOWN])
    click.echo(f"drift     {'column':{width}}  {'PSI':>7}  {'chance':>7}  missing           verdict")
    for one in drift[:SHOWN]:
        psi, chance = (f"{value:7.3f}" if value is not None else "      -" for value in (one["psi"], one["chance"]))
        before, now = (f"{share:.1%}" for share in one["missing"])
        unseen = f", {one['unseen']:.1%} of the rows in new categories" if one["unseen"] else ""
        words = f"{one['word']}{unseen}{': ' + one['why'] if one['why'] else ''}"
        click.echo(f"          {one['column']:{width}}  {psi}  {chance}  {before:>6} -> {now:<6}  {words}")
    if len(drift) > SHOWN:
        click.echo(f"          and {len(drift) - SHOWN} columns more, less far")


def _pair(text: str) -> tuple[str, str]:
    name, equals, type = text.rpartition("=")
    if not equals or not name:
        raise WrongInput(f"--column-type {text}: must be COLUMN=TYPE")
    return name, type
