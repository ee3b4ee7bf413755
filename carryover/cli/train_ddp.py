"""Owns `carryover train-ddp`."""

import click

from carryover.cli.options import ManyValues, output_options, recipe_options, store_option


@click.command("train-ddp", cls=ManyValues)
@click.option("--dataset", required=True, metavar="URI", help="What 'carryover prepare-data' printed as uri.")
@recipe_options
@store_option
@output_options
@click.option("--run-key", default="", metavar="KEY", help="Go on with this run; keys not given come from it.")
@click.option(
    "--init-from",
    default="",
    metavar="MODEL",
    help="Extend this Model (its URI or folder, or run:KEY): start with its weights, classes and preprocessing; keys "
    "not given are those it was made with.",
)
@click.option("--owner", default="", metavar="ID", help="Who runs this (a workflow's id); retries supersede at once.")
@click.option("--takeover", is_flag=True, help="Take the run even from an owner that is alive.")
@click.option(
    "--resume",
    type=click.Choice(["auto", "never", "must"]),
    default="auto",
    show_default=True,
    help="never: refuse a run that has commits. must: refuse to start from zero.",
)
@click.option(
    "--nproc-per-node",
    type=int,
    default=None,
    metavar="N",
    help="Ranks: processes to start. Left out: one for each GPU that env.num_gpus allows, one without any.",
)
@click.option("--time-limit", type=float, default=None, metavar="SECONDS", help="Training time; see resume.time_limit.")
@click.option(
    "--trust-pickle",
    is_flag=True,
    help="Let pickled weights of a checkpoint_name hold more than tensors: CODE IN THEM IS RUN, with your rights and "
    "secrets. Only for files whose maker you trust; safetensors never need it. For this start alone: no recipe key.",
)
@click.option(
    "--grace-seconds",
    type=float,
    default=25.0,
    show_default=True,
    metavar="SECONDS",
    help="Time to save in after SIGTERM.",
)
def command(**flags: object) -> None:
    """Train, or go on training where the newest checkpoint stands.

    The run is named by the data and the recipe: the same command finds its own checkpoints again after any kind of
    end, and returns the Model at once when it is finished. SIGTERM saves and exits with 75.
    """
    from carryover.steps.train_ddp import train_ddp

    result = train_ddp(**flags)  # pyright: ignore[reportArgumentType]
    for name in ("uri", "run_key", "checkpoint_uri", "model_step", "step_count", "attempts", "lost_steps"):
        click.echo(f"{name}: {result[name]}")
    for name, value in result["metrics"].items():
        click.echo(f"{name}: {'undefined' if value is None else format(value, '.4f')}")
