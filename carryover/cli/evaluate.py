"""Owns `carryover evaluate`: flags in, a summary out; the step does the work."""

from collections.abc import Mapping
from typing import Any

import click

from carryover.cli.options import output_options, store_option
from carryover.cli.params import StepCommand
from carryover.ground.errors import CarryoverError
from carryover.steps.evaluate import evaluate


@click.command("evaluate", cls=StepCommand)
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
    "--dataset",
    required=True,
    multiple=True,
    metavar="URI",
    help="A Dataset to score on. Several may be given; for the gate the first is the new one, the others are old.",
)
@click.option(
    "--baseline", default="", metavar="URI", help="The Model whose place this one would take. None: it is accepted."
)
@click.option(
    "--min-gain",
    type=float,
    metavar="X",
    help="Accept from this gain on: score less the baseline's on the first --dataset, in the first metric's units, "
    "turned so that more is better.",
)
@click.option(
    "--max-forgetting",
    type=float,
    metavar="X",
    help="Accept up to this loss: the baseline's score less the Model's, on every other --dataset.",
)
@click.option(
    "--confident",
    is_flag=True,
    help="Accept only where the 95 % interval (paired bootstrap) holds both as well. Default: as measured.",
)
@click.option("--fail-rejected", is_flag=True, help="End with exit code 1 when the Model is not accepted.")
@click.option(
    "--stage",
    multiple=True,
    metavar="URI",
    help="An earlier Model, the oldest first; --model is the last stage. Several may be given. Gives the task matrix: "
    "scores after each stage on every Dataset, backward and forward transfer.",
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
    """Score a Model on Datasets: metrics, predictions and an HTML report; hold it against a baseline.

    Whether the Model is accepted is said in the result; the exit code is 0 either way, but for --fail-rejected.
    """
    fail_rejected = arguments.pop("fail_rejected")
    result = evaluate(**arguments)
    for dataset in result["datasets"]:
        click.echo(f"{dataset['uri']} ({result['split']}, {dataset['rows']:,} rows)")
        for name, value in dataset["metrics"].items():
            click.echo(f"  {name:<20} {'no value' if value is None else f'{value:.4f}'}")
    click.echo(f"predictions  {result['predictions']}")
    click.echo(f"report       {result['report']}")
    if matrix := result["matrix"]:
        click.echo("\n" + matrix_table(matrix))
        click.echo(f"matrix       {result['matrix_uri']}")
    if result["gate"]:
        click.echo(f"{'accepted' if result['accepted'] else 'not accepted'}: {result['reason']}")
    if fail_rejected and not result["accepted"]:
        raise CarryoverError(f"not accepted: {result['reason']}", trouble="not-accepted")


def matrix_table(matrix: Mapping[str, Any]) -> str:
    """Return the task matrix for a terminal, with the numbers that sum it up."""
    tasks = range(len(matrix["tasks"]))
    lines = [["", *(f"task {j}" for j in tasks)]]
    for stage, scores in enumerate(matrix["scores"]):
        lines.append([f"stage {stage}", *map(_number, scores)])
    lines += [[name, *map(_number, matrix[name])] for name in ("constant", "forgetting")]
    text = [f"{line[0]:<12}" + "".join(f"{cell:>10}" for cell in line[1:]) for line in lines]
    sums = ("average", "backward_transfer", "forward_transfer")
    return "\n".join([f"{matrix['metric']} after each stage", *text, *(f"{n:<20} {_number(matrix[n])}" for n in sums)])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
