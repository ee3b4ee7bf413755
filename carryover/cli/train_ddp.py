"""Owns `carryover train-ddp`."""

import click

from carryover.cli.options import (
    echo_training,
    output_options,
    recipe_options,
    store_option,
    training_options,
)
from carryover.cli.params import StepCommand


@click.command("train-ddp", cls=StepCommand)
@click.option("--dataset", required=True, metavar="URI", help="What 'carryover prepare-data' printed as uri.")
@recipe_options
@store_option
@output_options
@click.option(
    "--init-from",
    default="",
    metavar="MODEL",
    help="Extend this Model (its URI or folder, or run:KEY): start with its weights, classes and preprocessing; keys "
    "not given are those it was made with.",
)
@click.option(
    "--grow-classes",
    is_flag=True,
    help="With --init-from: classes that the Model does not know get outputs behind its own, instead of an error.",
)
@click.option(
    "--extend-set",
    "extend_overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="As --set, but left out where --init-from is empty, e.g. data.mode=delta. Several may be given.",
)
@training_options
def command(**flags: object) -> None:
    """Train, or go on training where the newest checkpoint stands.

    The run is named by the data and the recipe: the same command finds its own checkpoints again after any kind of
    end, and returns the Model at once when it is finished. SIGTERM saves and exits with 75.
    """
    from carryover.steps.train_ddp import train_ddp

    result = train_ddp(**flags)  # pyright: ignore[reportArgumentType]
    echo_training(result)
