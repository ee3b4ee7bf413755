"""Owns the schedules on a Kubeflow Pipelines server (its recurring runs): one run at a time, and nothing made up for.

A run that is due while the one before it still works waits for it; those that were missed are not run one by one
afterwards: the next one sees all data that there is.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.ground.errors import WrongInput
from carryover_kfp.cron import check_cron
from carryover_kfp.remote import EXPERIMENT, Labels, Server, client, connection, mark, speaking_to

_PAGE = 100


@dataclass(frozen=True)
class Schedule:
    """A schedule on the server: its id and name, when it starts a run, and whether it does so now."""

    schedule_id: str
    name: str
    cron: str
    enabled: bool


def add(
    server: Server, pipeline_yaml: str, arguments: Mapping[str, Any], *, cron: str, name: str, labels: Labels
) -> Schedule:
    """Have the server run a compiled pipeline at the times of a cron expression; caching is off.

    Raises:
        WrongInput: for an expression that is none, for a name that is scheduled already (two schedules would run beside
            each other), and when the server refuses the request.
        CarryoverError: when the server is not there.
    """
    expression = check_cron(cron)
    if known := [one for one in schedules(server) if one.name == name]:
        raise WrongInput(
            f"--name {name}: {server.host} has a schedule of that name, {known[0].schedule_id} ({known[0].cron}); "
            f"give another name, or remove that one first: carryover schedule --delete {known[0].schedule_id}"
        )
    with speaking_to(server), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(pipeline_yaml, encoding="utf-8")
        kfp = client(server)
        experiment = kfp.create_experiment(labels.experiment or EXPERIMENT, namespace=server.namespace or None)
        made = kfp.create_recurring_run(
            experiment_id=experiment.experiment_id,
            job_name=name,
            description=mark(labels.retries_by_watcher) or None,
            cron_expression=expression,
            max_concurrency=1,
            no_catchup=True,
            params=dict(arguments),
            pipeline_package_path=str(path),
            pipeline_root=labels.pipeline_root or None,
            service_account=labels.service_account or None,
            enable_caching=False,
        )
    return Schedule(made.recurring_run_id, name, expression, enabled=True)


def schedules(server: Server) -> list[Schedule]:
    """Return the schedules on the server, those of the namespace where it has any."""
    with speaking_to(server):
        api, found, token = _api(server), [], ""
        while True:
            page = api.recurring_run_service_list_recurring_runs(
                page_size=_PAGE, page_token=token, namespace=server.namespace or ""
            )
            found += [_schedule(one) for one in page.recurring_runs or []]
            token = page.next_page_token or ""
            if not token:
                return found


def pause(server: Server, schedule_id: str) -> None:
    """Start no more runs by this schedule, until it is resumed; a run that works goes on."""
    with speaking_to(server):
        _api(server).recurring_run_service_disable_recurring_run(schedule_id)


def resume(server: Server, schedule_id: str) -> None:
    """Go on with a schedule that was paused."""
    with speaking_to(server):
        _api(server).recurring_run_service_enable_recurring_run(schedule_id)


def delete(server: Server, schedule_id: str) -> None:
    """Remove a schedule; its runs stay."""
    with speaking_to(server):
        _api(server).recurring_run_service_delete_recurring_run(schedule_id)


def page_of(server: Server, schedule_id: str) -> str:
    """Return the address of the page that shows a schedule."""
    return f"{server.host.rstrip('/')}/#/recurringrun/details/{schedule_id}"


def _api(server: Server) -> Any:
    import kfp_server_api

    return kfp_server_api.RecurringRunServiceApi(connection(server))


def _schedule(found: Any) -> Schedule:
    trigger = found.trigger
    cron, periodic = (trigger.cron_schedule, trigger.periodic_schedule) if trigger else (None, None)
    when = cron.cron if cron else f"every {periodic.interval_second} s" if periodic else ""
    return Schedule(found.recurring_run_id, found.display_name or "", when, enabled=found.status == "ENABLED")
