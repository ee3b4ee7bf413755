"""Owns the people's verbs of the command line: run, compile, submit, retry; see schedule_command.py for schedule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from carryover.cli.options import store_option
from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.steps.results import resolve_store

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
def run_command(pipeline_name: str, runner: str, pipeline_root: str, image: str, **flags: Any) -> None:
    """Run a pipeline here and now, without a cluster.

    The same pipeline that `carryover compile` writes, through kfp.local. Each step is a process of its own (or a
    container); a step that is killed is tried again and goes on from its last commit.
    """
    need_kfp()
    from carryover_kfp import catalog, local

    pipeline = catalog.load_pipeline(pipeline_name)
    values = arguments(pipeline, **flags)
    values = _absolute(values) | {"store": _local_store(str(values.get("store", "")))}
    catalog.check_complete(pipeline, values)
    finished = local.run_here(pipeline, values, root=Path(pipeline_root), runner=runner, image=image)
    click.echo(f"\npipeline '{pipeline_name}' is done")
    for name, value in sorted(finished.outputs.items()):
        click.echo(f"  {name}: {value}")
    click.echo(f"  artifacts: {finished.folder}")


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
        raise WrongInput(f"--store {given}: steps are processes of their own and can't share memory; give a path")
    return store


@click.command("compile")
@click.argument("pipeline_name", metavar="PIPELINE")
@click.option("-o", "--output", default="", metavar="FILE", help="Where to write.  [default: PIPELINE.yaml]")
@image_option
def compile_command(pipeline_name: str, output: str, image: str) -> None:
    """Write a pipeline as the YAML that Kubeflow Pipelines runs."""
    need_kfp()
    from carryover_kfp import catalog, compiling

    path = Path(output or f"{pipeline_name}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise WrongInput(f"-o {output}: KFP reads a pipeline from a file that ends in .yaml")
    compiling.write_compiled(catalog.load_pipeline(pipeline_name), path, image=image)
    say(f"wrote {path}")


@click.command("submit")
@click.argument("pipeline_name", metavar="PIPELINE")
@server_options
@parameter_options
@image_option
@click.option("--experiment", default="", help="The experiment that the run belongs to.")
@click.option("--run-name", default="", help="What the run is called.")
@click.option("--pipeline-root", default="", metavar="URI", help="Where KFP keeps this run's artifacts.")
@click.option("--service-account", default="", help="The Kubernetes service account of the run's pods.")
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
    **flags: Any,
) -> None:
    """Run a pipeline on a Kubeflow Pipelines server."""
    need_kfp()
    from carryover_kfp import catalog, compiling, remote

    pipeline = catalog.load_pipeline(pipeline_name)
    values = arguments(pipeline, **flags)
    catalog.check_complete(pipeline, values)
    check_shared(values["store"])
    labels = remote.Labels(
        run_name=run_name, experiment=experiment, pipeline_root=pipeline_root, service_account=service_account
    )
    server = remote.Server(host=host, namespace=namespace, token=token)
    submitted = remote.submit(server, compiling.compiled(pipeline, image=image), values, labels=labels)
    click.echo(f"run: {submitted.run_id}")
    click.echo(f"page: {submitted.page}")


def check_shared(store: str) -> None:
    """Raise WrongInput for a store that the pods of a cluster can't reach."""
    if storage.scheme_of(store) in ("file", "memory"):
        raise WrongInput(f"--store {store}: a path of this machine means nothing to a pod; give s3://... ")


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
    import importlib.util

    if importlib.util.find_spec("kfp") is None:
        raise WrongInput("this command needs Kubeflow Pipelines' SDK: pip install 'carryover[kfp]'")
