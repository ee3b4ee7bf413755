"""Owns who we are to a Kubeflow Pipelines server.

    --token, CARRYOVER_KFP_TOKEN             a text; it is used until it expires
    KF_PIPELINES_SA_TOKEN_PATH, else         a service account's token that Kubernetes puts into a pod and renews:
    /var/run/secrets/kubeflow/pipelines/token    the file is read again for each request
    ~/.config/kfp/context.json               the cookie or header that KFP's own SDK keeps there

The first that is there counts; the last is sent beside the others, as the SDK does.
"""

import json
import os
from pathlib import Path
from typing import Any

from carryover.ground.errors import WrongInput

# KFP's own names, in its SDK; a watcher runs where only its generated client is.
TOKEN_PATH_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
TOKEN_PATH = "/var/run/secrets/kubeflow/pipelines/token"
AUDIENCE = "pipelines.kubeflow.org"


def log_in(configuration: Any, token: str) -> None:
    """Put a token into a generated client's configuration: the given one, else the pod's, else none.

    Raises:
        WrongInput: when the environment names a file that can't be read.
    """
    path = token_file()
    if token:
        configuration.api_key["authorization"] = token
    elif path:

        def read_again(changed: Any) -> None:
            changed.api_key["authorization"] = _read(path)

        # The client asks for the hook's token only where it has one already.
        read_again(configuration)
        configuration.refresh_api_key_hook = read_again
    configuration.api_key_prefix["authorization"] = "Bearer"


def token_file() -> Path | None:
    """Return where a pod finds its own token, None outside of one."""
    named = os.environ.get(TOKEN_PATH_VARIABLE, "")
    if named:
        return Path(named)
    return Path(TOKEN_PATH) if Path(TOKEN_PATH).is_file() else None


def pod_credentials() -> Any:
    """Return the SDK's own form of a pod's token, None where there is none."""
    path = token_file()
    if not path:
        return None
    from kfp.client import ServiceAccountTokenVolumeCredentials

    _read(path)
    return ServiceAccountTokenVolumeCredentials(path=str(path))


def browser_login() -> dict[str, Any]:
    """Return what KFP's SDK keeps of a login by browser, as words of the generated client."""
    path = Path("~/.config/kfp/context.json").expanduser()
    if not path.is_file():
        return {}
    try:
        context = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WrongInput(f"{path}: can't be read ({error}); mend or remove it") from error
    words = {
        "cookie": "client_authentication_cookie",
        "header_name": "client_authentication_header_name",
        "header_value": "client_authentication_header_value",
    }
    return {name: context[key] for name, key in words.items() if context.get(key)}


def advice(status: int) -> str:
    """Return what to do about an answer of 401 (who are you?) or 403 (you may not)."""
    if status == 401:
        return (
            "log in: give --token (CARRYOVER_KFP_TOKEN); in a pod, mount a service account token for the audience "
            f"{AUDIENCE} at {TOKEN_PATH}, or name its file in {TOKEN_PATH_VARIABLE}"
        )
    return "this account may not do that: ask for rights on runs in that --namespace, or give another --token"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise WrongInput(f"{TOKEN_PATH_VARIABLE}: {path} can't be read: {error.strerror}") from error
