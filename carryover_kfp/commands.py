"""Owns the people's verbs run, compile, submit and retry; schedule and watch have files of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from carryover.cli.options import store_option
from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.steps.results import resolve_store
from carryover_kfp.pod_options import LOCAL, Flags, container_size, effective, local_options, pod_options
from carryover_kfp.watch_options import MOST_RETRIES, pace_of, watch_options

LOCAL_ROOT = ".carryover-pipelines"


def parameter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what names a pipeline's parameters: --param, --recipe, --set, --store."""
    function = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set one key of the recipe, e.g. optimization.max_epochs=3. May be given again.",
    )(function)
    function = click.option("--recipe", default="", metavar="FILE", help="The recipe: a YAML file.")(function)
    function = click.option(
        "--param",
        "params",
        multiple=True,
        metavar="NAME=VALUE",
        help="A parameter of the pipeline. Again for the next one, and for each further item of a list.",
    )(function)
    return store_option(function)


def image_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --image."""
    return click.option(
        "--image",
        default="",
        envvar="CARRYOVER_IMAGE",
        metavar="REF",
        help="The image of all steps, instead of the released one.",
    )(function)


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --host, --namespace and --token."""
    function = click.option("--token", default="", envvar="CARRYOVER_KFP_TOKEN", help="A bearer token for the server.")(
        function
    )
    function = click.option("--namespace", default="", help="The profile, on a multi-user installation.")(function)
    return click.option(
        "--host", required=True, envvar="KF_PIPELINES_ENDPOINT", metavar="URL", help="The address of the KFP server."
    )(function)


def service_account_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --service-account."""
    return click.option(
        "--service-account",
        default="",
        metavar="NAME",
        help="The Kubernetes service account of all pods.  [default: the profile's]",
    )(function)


def watcher_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --retry-by-watcher."""
    return click.option(
        "--retry-by-watcher",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Let `carryover watch --all`, where it runs, retry a failed run up to N times.",
    )(function)


def arguments(pipeline: Any, *, params: tuple[str, ...], recipe: str, overrides: tuple[str, ...], store: str) -> Any:
    """Return typed arguments from all flags that name one."""
    from carryover_kfp import catalog

    values = catalog.arguments(pipeline, params)
    named = {"recipe": catalog.read_recipe(recipe) if recipe else "", "set": list(overrides), "store": store}
    for name, value in named.items():
        if value:
            catalog.check_parameter(pipeline, name)
            if name in values:
                raise WrongInput(f"--{name} and --param {name}=... say the same thing; give one of them")
            values[name] = value
    return values


@click.command("run")
@click.argument("pipeline_name", metavar="PIPELINE")
@parameter_options
@click.option("--runner", type=click.Choice(["subprocess", "docker"]), default="subprocess", show_default=True)
@click.option(
    "--pipeline-root",
    default=LOCAL_ROOT,
    show_default=True,
    metavar="DIR",
    help="Where the artifacts of local runs go, a folder a run. What lasts is in the store.",
)
@image_option
@local_options
def run_command(pipeline_name: str, runner: str, pipeline_root: str, image: str, pods: Flags, **flags: Any) -> None:
    """Run a pipeline here and now, without a cluster.

    The same pipeline that `carryover compile` writes, through kfp.local. Each step is a process of its own (or a
    container); a step that is killed is tried again and goes on from its last commit.
    """
    need_kfp()
    from carryover_kfp import catalog, compiling, local, pages

    pipeline = catalog.load_pipeline(pipeline_name)
    size = container_size(pods, runner)
    values = arguments(pipeline, **flags)
    check_said_once(values, pods)
    values |= {name: value for name, value in pods.given().items() if name in LOCAL}
    values = _absolute(values) | {"store": _local_store(str(values.get("store", "")))}
    values = compiling.complete_job(pipeline, values, image=image)
    catalog.check_complete(pipeline, values)
    finished = local.run_here(pipeline, values, root=Path(pipeline_root), runner=runner, image=image, size=size)
    click.echo(f"\npipeline '{pipeline_name}' is done")
    for name, value in sorted(finished.outputs.items()):
        click.echo(f"  {name}: {value}")
    click.echo(f"  artifacts: {finished.folder}")
    for step, place in pages.reports_of(finished.folder).items():
        click.echo(f"  report of {step}: {place}")


def _absolute(values: dict[str, Any]) -> dict[str, Any]:
    """Make the local paths among the parameters absolute: a container works in another folder."""

    def here(text: str) -> str:
        # "s3://..." and "run:KEY" are no paths.
        return text if not text or ":" in text else storage.normal(text)

    found = dict(values)
    for name, value in values.items():
        if name.endswith(("source", "_uri")):
            found[name] = [here(item) for item in value] if isinstance(value, list) else here(value)
    return found


def _local_store(given: str) -> str:
    store = storage.normal(resolve_store(given))
    if given and storage.scheme_of(store) == "memory":
        raise WrongInput(
            f"--store {given}: steps are processes of their own and can't share memory; give a path",
            trouble="local-place",
        )
    return store


