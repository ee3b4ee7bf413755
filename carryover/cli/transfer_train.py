"""Owns `carryover transfer-train`."""

import click

from carryover.cli.options import (
    echo_training,
    output_options,
    recipe_options,
    store_option,
    training_options,
)
from carryover.cli.params import StepCommand


@click.command("transfer-train", cls=StepCommand)
@click.option(
    "--backbone",
    required=True,
    metavar="URI",
    help="What the new task starts from: a Backbone, a Model (run:KEY, champion:NAME), a folder of transformers, timm "
    "or AutoMM, a .safetensors, .pt, .bin or .ckpt file, or a hub name.",
)
@click.option("--strict", is_flag=True, help="Any gap is an error: new tensors (but heads), resized or ignored ones.")
@click.option("--dataset", required=True, metavar="URI", help="What 'carryover prepare-data' printed as uri.")
@recipe_options
@store_option
@output_options
@training_options
def command(**flags: object) -> None:
    """Train a new task from other weights: those that fit by name and shape are taken, a table says which.

    Schema, classes and head are those of the new data; tokenizer and architecture come from the source where
    model.<branch>.checkpoint_name is not given. The run is named by the data, the recipe and the source's content: the
    same command goes on with it, wherever the source lies now. After its first commit the source is needed no more.
    """
    from carryover.steps.transfer_train import transfer_train

    echo_training(transfer_train(**flags))  # pyright: ignore[reportArgumentType]
