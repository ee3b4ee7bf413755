"""Owns `carryover watch`: follow a run on a KFP server, or look after all marked ones, and retry what failed."""

import time
from typing import Any

import click

from carryover.ground.console import say
from carryover.ground.errors import CarryoverError, WrongInput
from carryover_kfp.commands import need_package, server_options
from carryover_kfp.watch_options import MOST_RETRIES, pace_of, watch_options


@click.command("watch")
@click.argument("run_id", metavar="[RUN_ID]", default="")
@server_options
@click.option(
    "--all", "everyone", is_flag=True, help="Look after all runs that are marked (submit --retry-by-watcher)."
)
@watch_options
@click.option(
    "--days", type=float, default=None, metavar="N", help="With --all: runs made before are left.  [default: 30]"
)
@click.option("--once", is_flag=True, help="With --all: look once, retry what failed, and end.")
def watch_command(
    run_id: str,
    host: str,
    namespace: str,
    token: str,
    everyone: bool,
    most_retries: int | None,
    every: float | None,
    pause: float | None,
    days: float | None,
    once: bool,
) -> None:
    """Follow a run on a Kubeflow Pipelines server, and retry it when it fails.

    KFP does not try a step again whose pod was deleted with its machine. A run whose preflight failed, whose last
    attempts all ended at once, or that somebody terminated, is not retried. Ends with 0 when the run succeeded, else
    with 1. Ctrl-C ends the watch, not the run.
    """
    need_package("kfp_server_api")
    from carryover_kfp import remote, watching

    if bool(run_id) == everyone:
        raise WrongInput("carryover watch: say one thing: a RUN_ID, or --all")
    for flag, value in (("--days", days), ("--once", once)):
        if value and not everyone:
            raise WrongInput(f"{flag}: belongs to --all")
    if everyone and most_retries is not None:
        raise WrongInput("--most-retries: with --all each run says its own: carryover submit --retry-by-watcher N")
    if once and (every or pause):
        raise WrongInput("--once: looks once, and retries at once; give no --every and no --pause")
    pace = pace_of(every, pause)
    server = remote.Server(host=host, namespace=namespace, token=token)
    if not everyone:
        follow(server, run_id, most=MOST_RETRIES if most_retries is None else most_retries, pace=pace)
        return
    if (kept := 30.0 if days is None else days) <= 0:
        raise WrongInput(f"--days: {days} is not possible; it must be above 0")
    look_after_all(watching.Watcher(server, pace, kept, click.echo), once=once)


def follow(server: Any, run_id: str, *, most: int, pace: Any) -> None:
    """Follow a run to its end.

    Raises:
        CarryoverError: when it did not succeed.
    """
    from carryover_kfp import watching

    try:
        ended = watching.follow(
            server, run_id, most=most, pace=pace, say=lambda text: click.echo(f"{time.strftime('%H:%M:%S')}  {text}")
        )
    except KeyboardInterrupt:
        say(f"the run goes on; follow it again: carryover watch {run_id} --host {server.host}")
        raise
    if ended.state != watching.SUCCEEDED:
        raise CarryoverError(f"run {run_id} ended as {ended.state}", trouble="step-failed")


def look_after_all(watcher: Any, *, once: bool) -> None:
    """Look again and again; a server that is away for a while is waited for."""
    if once:
        watcher.look(at_once=True)
        return
    watcher.say(f"looking after marked runs of {watcher.server.host}, every {watcher.pace.every:g} s")
    away = False
    while True:
        try:
            watcher.look()
            away = False
        except WrongInput:
            raise
        except CarryoverError as error:
            if not away:
                watcher.say(str(error))
            away = True
        time.sleep(watcher.pace.every)
