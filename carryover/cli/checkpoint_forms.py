"""Owns `carryover checkpoint import` and `export`: between runs of ours and files of other trainers."""

import click

from carryover.cli.options import ManyValues, recipe_options, store_option


@click.command("export")
@click.argument("source")
@click.option("-o", "--output", required=True, metavar="FILE", help="The .safetensors file to write, not there yet.")
@store_option
def export_command(source: str, output: str, store: str) -> None:
    """Write the weights of a Model or of a commit to one local safetensors file.

    SOURCE is a Model (its URI, run:KEY, champion:NAME), or a run's home with or without @STEP or @best.
    """
    from carryover.steps.checkpoint_export import export_checkpoint
    from carryover.steps.results import resolve_store

    result = export_checkpoint(source, output, store=resolve_store(store))
    for name, value in result.items():
        click.echo(f"{name}: {value}")


@click.command("import", cls=ManyValues)
@click.argument("source")
@click.option("--dataset", required=True, metavar="URI", help="What 'carryover prepare-data' printed as uri.")
@recipe_options
@store_option
@click.option("--weights-only", is_flag=True, help="Leave optimizer and counters behind: the run starts at step 0.")
@click.option(
    "--keep-best",
    is_flag=True,
    help="The file's best value is one of optimization.val_metric, which later checks have to beat. Left out: it is "
    "not taken, since the file does not say of what it is.",
)
@click.option("--strict", is_flag=True, help="Any gap is an error: new tensors (but heads), resized or ignored ones.")
@click.option("--trust-pickle", is_flag=True, help="As in train-ddp: CODE IN THE FILE IS RUN, with your rights.")
def import_command(source: str, **flags: object) -> None:
    """Make a run whose first commit has another program's weights, optimizer state, step and epoch.

    SOURCE is a file with {model_state_dict, optimizer_state_dict, global_step, epoch, ...} or {model, optimizer, step,
    epoch, ...}; of all else that transfer-train reads, the weights, at step 0. Optimizer state goes by parameter names.
    `carryover train-ddp --run-key KEY` goes on with it, behind the epoch that was saved.
    """
    from carryover.steps.checkpoint_import import import_checkpoint

    for name, value in import_checkpoint(source, **flags).items():  # pyright: ignore[reportArgumentType]
        click.echo(f"{name}: {value}")
