"""Owns what we ask of a Kubeflow Pipelines server: to run a compiled pipeline, and to retry a run that failed."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.ground.errors import CarryoverError, WrongInput


@dataclass(frozen=True)
class Server:
    """Where a KFP server is and who asks.

    Attributes:
        host: its address, e.g. http://localhost:8080.
        namespace: the profile in a multi-user installation, "" for a single-user one.
        token: a bearer token, "" for none.
    """

    host: str
    namespace: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        if not self.host.startswith(("http://", "https://")):
            raise WrongInput(f"--host {self.host}: must start with http:// or https://")


@dataclass(frozen=True)
class Submitted:
    """A run that the server took: its id, and the page that shows it."""

    run_id: str
    page: str


@dataclass(frozen=True)
class Labels:
    """What a run is called on the server, and where its artifacts go; "" leaves it to the server."""

    run_name: str = ""
    experiment: str = ""
    pipeline_root: str = ""
    service_account: str = ""


def submit(server: Server, pipeline_yaml: str, arguments: Mapping[str, Any], *, labels: Labels) -> Submitted:
    """Ask the server to run a compiled pipeline now; caching is off, whatever the server's default.

    Raises:
        WrongInput: when the server refuses the request or is not there.
    """
    with speaking_to(server), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(pipeline_yaml, encoding="utf-8")
        result = client(server).create_run_from_pipeline_package(
            str(path),
            arguments=dict(arguments),
            run_name=labels.run_name or None,
            experiment_name=labels.experiment or None,
            namespace=server.namespace or None,
            pipeline_root=labels.pipeline_root or None,
            service_account=labels.service_account or None,
            enable_caching=False,
        )
    return Submitted(run_id=result.run_id, page=_page(server, result.run_id))


def retry(server: Server, run_id: str) -> Submitted:
    """Ask the server to try a failed run again: same run, same steps, only those that failed.

    The KFP SDK has no word for it, its generated client has.

    Raises:
        WrongInput: when the server refuses (no such run, or nothing to retry) or is not there.
    """
    import kfp_server_api

    with speaking_to(server):
        kfp_server_api.RunServiceApi(connection(server)).run_service_retry_run(run_id)
    return Submitted(run_id=run_id, page=_page(server, run_id))


def connection(server: Server) -> Any:
    """Return the generated client's connection, with the token as KFP wants it."""
    import kfp_server_api

    configuration = kfp_server_api.Configuration(host=server.host.rstrip("/"))
    if server.token:
        configuration.api_key["authorization"] = server.token
        configuration.api_key_prefix["authorization"] = "Bearer"
    return kfp_server_api.ApiClient(configuration)


def client(server: Server) -> Any:
    """Return the SDK's client for a server that answers: the SDK itself asks five times, for half a minute."""
    import kfp
    import kfp_server_api

    kfp_server_api.HealthzServiceApi(connection(server)).healthz_service_get_healthz()
    return kfp.Client(host=server.host, namespace=server.namespace or "kubeflow", existing_token=server.token or None)


def _page(server: Server, run_id: str) -> str:
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
        raise CarryoverError(f"{server.host}: no KFP server answers there ({_line(str(error))})") from error
    finally:
        quiet.setLevel(level)


def _refused(server: Server, error: Any) -> CarryoverError:
    text = f"{server.host} answers {error.status} {error.reason}: {_line(error.body or '')}"
    if error.status in (401, 403):
        return WrongInput(f"{text}; log in, or give --token (CARRYOVER_KFP_TOKEN)")
    return WrongInput(text) if 400 <= (error.status or 0) < 500 else CarryoverError(text)


def _line(text: Any) -> str:
    words = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return " ".join(words.split())[:300]
