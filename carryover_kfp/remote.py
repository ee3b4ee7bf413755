"""Owns what we ask of a Kubeflow Pipelines server: to run a compiled pipeline, and to retry a run that failed.

A run that a watcher may retry says so in its description, where people see it too: see `mark`.
"""

import contextlib
import io
import logging
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from carryover.ground.errors import CarryoverError, WrongInput
from carryover.ground.uris import shown
from carryover_kfp import login

# What the server calls the experiment of runs that name none.
EXPERIMENT = "Default"
_MARK = "carryover watch --all retries this run: {} times at most"


@dataclass(frozen=True)
class Server:
    """Where a KFP server is and who asks.

    Attributes:
        host: its address, e.g. http://localhost:8080.
        namespace: the profile in a multi-user installation, "" for a single-user one.
        token: a bearer token; "" for a pod's own, or for none (see login.py).
    """

    host: str
    namespace: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        if not self.host.startswith(("http://", "https://")):
            raise WrongInput(
                f"--host {shown(f'//{self.host}')[2:]}: must start with http:// or https://", trouble="bad-uri"
            )
        if shown(self.host) != self.host:
            # It would stand in every line about the server, and on the page's address that people pass on.
            raise WrongInput(
                f"--host {shown(self.host)}: credentials don't belong in an address; give --token", trouble="bad-uri"
            )


@dataclass(frozen=True)
class Submitted:
    """A run that the server took: its id, and the page that shows it."""

    run_id: str
    page: str


@dataclass(frozen=True)
class Labels:
    """What a run is called on the server, and where its artifacts go; "" leaves it to the server.

    Attributes:
        retries_by_watcher: how often `carryover watch --all` may retry it; 0: never.
    """

    run_name: str = ""
    experiment: str = ""
    pipeline_root: str = ""
    service_account: str = ""
    retries_by_watcher: int = 0


def submit(server: Server, pipeline_yaml: str, arguments: Mapping[str, Any], *, labels: Labels) -> Submitted:
    """Ask the server to run a compiled pipeline now.

    The SDK's own word for it has no place for a description, so that the run is made by its generated client.

    Raises:
        WrongInput: when the server refuses the request.
        CarryoverError: when the server is not there.
    """
    import kfp_server_api

    spec = package(pipeline_yaml)
    name = spec.get("pipeline_spec", spec)["pipelineInfo"]["name"]
    with speaking_to(server):
        experiment: Any = client(server).create_experiment(
            labels.experiment or EXPERIMENT, namespace=server.namespace or None
        )
        run = kfp_server_api.V2beta1Run(
            experiment_id=experiment.experiment_id,
            display_name=labels.run_name or f"{name} {time.strftime('%Y-%m-%d %H-%M-%S')}",
            description=mark(labels.retries_by_watcher) or None,
            pipeline_spec=spec,
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(
                parameters=dict(arguments), pipeline_root=labels.pipeline_root or None
            ),
            service_account=labels.service_account or None,
        )
        made: Any = kfp_server_api.RunServiceApi(connection(server)).run_service_create_run(run)
    return Submitted(run_id=made.run_id, page=page(server, made.run_id))


def package(pipeline_yaml: str) -> dict[str, Any]:
    """Return a compiled pipeline as the API takes it: with what is said of its pods beside it, where there is any."""
    spec, *more = yaml.safe_load_all(pipeline_yaml)
    return {"pipeline_spec": spec, "platform_spec": more[0]} if more else spec


def mark(times: int) -> str:
    """Return the description of a run that a watcher may retry so many times, "" for 0."""
    return _MARK.format(times) if times else ""


def marked(description: str | None) -> int:
    """Return how often a watcher may retry a run or schedule with this description; 0 where it is not marked."""
    found = re.search(re.escape(_MARK).replace(r"\{\}", r"(\d+)"), description or "")
    return int(found[1]) if found else 0


def retry(server: Server, run_id: str) -> Submitted:
    """Ask the server to try a failed run again: same run, same steps, only those that failed.

    The KFP SDK has no word for it, its generated client has.

    Raises:
        WrongInput: when the server refuses (no such run, or nothing to retry) or is not there.
    """
    import kfp_server_api

    with speaking_to(server):
        kfp_server_api.RunServiceApi(connection(server)).run_service_retry_run(run_id)
    return Submitted(run_id=run_id, page=page(server, run_id))


def connection(server: Server) -> Any:
    """Return the generated client's connection, with the token as KFP wants it."""
    import kfp_server_api

    configuration = kfp_server_api.Configuration(host=server.host.rstrip("/"))
    login.log_in(configuration, server.token)
    return kfp_server_api.ApiClient(configuration, **login.browser_login())


def client(server: Server) -> Any:
    """Return the SDK's client for a server that answers: the SDK itself asks five times, for half a minute."""
    import kfp
    import kfp_server_api

    kfp_server_api.HealthzServiceApi(connection(server)).healthz_service_get_healthz()
    return kfp.Client(
        host=server.host,
        namespace=server.namespace or "kubeflow",
        existing_token=server.token or None,
        credentials=login.pod_credentials(),
    )


def page(server: Server, run_id: str) -> str:
    """Return the address of the page that shows a run."""
    return f"{server.host.rstrip('/')}/#/runs/details/{run_id}"


@contextlib.contextmanager
def speaking_to(server: Server) -> Iterator[None]:
    """Keep the SDK's own prints and warnings away, and turn its errors into one line that says what to do."""
    import kfp_server_api
    import urllib3

    quiet = logging.getLogger("urllib3")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except kfp_server_api.ApiException as error:
        raise _refused(server, error) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        why = _line(str(getattr(error, "reason", None) or error)).rpartition("): ")[2]
        raise CarryoverError(
            f"{server.host}: no KFP server answers there ({why}); is the address right, and the port-forward running?",
            trouble="kfp-unreachable",
        ) from error
    finally:
        quiet.setLevel(level)


def _refused(server: Server, error: Any) -> CarryoverError:
    text = f"{server.host} answers {error.status} {error.reason}: {_line(error.body or '')}"
    if error.status in (401, 403):
        return WrongInput(f"{text}; {login.advice(error.status)}")
    if 400 <= (error.status or 0) < 500:
        return WrongInput(text)
    return CarryoverError(text, trouble="kfp-refused")


def _line(text: Any) -> str:
    words = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return " ".join(words.split())[:300]
