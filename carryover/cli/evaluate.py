"""Owns `carryover evaluate`: flags in, a summary out; the step does the work."""

from typing import Any

import click

from carryover.cli.options import ManyValues, output_options, store_option
from carryover.steps.evaluate import evaluate


@click.command("evaluate", cls=ManyValues)
@click.option(
    "--model",
    default="",
    metavar="URI",
    help="The Model: its folder or model.json, a folder with its card, or run:KEY.",
)
@click.option(
    "--zero-shot",
    default="",
    metavar="CHECKPOINT",
    help="A CLIP or SigLIP checkpoint (hub name or folder) instead of a Model: tells classes of images by their names.",
)
@click.option(
    "--class-name",
    multiple=True,
    metavar="CLASS=WORDS",
    help="With --zero-shot: what a class is called. Several may be given. Default: the label's value.",
)
@click.option(
    "--prompt",
    multiple=True,
    metavar="TEXT",
    help="With --zero-shot: a text about an image, {} for the class. Several are averaged. Default: a photo of a {}.",
)
@click.option(
    "--dataset", required=True, multiple=True, metavar="URI", help="A Dataset to score on. Several may be given."
)
@click.option("--split", default="test", show_default=True, help="Rows to score on: train, validation or test.")
@click.option(
    "--metric",
    multiple=True,
    metavar="NAME",
    help="A score, e.g. accuracy, f1_macro, rmse. Several may be given. Default: the usual ones of the problem type.",
)
@click.option("--batch-size", default=64, show_default=True, help="Rows at once; changes speed, not scores.")
@store_option
@output_options
def command(**arguments: Any) -> None:
    """Score a Model on Datasets: metrics, predictions and an HTML report."""
    result = evaluate(**arguments)
    for dataset in result["datasets"]:
        click.echo(f"{dataset['uri']} ({result['split']}, {dataset['rows']:,} rows)")
        for name, value in dataset["metrics"].items():
            click.echo(f"  {name:<20} {'no value' if value is None else f'{value:.4f}'}")
    click.echo(f"predictions  {result['predictions']}")
    click.echo(f"report       {result['report']}")
