"""Owns `carryover schedule`: make, list, pause, resume and delete the schedules on a KFP server."""

from collections.abc import Callable
from typing import Any

import click

from carryover.ground.errors import WrongInput
from carryover_kfp.commands import (
    complete,
    image_option,
    need_kfp,
    parameter_options,
    profiled,
    server_options,
    service_account_option,
    watcher_option,
)
from carryover_kfp.pod_options import Flags, pod_options


def _label_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a schedule's runs are called and belong to."""
    function = watcher_option(service_account_option(function))
    function = click.option("--pipeline-root", default="", metavar="URI", help="Where KFP keeps the runs' artifacts.")(
        function
    )
    function = click.option("--experiment", default="", help="The experiment that the runs belong to.")(function)
    return click.option("--name", default="", help="What the schedule is called.  [default: the pipeline's name]")(
        function
    )


@click.command("schedule")
@click.argument("pipeline_name", metavar="[PIPELINE]", default="")
@click.option(
    "--cron",
    default="",
    metavar="EXPR",
    help="When: six fields, seconds first ('0 30 3 * * *' is every day at 3:30), or @hourly, @daily, '@every 6h'.",
)
@server_options
@click.option("--list", "listed", is_flag=True, help="List the schedules on the server.")
@click.option("--pause", default="", metavar="ID", help="Start no more runs by this schedule for now.")
@click.option("--resume", default="", metavar="ID", help="Go on with a paused schedule.")
@click.option("--delete", default="", metavar="ID", help="Remove a schedule; its runs stay.")
@_label_options
@parameter_options
@image_option
@pod_options
def schedule_command(
    pipeline_name: str,
    host: str,
    namespace: str,
    token: str,
    listed: bool,
    pause: str,
    resume: str,
    delete: str,
    pods: Flags,
    **flags: Any,
) -> None:
    """Run a pipeline again and again on a Kubeflow Pipelines server, one run at a time.

    What was missed while the server or the schedule stood still is not made up for: the next run sees all new data.
    """
    need_kfp()
    from carryover_kfp import remote, schedule

    server = remote.Server(host=host, namespace=namespace, token=token)
    verbs = {"pause": pause, "resume": resume, "delete": delete}
    asked = [
        name
        for name, word in (
            ("PIPELINE", pipeline_name),
            ("--list", listed),
            *((f"--{name}", word) for name, word in verbs.items()),
        )
        if word
    ]
    if len(asked) != 1:
        raise WrongInput("carryover schedule: say one thing: a PIPELINE to run, --list, --pause, --resume or --delete")
    idle = [name for name, value in (flags | pods.given()).items() if value and name != "image"]
    if idle and not pipeline_name:
        names = ", ".join(
            "--" + {"overrides": "set", "params": "param"}.get(name, name).replace("_", "-") for name in idle
        )
        raise WrongInput(f"{names}: belongs to a PIPELINE that is to be scheduled, not to {asked[0]}")
    if pipeline_name:
        _add(server, pipeline_name, pods=pods, **flags)
    elif listed:
        found = schedule.schedules(server)
        for one in found:
            click.echo(f"{one.schedule_id}  {'on ' if one.enabled else 'off'}  {one.cron:<20}  {one.name}")
        if not found:
            click.echo("no schedules")
    else:
        verb = asked[0].removeprefix("--")
        getattr(schedule, verb)(server, verbs[verb])
        click.echo(f"{verbs[verb]}: {verb}d")


def _add(
    server: Any,
    pipeline_name: str,
    *,
    cron: str,
    name: str,
    image: str,
    experiment: str,
    pipeline_root: str,
    service_account: str,
    retry_by_watcher: int,
    pods: Flags,
    **flags: Any,
) -> None:
    from carryover_kfp import compiling, remote, schedule

    if not cron:
        raise WrongInput("--cron: missing; say when, e.g. '0 30 3 * * *' for every day at 3:30, or @daily")
    pipeline, account = profiled(pipeline_name, pods, image=image)
    values = complete(pipeline, image=image, pods=pods, **flags)
    labels = remote.Labels(
        experiment=experiment,
        pipeline_root=pipeline_root,
        service_account=service_account or account,
        retries_by_watcher=retry_by_watcher,
    )
    made = schedule.add(
        server,
        compiling.compiled(pipeline, image=image),
        values,
        cron=cron,
        name=name or pipeline_name,
        labels=labels,
    )
    click.echo(f"schedule: {made.schedule_id}")
    click.echo(f"page: {schedule.page_of(server, made.schedule_id)}")