@click.command("compile")
@click.argument("pipeline_name", metavar="PIPELINE")
@click.option("-o", "--output", default="", metavar="FILE", help="Where to write.  [default: PIPELINE.yaml]")
@image_option
@pod_options
def compile_command(pipeline_name: str, output: str, image: str, pods: Flags) -> None:
    """Write a pipeline as the YAML that Kubeflow Pipelines runs.

    Flags about the launcher become defaults of the pipeline's parameters, which the form of Kubeflow's page then shows.
    """
    need_kfp()
    from carryover_kfp import compiling

    path = Path(output or f"{pipeline_name}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise WrongInput(f"-o {output}: KFP reads a pipeline from a file that ends in .yaml", trouble="path-refused")
    pipeline, account = profiled(pipeline_name, pods, image=image)
    compiling.write_compiled(pipeline, path, image=image)
    say(f"wrote {path}")
    if account:
        say(f"the profile's service account '{account}' has no place in it: say it with each run of it")


@click.command("submit")
@click.argument("pipeline_name", metavar="PIPELINE")
@server_options
@parameter_options
@image_option
@click.option("--experiment", default="", help="The experiment that the run belongs to.")
@click.option("--run-name", default="", help="What the run is called.")
@click.option("--pipeline-root", default="", metavar="URI", help="Where KFP keeps this run's artifacts.")
@service_account_option
@watcher_option
@click.option("--watch", is_flag=True, help="Follow the run and retry it when it fails, as `carryover watch` does.")
@watch_options
@pod_options
def submit_command(
    pipeline_name: str,
    host: str,
    namespace: str,
    token: str,
    image: str,
    experiment: str,
    run_name: str,
    pipeline_root: str,
    service_account: str,
    retry_by_watcher: int,
    watch: bool,
    most_retries: int | None,
    every: float | None,
    pause: float | None,
    pods: Flags,
    **flags: Any,
) -> None:
    """Run a pipeline on a Kubeflow Pipelines server."""
    need_kfp()
    from carryover_kfp import compiling, remote, watch_command

    for flag, value in (("--most-retries", most_retries), ("--every", every), ("--pause", pause)):
        if value is not None and not watch:
            raise WrongInput(f"{flag}: belongs to --watch")
    pace = pace_of(every, pause)
    pipeline, account = profiled(pipeline_name, pods, image=image)
    values = complete(pipeline, image=image, pods=pods, **flags)
    labels = remote.Labels(
        run_name=run_name,
        experiment=experiment,
        pipeline_root=pipeline_root,
        service_account=service_account or account,
        retries_by_watcher=retry_by_watcher,
    )
    server = remote.Server(host=host, namespace=namespace, token=token)
    submitted = remote.submit(server, compiling.compiled(pipeline, image=image), values, labels=labels)
    click.echo(f"run: {submitted.run_id}")
    click.echo(f"page: {submitted.page}")
    if watch:
        most = MOST_RETRIES if most_retries is None else most_retries
        watch_command.follow(server, submitted.run_id, most=most, pace=pace)


def profiled(pipeline_name: str, pods: Flags, *, image: str) -> tuple[Any, str]:
    """Return the pipeline as profile and flags want it, and the service account that its runs should have."""
    from carryover_kfp import catalog, compiling

    pipeline = catalog.load_pipeline(pipeline_name)
    profile = effective(pods)
    if not profile:
        return pipeline, ""
    return compiling.under(pipeline, profile, image=image), profile.service_account


def complete(pipeline: Any, *, image: str, pods: Flags, **flags: Any) -> dict[str, Any]:
    """Return all arguments of a run on a cluster, checked as far as they can be here."""
    from carryover_kfp import catalog, compiling

    values = arguments(pipeline, **flags)
    check_said_once(values, pods)
    catalog.check_complete(pipeline, values)
    check_shared(values["store"])
    return compiling.complete_job(pipeline, values, image=image)


def check_said_once(values: dict[str, Any], pods: Flags) -> None:
    """Raise WrongInput where a flag and --param say the same thing."""
    for name in set(LOCAL) & set(pods.given()) & set(values):
        raise WrongInput(f"--{name.replace('_', '-')} and --param {name}=... say the same thing; give one of them")


def check_shared(store: str) -> None:
    """Raise WrongInput for a store that the pods of a cluster can't reach."""
    if storage.scheme_of(store) in ("file", "memory"):
        raise WrongInput(
            f"--store {store}: a path of this machine means nothing to a pod; give s3://... ", trouble="local-place"
        )


@click.command("retry")
@click.argument("run_id")
@server_options
def retry_command(run_id: str, host: str, namespace: str, token: str) -> None:
    """Try a failed run on a Kubeflow Pipelines server again; its training step goes on from its last commit."""
    need_kfp()
    from carryover_kfp import remote

    submitted = remote.retry(remote.Server(host=host, namespace=namespace, token=token), run_id)
    click.echo(f"run: {submitted.run_id}")
    click.echo(f"page: {submitted.page}")


def need_kfp() -> None:
    """Raise WrongInput where Kubeflow Pipelines' SDK is not installed."""
    need_package("kfp")


def need_package(name: str) -> None:
    """Raise WrongInput where a package of Kubeflow Pipelines is not installed."""
    import importlib.util

    if importlib.util.find_spec(name) is None:
        raise WrongInput(
            "this command needs Kubeflow Pipelines' SDK: pip install 'carryover[kfp]'", trouble="missing-package"
        )
