"""Owns the flags that several commands share, so that each is spelled and explained once."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import click

from carryover.ground.errors import WrongInput
from carryover.ground.uris import scheme_of
from carryover.launch.nodes import LAUNCHERS, PORT, TORCHRUN


class ManyValues(click.Command):
    """A command whose repeatable flags take several values at once: `--source a.csv b.csv`, as a shell gives *.csv."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat such a flag before each further value, then parse as click does."""
        flags = {
            flag
            for option in self.params
            if isinstance(option, click.Option) and option.multiple
            for flag in option.opts
        }
        spelled: list[str] = []
        current, has_value = "", False
        for word in args:
            if word.startswith("-"):
                flag, equals, _ = word.partition("=")
                current, has_value = (flag if flag in flags else ""), bool(equals)
            elif current and has_value:
                spelled.append(current)
            else:
                has_value = True
            spelled.append(word)
        return super().parse_args(ctx, spelled)


def store_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --store."""
    return click.option(
        "--store",
        default="",
        metavar="URI",
        help="Where all that lasts is kept: a path, s3://, gs:// or others. Default: ./.carryover",
    )(function)


def folder(_: click.Context, option: click.Parameter, value: str) -> str:
    """Return a folder to write to; one that can't be one is refused before the work, not after it."""
    if value and scheme_of(value) == "file" and os.path.lexists(value) and not os.path.isdir(value):
        raise WrongInput(
            f"{option.opts[0]} {value}: is no folder; give a folder, or another name", trouble="path-refused"
        )
    if value and scheme_of(value) != "file" and option.opts[0] == "--outputs-dir":
        raise WrongInput(f"{option.opts[0]} {value}: is a folder of this machine; --store is for all that lasts")
    return value


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --output and --outputs-dir."""
    function = click.option(
        "--outputs-dir",
        default="",
        metavar="DIR",
        callback=folder,
        help="Write one small file per output here (for Argo's valueFrom.path).",
    )(function)
    return click.option(
        "--output",
        default="",
        metavar="DIR",
        callback=folder,
        help="Write the artifact and result.json to this folder too.",
    )(function)


def recipe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --recipe and --set."""
    function = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set one key of the recipe, e.g. optimization.learning_rate=2e-5. Several may be given.",
    )(function)
    return click.option(
        "--recipe", default="", metavar="FILE", help="The recipe: a YAML file, or the YAML text itself."
    )(function)


_TRAINING = (
    click.option("--run-key", default="", metavar="KEY", help="Go on with this run; keys not given come from it."),
    click.option(
        "--owner", default="", metavar="ID", help="Who runs this (a workflow's id); retries supersede at once."
    ),
    click.option("--takeover", is_flag=True, help="Take the run even from an owner that is alive."),
    click.option(
        "--resume",
        type=click.Choice(["auto", "never", "must"]),
        default="auto",
        show_default=True,
        help="never: refuse a run that has commits. must: refuse to start from zero.",
    ),
    click.option(
        "--nproc-per-node",
        type=int,
        default=None,
        metavar="N",
        help="Ranks: processes to start. Left out: one for each GPU that env.num_gpus allows, one without any.",
    ),
    click.option(
        "--launcher",
        type=click.Choice(list(LAUNCHERS)),
        default=TORCHRUN,
        show_default=True,
        help="Who starts the ranks: torchrun, here, or a TrainJob of Kubeflow Trainer, which this then waits for.",
    ),
    click.option(
        "--num-nodes",
        type=int,
        default=1,
        show_default=True,
        metavar="N",
        help="Machines that train together: pods of a TrainJob, or each with the same command but for --node-rank.",
    ),
    click.option("--node-rank", type=int, default=None, metavar="R", help="Which of them this is; 0 leads."),
    click.option("--master-addr", default="", metavar="HOST", help="Name or address of node 0."),
    click.option("--master-port", type=int, default=PORT, show_default=True, metavar="P", help="Where node 0 listens."),
    click.option(
        "--job",
        default="",
        metavar="FILE",
        help="With --launcher trainjob, what its pods are (image, gpu, memory, queue ..): a YAML file, or YAML text.",
    ),
    click.option(
        "--lease",
        default="",
        metavar="NAME",
        help="Of a TrainJob's pods: save and end with 76 when nobody who waits moves this lease on any more.",
    ),
    click.option(
        "--lease-seconds", type=float, default=1800, show_default=True, metavar="SECONDS", help="How long it may stand."
    ),
    click.option(
        "--time-limit", type=float, default=None, metavar="SECONDS", help="Training time; see resume.time_limit."
    ),
    click.option(
        "--trust-pickle",
        is_flag=True,
        help="Let pickled weights of others hold more than tensors: CODE IN THEM IS RUN, with your rights and secrets. "
        "Only for files whose maker you trust; safetensors never need it. For this start alone: no recipe key.",
    ),
    click.option(
        "--grace-seconds",
        type=float,
        default=None,
        metavar="SECONDS",
        help="Time to save in after SIGTERM. Left out: 25, and 90 in the pods of a TrainJob.",
    ),
)


def training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every training step takes beside its inputs: who runs it, where it goes on, and on what."""
    for option in reversed(_TRAINING):
        function = option(function)
    return function


def echo_training(result: Mapping[str, Any]) -> None:
    """Print what a training step gives; a node that does not lead gives nothing."""
    if not result:
        return
    for name in ("uri", "run_key", "checkpoint_uri", "model_step", "step_count", "attempts", "lost_steps", "report"):
        click.echo(f"{name}: {result[name]}")
    for name, value in result["metrics"].items():
        click.echo(f"{name}: {'undefined' if value is None else format(value, '.4f')}")
